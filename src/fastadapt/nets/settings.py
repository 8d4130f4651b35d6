"""Networks as settings of a run; their sizes follow from the data."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from fastadapt.arguments import added, argument
from fastadapt.errors import ConfigError
from fastadapt.nets.context import WithContext
from fastadapt.nets.conv4 import Affine, Conv4, Down, Pooled
from fastadapt.nets.face import FaceNet, WithIdentities
from fastadapt.nets.features import Features
from fastadapt.nets.fourier import FourierMLP
from fastadapt.nets.koch import KochNet
from fastadapt.nets.linear_head import LinearHead
from fastadapt.nets.mlp import MLP, Activation
from fastadapt.nets.nearest import Nearest
from fastadapt.nets.rare_events import RareEventsEncoder
from fastadapt.nets.relation import RelationEncoder
from fastadapt.nets.resnet12 import ResNet12
from fastadapt.nets.siren import Siren
from fastadapt.nets.statistician import StatisticianEncoder
from fastadapt.nets.vit import ViT


@dataclass(frozen=True)
class MLPNet:
    """A fully connected network."""

    hidden: tuple[int, ...] = argument(MLP, "hidden", (40, 40))  # the constructor asks; MAML's for sine waves
    activation: Activation = argument(MLP, "activation")
    norm: bool = argument(MLP, "norm")
    init_std: float | None = argument(MLP, "init_std")
    context: int = 0
    """Numbers of a learned vector beside the input; 0 is none."""

    def describe(self, data: Any, head: bool = True) -> dict[str, Any]:
        """Return name and arguments of the network for `data`, without its `head` for one that embeds."""
        if self.context > 0 and self.norm:
            raise ConfigError(
                f"net.context={self.context} has no effect with net.norm: the batch norm behind the first layer takes "
                "away what all samples have in common; leave one of them out"
            )
        shape = data.input
        inputs = shape["inputs"] if "inputs" in shape else shape["size"] ** 2 * shape["channels"]
        outputs = shape.get("outputs", data.ways) if head else None
        sizes = {"inputs": inputs + self.context, "hidden": list(self.hidden), "outputs": outputs}
        return _described("MLP", sizes, self, flat=True)


@dataclass(frozen=True)
class Conv4Net:
    """Four convolution blocks."""

    width: int = argument(Conv4, "width", 64)  # the constructor asks; MAML's for Omniglot
    down: Down = argument(Conv4, "down")
    pooled: Pooled = argument(Conv4, "pooled")
    affine: Affine = argument(Conv4, "affine")
    head_std: float | None = argument(Conv4, "head_std")
    context: int = 0
    """Learned constant channels beside the image; 0 is none."""
    film: int = added(0)
    """Numbers of a context that scales and shifts the maps of the third block (CAVIA); 0 is none."""

    def describe(self, data: Any, head: bool = True) -> dict[str, Any]:
        """Return name and arguments of the network for `data`, without its `head` for one that embeds."""
        shape = _image("Conv4", data)
        channels = shape["channels"] + self.context
        sizes = {"channels": channels, "width": self.width, "ways": data.ways if head else None, "size": shape["size"]}
        return _described("Conv4", sizes, self)


@dataclass(frozen=True)
class ResNet12Net:
    """Four residual blocks of three convolutions."""

    widths: tuple[int, ...] = argument(ResNet12, "widths")

    def describe(self, data: Any, head: bool = True) -> dict[str, Any]:
        """Return name and arguments of the network for `data`, without its `head` for one that embeds."""
        channels = _image("ResNet12", data)["channels"]
        sizes = {"channels": channels, "ways": data.ways if head else None, "widths": list(self.widths)}
        return _described("ResNet12", sizes, self)


@dataclass(frozen=True)
class ViTNet:
    """A small vision transformer."""

    patch: int = argument(ViT, "patch")
    width: int = argument(ViT, "width")
    depth: int = argument(ViT, "depth")
    heads: int = argument(ViT, "heads")

    def describe(self, data: Any, head: bool = True) -> dict[str, Any]:
        """Return name and arguments of the network for `data`, without its `head` for one that embeds."""
        shape = _image("ViT", data)
        sizes = {"channels": shape["channels"], "ways": data.ways if head else None, "size": shape["size"]}
        return _described("ViT", sizes, self)


@dataclass(frozen=True)
class RelationEncoderNet:
    """The embedding of the Relation Network, which keeps maps."""

    width: int = argument(RelationEncoder, "width")

    def describe(self, data: Any, head: bool = True) -> dict[str, Any]:
        """Return name and arguments of the network for `data`; it has no head."""
        _check_embeds("RelationEncoder", "RelationNetMethod", head)
        return _described("RelationEncoder", {"channels": _image("RelationEncoder", data)["channels"]}, self)


@dataclass(frozen=True)
class StatisticianEncoderNet:
    """The embedding of the neural statistician, which keeps maps."""

    width: int = argument(StatisticianEncoder, "width")

    def describe(self, data: Any, head: bool = True) -> dict[str, Any]:
        """Return name and arguments of the network for `data`; it has no head."""
        _check_embeds("StatisticianEncoder", "NeuralStatisticianMethod", head)
        sizes = {"channels": _image("StatisticianEncoder", data)["channels"]}
        return _described("StatisticianEncoder", sizes, self)


@dataclass(frozen=True)
class RareEventsEncoderNet:
    """The embedding before the memory module."""

    width: int = argument(RareEventsEncoder, "width")
    features: int = argument(RareEventsEncoder, "features")
    dropout: float = argument(RareEventsEncoder, "dropout")

    def describe(self, data: Any, head: bool = True) -> dict[str, Any]:
        """Return name and arguments of the network for `data`; it has no head."""
        _check_embeds("RareEventsEncoder", "MemoryModuleMethod", head)
        shape = _image("RareEventsEncoder", data)
        return _described("RareEventsEncoder", {"channels": shape["channels"], "size": shape["size"]}, self)


def _check_embeds(name: str, method: str, head: bool) -> None:
    if head:
        raise ConfigError(
            f"{name} embeds and has no head to classify with; choose a metric method such as {method}, or Conv4Net"
        )


@dataclass(frozen=True)
class FacesNet:
    """A small convolutional embedding of faces, with a row of weights for each identity that trains."""

    widths: tuple[int, ...] = argument(FaceNet, "widths")
    features: int = argument(FaceNet, "features")

    def describe(self, data: Any, head: bool = True) -> dict[str, Any]:
        """Return name and arguments of the network for `data`."""
        if data.input["kind"] != "faces":
            raise ConfigError("FacesNet needs faces; choose Conv4Net for other images")
        sizes = {"size": data.input["size"], "widths": list(self.widths), "features": self.features}
        beside = {"identities": max(data.people, 1), "features": self.features}
        return {"name": "WithIdentities", "arguments": {"net": {"name": "FaceNet", "arguments": sizes}, **beside}}


@dataclass(frozen=True)
class SirenNet:
    """A network of sines, for functions of few numbers."""

    width: int = argument(Siren, "width", 128)  # the constructor asks
    depth: int = argument(Siren, "depth", 4)
    w0: float = argument(Siren, "w0")
    first_w0: float | None = argument(Siren, "first_w0")
    output_shift: float = argument(Siren, "output_shift", 0.0)  # 0.5 is for values 0..1

    def describe(self, data: Any, head: bool = True) -> dict[str, Any]:
        """Return name and arguments of the network for `data`."""
        return _described("Siren", _field("Siren", data, head), self)


@dataclass(frozen=True)
class FourierNet:
    """A network on random Fourier features, for functions of few numbers."""

    features: int = argument(FourierMLP, "features", 64)  # the constructor asks
    width: int = argument(FourierMLP, "width", 128)
    depth: int = argument(FourierMLP, "depth", 4)
    scale: float = argument(FourierMLP, "scale", 0.3)  # periods a unit: waves on [-5, 5] have less than 1 in 6
    sigmoid: bool = argument(FourierMLP, "sigmoid")

    def describe(self, data: Any, head: bool = True) -> dict[str, Any]:
        """Return name and arguments of the network for `data`."""
        return _described("FourierMLP", _field("FourierMLP", data, head), self)


def _field(name: str, data: Any, head: bool) -> dict[str, Any]:
    shape = data.input
    if not head or "inputs" not in shape or "outputs" not in shape:
        raise ConfigError(
            f"{name} is a function of a point's numbers and answers with numbers; choose it for regression, such as "
            "SinusoidData, and MLPNet or Conv4Net here"
        )
    return {"inputs": shape["inputs"], "outputs": shape["outputs"]}


@dataclass(frozen=True)
class FeaturesNet:
    """No network: the data are embeddings already, or rows of a table that meet a line."""

    def describe(self, data: Any, head: bool = True) -> dict[str, Any]:
        """Return name and arguments of what hands embeddings on; it has no head."""
        if head or data.input["kind"] not in ("features", "table"):
            raise ConfigError("FeaturesNet is for embeddings and a head on them, such as CentroidMethod; choose MLPNet")
        return {"name": "Features", "arguments": {"inputs": data.input["inputs"]}}


def _image(name: str, data: Any) -> dict[str, Any]:
    if data.input["kind"] != "image":
        raise ConfigError(f"{name} needs images; choose MLPNet for points")
    return data.input


def _described(name: str, sizes: dict[str, Any], settings: Any, flat: bool = False) -> dict[str, Any]:
    """Return the description: what is no size and no context is an argument of the same name."""
    rest = {field.name: getattr(settings, field.name) for field in fields(settings) if field.name not in sizes}
    context = rest.pop("context", 0)
    if context < 0:
        raise ConfigError(f"net.context counts the numbers of a vector and must be >= 0, got {context}")
    if not rest.get("film", True):  # what was described before there was the argument stays as it was
        del rest["film"]
    beside = {"context": {"size": context, "flat": flat}} if context else {}
    return {"name": name, "arguments": {**sizes, **rest}, **beside}


def _nearest(net: dict[str, Any], samples: int) -> Nearest:
    return Nearest(build_net(net), samples)


NETS: dict[str, Callable[..., nn.Module]] = {
    "MLP": MLP,
    "Conv4": Conv4,
    "ResNet12": ResNet12,
    "ViT": ViT,
    "RelationEncoder": RelationEncoder,
    "KochNet": KochNet,
    "StatisticianEncoder": StatisticianEncoder,
    "RareEventsEncoder": RareEventsEncoder,
    "Features": Features,
    "FaceNet": FaceNet,
    "Nearest": _nearest,
    "Siren": Siren,
    "FourierMLP": FourierMLP,
}


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


def _with_identities(net: dict[str, Any], identities: int, features: int) -> WithIdentities:
    return WithIdentities(build_net(net), identities, features)


NETS["WithIdentities"] = _with_identities


def _headed(net: dict[str, Any], **sizes: Any) -> nn.Module:
    from fastadapt.nets.headed import Headed

    return Headed(build_net(net), **sizes)


NETS["Headed"] = _headed


def _with_line(net: dict[str, Any], **sizes: Any) -> nn.Module:
    return LinearHead(build_net(net), **sizes)


NETS["LinearHead"] = _with_line
