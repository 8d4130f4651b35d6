"""Networks as settings of a run; their sizes follow from the data."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from fastadapt.errors import ConfigError
from fastadapt.nets.context import WithContext
from fastadapt.nets.conv4 import Conv4
from fastadapt.nets.mlp import MLP
from fastadapt.nets.nearest import Nearest
from fastadapt.nets.resnet12 import ResNet12


@dataclass(frozen=True)
class MLPNet:
    """A fully connected network."""

    hidden: tuple[int, ...] = (40, 40)
    """Widths of the hidden layers."""
    activation: Literal["relu", "tanh", "softplus"] = "relu"
    """What follows each hidden layer."""
    norm: bool = False
    """Put a batch norm before each activation."""
    init_std: float | None = 0.01
    """Standard deviation of the weights' truncated normal; None is PyTorch's own."""
    context: int = 0
    """Numbers of a learned vector beside the input; 0 is none."""

    def describe(self, data: Any) -> dict[str, Any]:
        """Return name and arguments of the network for `data`."""
        if self.context > 0 and self.norm:
            raise ConfigError(
                f"net.context={self.context} has no effect with net.norm: the batch norm behind the first layer takes "
                "away what all samples have in common; leave one of them out"
            )
        shape = data.input
        inputs = shape["inputs"] if "inputs" in shape else shape["size"] ** 2 * shape["channels"]
        outputs = shape.get("outputs", data.ways)
        rest = {"activation": self.activation, "norm": self.norm, "init_std": self.init_std}
        sizes = {"inputs": inputs + self.context, "hidden": list(self.hidden), "outputs": outputs}
        return _described("MLP", {**sizes, **rest}, self.context, flat=True)


@dataclass(frozen=True)
class Conv4Net:
    """Four convolution blocks."""

    width: int = 64
    """Filters of each block."""
    down: Literal["stride", "max", "max_same"] = "stride"
    """Halve the map by stride 2 or by max-pooling; max_same keeps the last row and column of an odd map."""
    pooled: Literal["mean", "flatten"] = "mean"
    """What the linear head sees of the last map."""
    affine: Literal["shift", "both"] = "shift"
    """Learned parameters of the batch norm."""
    head_std: float | None = None
    """Standard deviation of the head's initialisation; None is Glorot."""
    context: int = 0
    """Learned constant channels beside the image; 0 is none."""

    def describe(self, data: Any) -> dict[str, Any]:
        """Return name and arguments of the network for `data`."""
        shape = data.input
        if shape["kind"] != "image":
            raise ConfigError("Conv4 needs images; choose MLPNet for points")
        channels = shape["channels"] + self.context
        sizes = {"channels": channels, "width": self.width, "ways": data.ways, "size": shape["size"]}
        rest = {"down": self.down, "pooled": self.pooled, "affine": self.affine, "head_std": self.head_std}
        return _described("Conv4", {**sizes, **rest}, self.context)


@dataclass(frozen=True)
class ResNet12Net:
    """Four residual blocks of three convolutions."""

    widths: tuple[int, ...] = (64, 128, 256, 512)
    """Filters of the four blocks."""

    def describe(self, data: Any) -> dict[str, Any]:
        """Return name and arguments of the network for `data`."""
        shape = data.input
        if shape["kind"] != "image":
            raise ConfigError("ResNet12 needs images; choose MLPNet for points")
        sizes = {"channels": shape["channels"], "ways": data.ways, "widths": list(self.widths)}
        return {"name": "ResNet12", "arguments": sizes}


def _described(name: str, arguments: dict[str, Any], context: int, flat: bool = False) -> dict[str, Any]:
    if context < 0:
        raise ConfigError(f"net.context counts the numbers of a vector and must be >= 0, got {context}")
    beside = {"context": {"size": context, "flat": flat}} if context else {}
    return {"name": name, "arguments": arguments, **beside}


def _nearest(net: dict[str, Any], samples: int) -> Nearest:
    return Nearest(build_net(net), samples)


NETS: dict[str, Callable[..., nn.Module]] = {"MLP": MLP, "Conv4": Conv4, "ResNet12": ResNet12, "Nearest": _nearest}


def build_net(description: dict[str, Any]) -> nn.Module:
    """Return the network that `{"name": ..., "arguments": {...}}` describes.

    A third entry, `"context": {"size": ..., "flat": ...}`, puts it behind a `WithContext`.

    Raises:
        ConfigError: for a name that does not exist.
    """
    if description["name"] not in NETS:
        raise ConfigError(f"there is no network {description['name']!r}; known are {', '.join(NETS)}")
    net = NETS[description["name"]](**description["arguments"])
    return WithContext(net, **description["context"]) if "context" in description else net
