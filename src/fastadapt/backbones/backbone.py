"""A backbone by the words that name it: an ONNX file, a folder of Hugging Face, a user's function, or a baseline."""

import hashlib
import importlib
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from fastadapt.backbones.hugging_face import Taken, hugging_face
from fastadapt.backbones.sight import Sight, Values
from fastadapt.data.files import shown
from fastadapt.errors import ConfigError, FastadaptError
from fastadapt.inner.generators import torch_random_kept
from fastadapt.methods.features import check_averages, features_of
from fastadapt.methods.onnx_backbone import OnnxBackbone
from fastadapt.nets.conv4 import Conv4

PIXELS, CONV4 = "pixels", "conv4"
KINDS = (
    "a file net.onnx, a folder of Hugging Face (config.json and model.safetensors), module.path:factory, or "
    "a baseline: "
    f"{PIXELS}, {CONV4}"
)
_SMALL = 28
_WIDTH, _SEED = 64, 0


@dataclass(frozen=True, eq=False)
class Backbone:
    """Hold a backbone and what it sees.

    Args:
        net: gives features `[n, ...]` for pictures; in evaluation mode.
        sight: how a picture becomes what it takes.
        name: in words that tell two backbones apart: what it is, which output, which values, a digest of its weights.
        baseline: whether nobody has trained it.
    """

    net: nn.Module
    sight: Sight
    name: str
    baseline: bool = False


def find_backbone(
    words: str,
    *,
    values: Values | None = None,
    size: int | None = None,
    output: str | None = None,
    taken: Taken | None = None,
) -> Backbone:
    """Return the backbone that is meant.

    Args:
        words: an ONNX file, a folder of Hugging Face, `module.path:factory`, a function that returns a module, or
            "pixels" (the pixels of 28x28) or "conv4" (an untrained `Conv4` of 84x84).
        values: what pixels become; a folder of Hugging Face says it itself.
        size: height and width, where the backbone leaves them open.
        output: of an ONNX file with several.
        taken: what is taken of the output of a transformer.

    Raises:
        ConfigError: if it is none of these, or something is left open.
        DataError: if a file can't be read.
        MissingExtraError: if a package that is needed is not installed.

    Example:
        >>> find_backbone("pixels").net(torch.zeros(2, 3, 28, 28)).shape
        torch.Size([2, 2352])
    """
    path = Path(words).expanduser()
    if words in (PIXELS, CONV4):
        found = _baseline(words, size)
    elif path.suffix.lower() == ".onnx":
        found = _onnx(path, values, size, output)
    elif path.is_dir():
        if values is not None or size is not None:
            raise ConfigError(
                f"{shown(path)} says size and values itself, in preprocessor_config.json; leave --values and --size out"
            )
        net, sight, name = hugging_face(path, taken)
        found = Backbone(net, sight, name)
    elif ":" in words and not path.exists():
        found = _function(words, values, size)
    else:
        raise ConfigError(f"there is no backbone {words!r}; give {KINDS}")
    check_averages(found.net)
    found = replace(found, net=found.net.eval().requires_grad_(False))
    _try(found, words)
    return found


@torch.no_grad()
def _try(found: Backbone, words: str) -> None:
    """Refuse a backbone that can't answer, or whose answer to a picture depends on chance or on other pictures."""
    sight = found.sight
    generator = torch.Generator().manual_seed(_SEED)
    pixels = torch.randint(0, 256, (2, sight.height, sight.width, sight.channels), generator=generator)
    x = sight.values(pixels.to(torch.uint8))
    try:
        first, again, alone = (features_of(found.net, some) for some in (x, x, x[:1]))
    except FastadaptError:
        raise
    except Exception as error:  # a module of anybody may raise anything
        line = (str(error).splitlines() or [""])[0]
        raise ConfigError(
            f"{words!r} can't take pictures of {tuple(x.shape[1:])}: {type(error).__name__}: {line}"
        ) from error
    if not first.isfinite().all():
        raise ConfigError(f"the features of {words!r} are not finite even for noise; look at its weights and --values")
    for other, why in ((again, "differ when it is asked twice"), (alone, "depend on the other pictures of a batch")):
        if not torch.allclose(first[: len(other)], other, rtol=1e-2, atol=1e-3 * float(first.abs().max())):
            raise ConfigError(f"the features of {words!r} {why}; switch off what is random or shared in it")


