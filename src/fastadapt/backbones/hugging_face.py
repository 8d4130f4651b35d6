"""A backbone in a local folder of Hugging Face: the network of `transformers`, and what it sees by its own settings."""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fastadapt.atomic import sha256
from fastadapt.backbones.sight import Sight
from fastadapt.data.files import read_file, shown
from fastadapt.errors import ConfigError, DataError, MissingExtraError

Taken = Literal["cls", "mean", "map", "pooler", "image"]
TAKEN: dict[Taken, tuple[str, ...]] = {
    "cls": (
        "beit", "data2vec-vision", "deit", "dinov2", "dinov2_with_registers", "dinov3_vit", "ijepa", "vit", "vit_msn",
    ),
    "mean": ("swin", "swinv2"),
    "map": (
        "bit", "convnext", "convnextv2", "dinov3_convnext", "efficientnet", "mobilenet_v1", "mobilenet_v2", "regnet",
        "resnet",
    ),
    "image": ("align", "altclip", "chinese_clip", "clip", "siglip", "siglip2"),
    "pooler": ("clip_vision_model", "siglip_vision_model"),
}  # fmt: skip
"""What is taken as the features, by the type of the model: the first token of the last layer, the mean of its tokens,
the mean over its map, what the model pools, or its embedding of an image."""
FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by the numbers that Pillow gives them
_KNOWN = {
    *("do_resize", "size", "resample", "do_center_crop", "crop_size", "crop_pct", "do_rescale", "rescale_factor"),
    *("do_normalize", "image_mean", "image_std", "do_convert_rgb"),
}
_MOST_BYTES = 1 << 20


class HuggingFaceBackbone(nn.Module):
    """Answer with the features of a network of `transformers`.

    Args:
        net: the network.
        taken: what is taken of its output, see `TAKEN`.
    """

    def __init__(self, net: nn.Module, taken: Taken) -> None:
        super().__init__()
        self.net = net
        self.taken: Taken = taken

    def forward(self, x: Tensor) -> Tensor:
        """Return the features `[n, d]` of pictures `[n, C, H, W]`.

        Raises:
            ConfigError: if the network does not give what is to be taken.
        """
        if self.taken == "image":
            found = self.net.get_image_features(pixel_values=x)  # type: ignore[operator]
            return found if isinstance(found, Tensor) else found.pooler_output
        output = self.net(pixel_values=x)
        if self.taken == "pooler":
            hidden = getattr(output, "pooler_output", None)
            return hidden.flatten(1) if hidden is not None else self._lack("pooler_output")
        hidden = output.last_hidden_state
        if hidden.dim() != (4 if self.taken == "map" else 3):
            return self._lack(f"{'maps' if self.taken == 'map' else 'tokens'}, but {list(hidden.shape)}")
        if self.taken == "cls":
            return hidden[:, 0]
        return hidden.mean(1) if self.taken == "mean" else hidden.mean((2, 3))

    def _lack(self, what: str) -> Tensor:
        raise ConfigError(
            f"--take {self.taken}: {type(self.net).__name__} gives no {what}; take another of {', '.join(TAKEN)}"
        )


def hugging_face(folder: Path, taken: Taken | None = None) -> tuple[nn.Module, Sight, str]:
    """Return the network of a folder, what it sees, and words that tell it apart.

    Args:
        folder: holds config.json, weights in safetensors, and preprocessor_config.json.
        taken: what is taken of the output; None goes by the type of the model.

    Raises:
        MissingExtraError: if transformers is not installed.
        DataError: if a file is missing or damaged, or weights are.
        ConfigError: for a type of model or a setting of its pictures that is not known here.
    """
    if not (folder / "config.json").is_file():
        raise ConfigError(
            f"{shown(folder)} is no folder of Hugging Face: it has no config.json; give one that save_pretrained wrote"
        )
    config = _json(folder / "config.json")
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise DataError(
            f"{shown(folder)} has no weights in safetensors, and others are not read, as they may run code; write them "
            "with save_pretrained(folder, safe_serialization=True)"
        )
    kind = str(config.get("model_type"))
    known: list[Taken] = [name for name, kinds in TAKEN.items() if kind in kinds]
    chosen = taken or (known[0] if known else None)
    if chosen is None:
        raise ConfigError(
            f"{shown(folder)} holds a model of type {kind!r}, of which it is not known here what its features are; say "
            f"it with --take {', '.join(TAKEN)}"
        )
    sight = _sight(folder, config)
    net = HuggingFaceBackbone(_loaded(folder, chosen), chosen)
    told = hashlib.sha256("".join(map(sha256, files)).encode() + (folder / "config.json").read_bytes())
    told.update(json.dumps(sight.to_plain()).encode())
    return net, sight, f"{kind} {told.hexdigest()[:12]}, {chosen}, {sight.height}x{sight.width}"


