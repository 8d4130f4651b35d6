"""Predictors on disk: a folder of weights and a description, read without training code and without pickle.

    adapted/
      weights.safetensors    parameters, buffers, and what batch norm needs of the support set
      predictor.json         the norm mode, labels, preprocessing, architecture, and the SHA-256 of the weights

`predictor.json` is the last to be written and names the weights that belong to it. A replacement gets a
file name of its own, so at every moment the folder holds one complete predictor.
"""

import copy
import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from fastadapt.atomic import explain, sync, write_folder, write_text
from fastadapt.errors import CheckpointError, ConfigError
from fastadapt.layers.norm import check_norm
from fastadapt.methods.described import build_model
from fastadapt.nets.lora import factored
from fastadapt.nets.settings import NETS
from fastadapt.predictor import Predictor
from fastadapt.rl import settings as _policies  # noqa: F401 - their networks are known by name from here on
from fastadapt.selection import Selection, select
from fastadapt.version import __version__

FORMAT = "fastadapt-predictor"
MOMENTS = ("running_mean", "running_var", "num_batches_tracked")
VERSION = 1
DESCRIPTION = "predictor.json"
WEIGHTS = "weights.safetensors"
_WEIGHTS_NAME = re.compile(r"weights(-[0-9a-f]{12})?\.safetensors")
_LONGEST_DESCRIPTION = 1 << 20  # bytes
_MEND = "adapt again, or restore it"


def check_target(folder: str | Path, *, overwrite: bool = False) -> Path:
    """Return where a predictor may be written.

    Args:
        folder: the wanted place: new, an empty folder, or with `overwrite` any folder.
        overwrite: replace the predictor that is there. Other files there are left alone.

    Raises:
        CheckpointError: if it is a file, or a folder that isn't empty and `overwrite` is false.
    """
    target = Path(folder)
    try:
        target = target.expanduser().resolve()
        blocked = target.exists() and not target.is_dir()
        inside = sorted(path.name for path in target.iterdir()) if target.is_dir() else []
    except (OSError, RuntimeError, ValueError) as error:
        problem = (error.strerror if isinstance(error, OSError) else None) or error
        raise CheckpointError(f"can't write a predictor to {folder}: {problem}; name another folder") from error
    if blocked:
        raise CheckpointError(f"can't write a predictor to {target}: it is a file; name a folder")
    if inside and not overwrite:
        found = "a predictor" if DESCRIPTION in inside else f"other files ({', '.join(inside[:3])})"
        raise CheckpointError(f"{target} already holds {found}; name another folder, or allow it with --overwrite")
    return target


def save_predictor(
    predictor: Predictor, folder: str | Path, *, overwrite: bool = False, only: Selection | None = None
) -> Path:
    """Write a predictor, all of it or nothing.

    To be loaded without the code that made it, its architecture has to be one of `fastadapt.nets`, given as
    `predictor.details["net"] = {"name": "MLP", "arguments": {"inputs": 1, "hidden": [40, 40], "outputs": 1}}`.

    Args:
        predictor: the adapted model.
        folder: a new or empty folder.
        overwrite: replace the predictor in `folder`; the old one stays until the new one is complete.
        only: which parameters are written, see `fastadapt.select`; the others are left to whoever loads it, who has to
            pass a model with the very same ones. None writes all, but of a model in which the factors of
            `fastadapt.nets.with_lora` alone are not frozen, these alone.

    Returns:
        The absolute path of the folder.

    Raises:
        CheckpointError: if the folder can't be used or written, if `details` are no JSON values, or if
            `details["net"]` does not describe the model.
        SelectionError: if `only` selects nothing.

    Example:
        >>> import tempfile
        >>> from fastadapt import MLP
        >>> net = MLP(1, (4,), 1)
        >>> described = {"name": "MLP", "arguments": {"inputs": 1, "hidden": [4], "outputs": 1}}
        >>> predictor = Predictor(net, details={"net": described})
        >>> with tempfile.TemporaryDirectory() as place:
        ...     again = load_predictor(save_predictor(predictor, place))
        >>> torch.equal(again(torch.ones(2, 1)), predictor(torch.ones(2, 1)))
        True
    """
    target = check_target(folder, overwrite=overwrite)
    if only is None and _only_factors_moved(predictor.model):
        only = "lora"
    written, base = (None, None) if only in (None, "all") else _apart(predictor, select(predictor.model, only))
    tensors = {name: value.detach().to("cpu").contiguous().clone() for name, value in _tensors(predictor).items()}
    tensors = {name: value for name, value in tensors.items() if written is None or name in written}
    net = predictor.details.get("net")
    if net is not None and base is None:
        _check_fit(_blank(net), tensors, f"details['net'] of this predictor, {net!r},")
    try:
        weights = save_tensors(tensors)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"can't write {target}: safetensors does not take these weights ({error})") from error
    digest = hashlib.sha256(weights).hexdigest()
    name = f"weights-{digest[:12]}.safetensors" if (target / WEIGHTS).exists() else WEIGHTS
    text = _describe(predictor, {"file": name, "bytes": len(weights), "sha256": digest}, base)
    if target.is_dir() and any(target.iterdir()):
        _replace(target, name, weights, text)
    else:

        def fill(temporary: Path) -> None:
            (temporary / name).write_bytes(weights)
            (temporary / DESCRIPTION).write_text(text, encoding="utf-8")

        write_folder(target, fill)
    return target


