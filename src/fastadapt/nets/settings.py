"""Networks as settings of a run; their sizes follow from the data."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from fastadapt.errors import ConfigError
from fastadapt.nets.conv4 import Conv4
from fastadapt.nets.mlp import MLP
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

    def describe(self, data: Any) -> dict[str, Any]:
        """Return name and arguments of the network for `data`."""
        shape = data.input
        inputs = shape["inputs"] if "inputs" in shape else shape["size"] ** 2 * shape["channels"]
        outputs = shape.get("outputs", data.ways)
        rest = {"activation": self.activation, "norm": self.norm, "init_std": self.init_std}
        return {"name": "MLP", "arguments": {"inputs": inputs, "hidden": list(self.hidden), "outputs": outputs, **rest}}


@dataclass(frozen=True)
class Conv4Net:
    """Four convolution blocks."""

    width: int = 64
    """Filters of each block."""
    down: Literal["stride", "max"] = "stride"
    """Halve the map by stride 2 or by max-pooling."""
    pooled: Literal["mean", "flatten"] = "mean"
    """What the linear head sees of the last map."""
    affine: Literal["shift", "both"] = "shift"
    """Learned parameters of the batch norm."""
    head_std: float | None = None
    """Standard deviation of the head's initialisation; None is Glorot."""

    def describe(self, data: Any) -> dict[str, Any]:
        """Return name and arguments of the network for `data`."""
        shape = data.input
        if shape["kind"] != "image":
            raise ConfigError("Conv4 needs images; choose MLPNet for points")
        sizes = {"channels": shape["channels"], "width": self.width, "ways": data.ways, "size": shape["size"]}
        rest = {"down": self.down, "pooled": self.pooled, "affine": self.affine, "head_std": self.head_std}
        return {"name": "Conv4", "arguments": {**sizes, **rest}}


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


NETS: dict[str, type[nn.Module]] = {"MLP": MLP, "Conv4": Conv4, "ResNet12": ResNet12}


def build_net(description: dict[str, Any]) -> nn.Module:
    """Return the network that `{"name": ..., "arguments": {...}}` describes.

    Raises:
        ConfigError: for a name that does not exist.
    """
    if description["name"] not in NETS:
        raise ConfigError(f"there is no network {description['name']!r}; known are {', '.join(NETS)}")
    return NETS[description["name"]](**description["arguments"])
