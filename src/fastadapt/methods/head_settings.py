"""Heads on frozen features as settings of a run."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fastadapt.arguments import argument
from fastadapt.learner import Learner
from fastadapt.losses import Loss
from fastadapt.methods.centroid import NearestCentroid
from fastadapt.methods.cosine_head import CosineHead
from fastadapt.methods.least_squares import RidgeHead
from fastadapt.methods.linear_probe import LinearProbe
from fastadapt.methods.metric_settings import feature_shape, flat
from fastadapt.methods.nearest_sample import NearestSample

Head = Literal["centroid", "l2n", "cl2n", "ridge", "linear", "cosine", "nearest"]


@dataclass(frozen=True)
class HeadMethod:
    """What heads share: a network that stays as it is, and tasks of any number of classes."""

    centred: bool = False
    """Take the mean feature of the training classes from all features."""

    def learner(self, model: nn.Module, loss: Loss, data: Any) -> Learner:
        """Return the learner around `model`, for tasks as those of `data`.

        Where features are centred, the centre is zero until `centre` or saved weights say it.
        """
        zeros = torch.zeros(flat(feature_shape(model, data.input))) if self.centred else None
        return self._head(model, loss, zeros)

    def _head(self, model: nn.Module, loss: Loss, centre: Tensor | None) -> Learner:
        raise NotImplementedError


@dataclass(frozen=True)
class CentroidMethod(HeadMethod):
    """The class whose mean feature is nearest."""

    unit: bool = argument(NearestCentroid, "unit")

    def _head(self, model: nn.Module, loss: Loss, centre: Tensor | None) -> Learner:
        return NearestCentroid(model, loss, centre=centre, unit=self.unit)


@dataclass(frozen=True)
class NearestSampleMethod(HeadMethod):
    """The class of the nearest sample."""

    unit: bool = argument(NearestSample, "unit")

    def _head(self, model: nn.Module, loss: Loss, centre: Tensor | None) -> Learner:
        return NearestSample(model, loss, centre=centre, unit=self.unit)


@dataclass(frozen=True)
class RidgeMethod(HeadMethod):
    """Ridge regression onto the classes."""

    unit: bool = argument(RidgeHead, "unit", True)  # the constructor's False lets short features be shrunk away
    strength: float = argument(RidgeHead, "strength")
    scale: float = argument(RidgeHead, "scale", 10.0)  # so that the first steps of its training have a slope

    def _head(self, model: nn.Module, loss: Loss, centre: Tensor | None) -> Learner:
        sizes = {"strength": self.strength, "scale": self.scale}
        return RidgeHead(model, loss, **sizes, centre=centre, unit=self.unit)


@dataclass(frozen=True)
class LinearProbeMethod(HeadMethod):
    """Logistic regression, by scikit-learn."""

    unit: bool = argument(LinearProbe, "unit", True)  # as Tian et al. take it
    inverse_strength: float = argument(LinearProbe, "inverse_strength")

    def _head(self, model: nn.Module, loss: Loss, centre: Tensor | None) -> Learner:
        return LinearProbe(model, loss, inverse_strength=self.inverse_strength, centre=centre, unit=self.unit)


@dataclass(frozen=True)
class CosineHeadMethod(HeadMethod):
    """A direction for each class, by gradient steps."""

    scale: float = argument(CosineHead, "scale")
    updates: int = argument(CosineHead, "updates")
    lr: float = argument(CosineHead, "lr")

    def _head(self, model: nn.Module, loss: Loss, centre: Tensor | None) -> Learner:
        sizes: dict[str, Any] = {"scale": self.scale, "updates": self.updates, "lr": self.lr}
        return CosineHead(model, loss, **sizes, centre=centre)


HEADS: dict[str, HeadMethod] = {
    "centroid": CentroidMethod(),
    "l2n": CentroidMethod(unit=True),
    "cl2n": CentroidMethod(unit=True, centred=True),
    "ridge": RidgeMethod(),
    "linear": LinearProbeMethod(),
    "cosine": CosineHeadMethod(),
    "nearest": NearestSampleMethod(),
}
"""The heads by the name of the option: plain centroids, of length 1, centred too (SimpleShot), and the others."""