def _tensors(predictor: Predictor) -> dict[str, Tensor]:
    """Return what there is to save. A tensor that the model uses twice (tied weights) comes once."""
    return {**dict(predictor.named_parameters()), **dict(predictor.named_buffers())}


def _only_factors_moved(model: nn.Module) -> bool:
    """Whether nothing of a model but its low-rank factors can have been adapted: what is frozen never is."""
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    return bool(factored(model)) and bool(trained) and trained == set(select(model, "lora"))


def _apart(predictor: Predictor, names: tuple[str, ...]) -> tuple[set[str], str]:
    """Return the names of what is written of a predictor, and what tells the rest of its model from another's.

    Running moments are written too: adaptation moves them in layers whose weights it leaves alone.
    """
    parts = {*names, *(name for name, _ in predictor.model.named_buffers() if name.split(".")[-1] in MOMENTS)}
    beside = {name for name in _tensors(predictor) if not name.startswith("model.")}
    return {f"model.{name}" for name in parts} | beside, _digest(predictor.model, parts)


def _digest(model: nn.Module, without: set[str]) -> str:
    """Return the SHA-256 of the tensors of a model that are not named."""
    digest = hashlib.sha256()
    for name, value in sorted({**dict(model.named_parameters()), **dict(model.named_buffers())}.items()):
        if name not in without:
            plain = value.detach().cpu().contiguous()
            digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
            digest.update(plain.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _describe(predictor: Predictor, weights: Mapping[str, Any], base: str | None) -> str:
    content = {
        "format": FORMAT,
        "version": VERSION,
        "fastadapt": __version__,
        "torch": torch.__version__,
        "model": type(predictor.model).__name__,
        "norm": predictor.norm,
        "calls": predictor.calls,
        "details": predictor.details,
        "weights": dict(weights),
        **({} if base is None else {"base": base}),
    }
    try:
        return json.dumps({**content, "checksum": _checksum(content)}, indent=1, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"can't write a predictor: its details are not all JSON values ({error})") from error


def _checksum(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a description without its checksum, so that a flipped bit in a label is noticed too."""
    rest = {key: value for key, value in content.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _replace(target: Path, name: str, weights: bytes, text: str) -> None:
    """Put a predictor into a folder that is in use; the rename of the description is the moment it changes."""
    draft = target / f".{name}.tmp"
    try:
        draft.write_bytes(weights)
        sync(draft)
        draft.replace(target / name)
        sync(target)
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise explain(error, target) from error
    write_text(target / DESCRIPTION, text)
    for path in target.iterdir():
        # The weights before, and what a killed process left.
        if _WEIGHTS_NAME.fullmatch(path.name.removeprefix(".").removesuffix(".tmp")) and path.name != name:
            with suppress(OSError):
                path.unlink()


def load_predictor(folder: str | Path, model: nn.Module | None = None) -> Predictor:
    """Read a predictor: an ordinary module, on the CPU and in evaluation mode.

    Args:
        folder: what `save_predictor` or `fastadapt adapt` wrote.
        model: a module of the right architecture, which is copied; None builds the network of `fastadapt.nets`
            that the predictor names.

    Raises:
        CheckpointError: if the folder is missing, incomplete, damaged, of another version, or does not fit `model`.
    """
    folder = Path(folder)
    description = _read_description(folder)
    tensors = _read_weights(folder, description)
    try:
        norm, calls = description["norm"], int(description["calls"])
        details, trained = dict(description["details"]), str(description["model"])
        check_norm(norm)
        moments = [(tensors.pop(f"support_mean_{i}"), tensors.pop(f"support_var_{i}")) for i in range(calls)]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / DESCRIPTION} is not a description of a predictor ({error})") from error
    beside = tensors.pop("beside", None)
    base = description.get("base")
    if base is not None:
        model = _completed(folder, model, tensors, base, trained)
        return Predictor(model, norm, moments, beside, details).eval()
    if model is None:
        if details.get("net") is None:
            raise CheckpointError(
                f"{folder} was made from a {trained}, which is not a network of fastadapt: "
                f"pass one, as in load_predictor({str(folder)!r}, model={trained}(...))"
            )
        # The shapes are compared before a single weight exists, so a forged description can't fill the memory.
        model = _blank(details["net"])
        _check_fit(model, tensors, f"the network that {folder / DESCRIPTION} names")
        model = model.to_empty(device="cpu")
    else:
        _check_fit(model, tensors, f"the given {type(model).__name__}")
        model = copy.deepcopy(model).cpu()
    for name, own in {**dict(model.named_parameters()), **dict(model.named_buffers())}.items():
        own.data = tensors[f"model.{name}"]
    return Predictor(model, norm, moments, beside, details).eval()


def _completed(folder: Path, model: nn.Module | None, tensors: dict[str, Tensor], base: str, trained: str) -> nn.Module:
    """Return a copy of the given model with the saved tensors in it; the others have to be those of then."""
    if model is None:
        raise CheckpointError(
            f"{folder} holds only {len(tensors)} adapted tensors of a {trained}: pass the model that they belong to, "
            f"as in load_predictor({str(folder)!r}, model=model)"
        )
    names = {name.removeprefix("model.") for name in tensors}
    _check_fit(model, tensors, f"the given {type(model).__name__}", whole=False)
    if _digest(model, names) != base:
        raise CheckpointError(
            f"the given {type(model).__name__} has other weights beside the {len(names)} adapted ones than the model "
            f"that {folder} was adapted from; pass that one, in the same precision"
        )
    model = copy.deepcopy(model).cpu()
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name in names:
        own[name].data = tensors[f"model.{name}"]
    return model


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    content = _read(folder, DESCRIPTION)
    if len(content) > _LONGEST_DESCRIPTION:
        raise CheckpointError(f"{path} has {len(content)} bytes, which is no description of a predictor")
    try:
        description = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: it is no complete JSON ({error}); {_MEND}") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a description of a predictor; give a folder that 'fastadapt adapt' wrote")
    if description.get("version") != VERSION:
        raise CheckpointError(
            f"{path} has version {description.get('version')!r}, this fastadapt reads version {VERSION}; "
            f"it was written by fastadapt {description.get('fastadapt')}: use that one, or adapt again"
        )
    try:
        intact = description.get("checksum") == _checksum(description)
    except ValueError:  # NaN, which this package never writes
        intact = False
    if not intact:
        raise CheckpointError(f"{path} is damaged or was edited: its checksum differs; {_MEND}")
    return description


def _read_weights(folder: Path, description: Mapping[str, Any]) -> dict[str, Tensor]:
    entry = description.get("weights")
    name = str(entry.get("file")) if isinstance(entry, dict) else ""
    if not _WEIGHTS_NAME.fullmatch(name):  # a name, never a path to somewhere else
        raise CheckpointError(f"{folder / DESCRIPTION} names no file of weights, but {name!r}; {_MEND}")
    content = _read(folder, name)
    if not isinstance(entry, dict) or hashlib.sha256(content).hexdigest() != entry.get("sha256"):
        raise CheckpointError(
            f"{folder / name} is damaged: its SHA-256 is not the one in {DESCRIPTION} ({len(content)} bytes, "
            f"{entry.get('bytes') if isinstance(entry, dict) else None} were written); {_MEND}"
        )
    try:
        return load_tensors(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{folder / name} is not a safetensors file ({error}); {_MEND}") from error


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError) and folder.is_dir():
            problem = f"there is no {name} in it; give a folder that 'fastadapt adapt' wrote"
        elif isinstance(error, FileNotFoundError):
            problem = "there is no such folder; check the path"
        elif isinstance(error, NotADirectoryError):
            problem = "it is not a folder; give the folder that 'fastadapt adapt' wrote"
        else:
            problem = f"{name} can't be read: {(error.strerror if isinstance(error, OSError) else None) or error}"
        raise CheckpointError(f"{folder} is not a predictor: {problem}") from error


def _blank(net: Any) -> nn.Module:
    """Return a network of `fastadapt.nets` whose weights have shapes but no values and no memory."""
    try:
        if net["name"] not in {*NETS, "Compared"}:
            raise CheckpointError(f"there is no network {net['name']!r} in fastadapt, only {', '.join(sorted(NETS))}")
        with torch.device("meta"):
            return build_model(net)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, ConfigError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{net!r} does not describe a network of fastadapt ({error})") from error


def _check_fit(model: nn.Module, tensors: Mapping[str, Tensor], what: str, whole: bool = True) -> None:
    """Raise `CheckpointError` unless the model's tensors have the saved names and shapes, or at least these."""
    own = {f"model.{n}": tuple(p.shape) for n, p in [*model.named_parameters(), *model.named_buffers()]}
    saved = {name: tuple(value.shape) for name, value in tensors.items() if name.startswith("model.")}
    for name in sorted(own.keys() | saved.keys()):
        short = name.removeprefix("model.")
        if name not in own:
            raise CheckpointError(f"{what} has no {short!r}, which the weights hold with shape {saved[name]}")
        if name not in saved:
            if not whole:
                continue
            raise CheckpointError(f"{what} has {short!r} of shape {own[name]}, which the weights lack")
        if own[name] != saved[name]:
            raise CheckpointError(f"{what} has {short!r} of shape {own[name]}, the weights hold shape {saved[name]}")