def _loaded(folder: Path, taken: Taken) -> nn.Module:
    try:
        from transformers import AutoModel  # type: ignore[import-not-found]
    except ImportError as error:
        raise MissingExtraError(
            "a folder of Hugging Face needs transformers: pip install 'fastadapt[huggingface]'"
        ) from error
    try:
        with _quiet():
            net, told = AutoModel.from_pretrained(
                str(folder), local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
            )
    except Exception as error:  # whatever a folder may lack
        first = (str(error).splitlines() or [""])[0]
        raise DataError(f"can't load {shown(folder)} with transformers: {type(error).__name__}: {first}") from error
    # a pooler is often left out of the weights, and would be random
    absent = [key for key in told["missing_keys"] if taken == "pooler" or "pooler" not in key]
    if absent or told["mismatched_keys"]:
        named = str((absent or [key for key, *_ in told["mismatched_keys"]])[0])
        raise DataError(
            f"the weights in {shown(folder)} lack {len(absent) or 'some'} tensors of the network, such as "
            f"{named}, which "
            "would be random; give the whole model" + (", or --take another output" if taken == "pooler" else "")
        )
    return net


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what transformers says of itself to errors, and its bars away: of a missing tensor it is said here."""
    from transformers.utils import logging as own  # type: ignore[import-not-found]

    logger = logging.getLogger("transformers")
    before, bar = logger.level, own.is_progress_bar_enabled()
    logger.setLevel(logging.ERROR)
    own.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(before)
        if bar:
            own.enable_progress_bar()


def _sight(folder: Path, config: Mapping[str, Any]) -> Sight:
    """Return what the processor of the folder makes of a picture."""
    path = folder / "preprocessor_config.json"
    facts = _json(path) if path.is_file() else {}
    whole = folder / "processor_config.json"
    if not facts and whole.is_file():
        path, facts = whole, _json(whole).get("image_processor") or {}
    if not facts:
        raise DataError(
            f"{shown(folder)} has no preprocessor_config.json, which says what the model sees of a picture; "
            "copy it from "
            "where the model comes from"
        )
    strange = [name for name, value in facts.items() if name.startswith("do_") and value and name not in _KNOWN]
    if strange:
        raise ConfigError(
            f"{shown(path)} asks for {', '.join(strange)}, which is not done here; compute the embeddings yourself"
        )
    own = str(facts.get("image_processor_type") or facts.get("feature_extractor_type") or "")
    own = own.removesuffix("Fast").removesuffix("ImageProcessor").removesuffix("FeatureExtractor")
    try:
        return _of_processor(facts, own, config)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"{shown(path)} leaves open what the model sees of a picture ({type(error).__name__}: {error}); complete it"
        ) from error


def _of_processor(facts: Mapping[str, Any], own: str, config: Mapping[str, Any]) -> Sight:
    channels = config.get("num_channels", (config.get("vision_config") or {}).get("num_channels", 3))
    resample = facts.get("resample", 2 if own == "ViT" else None)
    if resample is None:
        raise ValueError("it names no resample")
    if not facts.get("do_resize", True):
        raise ValueError("do_resize is false, and pictures of one size are needed")
    resize = _resize(facts["size"], squeeze=own in ("ViT", "DeiT", "Beit"))
    crop = _resize(facts["crop_size"], squeeze=True) if facts.get("do_center_crop") else None
    if facts.get("crop_pct") is not None:  # as ConvNext has it
        edge = resize if isinstance(resize, int) else resize[0]
        resize, crop = (int(edge / facts["crop_pct"]), (edge, edge)) if edge < 384 else ((edge, edge), None)
    if crop is None and isinstance(resize, int):
        raise ValueError("the shorter side alone is given, and nothing is cropped: pictures would differ in size")
    height, width = crop if isinstance(crop, tuple) else resize  # type: ignore[misc]
    normal = facts.get("do_normalize", True)
    return Sight(
        height,
        width,
        resize,
        resample=FILTERS[int(resample)],  # type: ignore[arg-type]
        factor=float(facts.get("rescale_factor", 1 / 255)) if facts.get("do_rescale", True) else 1.0,
        mean=tuple(map(float, facts["image_mean"])) if normal else (0.0,),
        std=tuple(map(float, facts["image_std"])) if normal else (1.0,),
        channels=int(channels),
    )


def _resize(size: Any, *, squeeze: bool) -> int | tuple[int, int]:
    if isinstance(size, Mapping):
        if size.get("shortest_edge") and size.get("longest_edge") is None:
            return int(size["shortest_edge"])
        return int(size["height"]), int(size["width"])
    if isinstance(size, list):
        return int(size[0]), int(size[1])
    return (int(size), int(size)) if squeeze else int(size)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_file(path, limit=_MOST_BYTES, kind="settings"))
    except ValueError as error:
        raise DataError(f"{shown(path)} is damaged: {error}; copy it again") from error
    if not isinstance(found, dict):
        raise DataError(f"{shown(path)} holds no settings; copy it again")
    return found