def _baseline(words: str, size: int | None) -> Backbone:
    if words == PIXELS:
        sight = Sight.named("unit", size or _SMALL)
        return Backbone(nn.Flatten(), sight, f"the pixels of {sight.height}x{sight.width}", baseline=True)
    sight = Sight.named("unit", size or 84)
    with torch_random_kept(seed=_SEED):
        net = _fed(Conv4(3, _WIDTH, None, size=sight.height, down="max", pooled="mean"), sight.height)
    return Backbone(net, sight, f"an untrained Conv4 of {sight.height}x{sight.width}", baseline=True)


@torch.no_grad()
def _fed(net: nn.Module, size: int) -> nn.Module:
    """Return an untrained network whose batch norm has the averages of noise: it would pass on hardly anything else."""
    from torch.optim.swa_utils import update_bn

    update_bn([torch.rand(32, 3, size, size)], net)
    return net


def _onnx(path: Path, values: Values | None, size: int | None, output: str | None) -> Backbone:
    net = OnnxBackbone(path, output)
    sides = net.sides
    channels = {axis: sides[axis] for axis in (0, 2) if len(sides) == 3 and sides[axis] in (1, 3)}
    if len(channels) != 1:
        told = ", ".join("any" if not isinstance(side, int) else str(side) for side in sides)
        raise ConfigError(
            f"{shown(path)} takes samples of shape ({told}), and pictures have 1 or 3 channels as their first or last "
            "axis; export it with such an input, or compute the embeddings yourself"
        )
    axis, count = next(iter(channels.items()))
    own = sides[1:] if axis == 0 else sides[:2]
    fixed = {side for side in own if isinstance(side, int)}
    if len(fixed) > 1 or (size is not None and fixed and fixed != {size}):
        raise ConfigError(
            f"{shown(path)} takes pictures of {'x'.join(map(str, own))} pixels, and square ones of --size "
            f"{size or 'N'} are made; export it for that size"
        )
    if not fixed and size is None:
        raise ConfigError(f"{shown(path)} takes pictures of any size; say which with --size, as in its training")
    chosen, side = _said(values, shown(path)), size or int(fixed.pop())
    sight = Sight.named(chosen, side, int(count), last=axis == 2)
    return Backbone(net, sight, f"ONNX {net.digest[:12]}, output {net.output}, {side}x{side}, {chosen}")


def _function(words: str, values: Values | None, size: int | None) -> Backbone:
    place, _, name = words.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` has it
    try:
        found = getattr(importlib.import_module(place), name)
        net = found() if not isinstance(found, nn.Module) else found
    except Exception as error:  # a user's code may raise anything
        first = (str(error).splitlines() or [""])[0]
        raise ConfigError(f"can't make the backbone {words!r}: {type(error).__name__}: {first}") from error
    if not isinstance(net, nn.Module):
        raise ConfigError(f"{words!r} gave a {type(net).__name__}, and a backbone is a torch.nn.Module; return one")
    if size is None:
        raise ConfigError(f"{words!r} does not say which pictures it takes; give their --size")
    told = hashlib.sha256()
    for key, tensor in sorted(net.state_dict().items()):
        told.update(key.encode() + tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    chosen = _said(values, words)
    sight = Sight.named(chosen, size)
    return Backbone(net, sight, f"{words} (sha256 {told.hexdigest()[:12]}, {size}x{size}, {chosen})")


def _said(values: Values | None, name: str) -> Values:
    if values is None:
        raise ConfigError(
            f"{name} does not say what pixels become before they enter; give --values unit (0..1), signed (-1..1), "
            "imagenet (mean 0, deviation 1) or bytes (0..255), as in its training: with others its features are worse"
        )
    return values
