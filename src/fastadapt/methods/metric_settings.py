"""Metric methods as settings of a run; what they compare has the shape that the embedding gives it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fastadapt.arguments import argument
from fastadapt.inner.generators import torch_random_kept
from fastadapt.layers.norm import Norm
from fastadapt.learner import Learner
from fastadapt.losses import Loss
from fastadapt.methods.gradient import evaluating
from fastadapt.methods.matching import MatchingNet, Votes
from fastadapt.methods.protonet import ProtoNet
from fastadapt.methods.relation import RelationNet
from fastadapt.methods.siamese import Over, SiameseNet
from fastadapt.methods.subspaces import AdaptiveSubspaces, Basis


@dataclass(frozen=True)
class MetricMethod:
    """What metric methods share: a network without a head, which embeds, and tasks of any number of classes."""

    norm: Norm = argument(ProtoNet, "norm")

    def build(self, model: nn.Module, loss: Loss, features: tuple[int, ...]) -> Learner:
        """Return the learner around `model`, an embedding whose output for one sample has the shape `features`."""
        raise NotImplementedError

    def learner(self, model: nn.Module, loss: Loss, data: Any) -> Learner:
        """Return the learner around `model`, an embedding, for tasks as those of `data`."""
        return self.build(model, loss, feature_shape(model, data.input))

    def most_ways(self, data: Any) -> int | None:
        """Return with how many classes it can be used after it was trained on `data`; None is any number."""
        return None


@dataclass(frozen=True)
class ProtoNetMethod(MetricMethod):
    """Prototypical networks: the class whose mean is nearest."""

    def build(self, model: nn.Module, loss: Loss, features: tuple[int, ...]) -> Learner:
        """Return the learner around an embedding."""
        return ProtoNet(model, loss, norm=self.norm)


@dataclass(frozen=True)
class MatchingNetMethod(MetricMethod):
    """Matching networks: attention over the support samples."""

    full_context: bool = False
    """Read the support set with LSTMs before it is compared (full context embeddings)."""
    reads: int = argument(MatchingNet, "reads")
    votes: Votes = argument(MatchingNet, "votes")
    scale: float = argument(MatchingNet, "scale")

    def build(self, model: nn.Module, loss: Loss, features: tuple[int, ...]) -> Learner:
        """Return the learner around an embedding."""
        settings: dict[str, Any] = {"reads": self.reads, "votes": self.votes, "scale": self.scale, "norm": self.norm}
        return MatchingNet(model, loss, context=flat(features) if self.full_context else None, **settings)


@dataclass(frozen=True)
class SiameseNetMethod(MetricMethod):
    """Siamese networks: the class of the sample that is most probably of the same."""

    over: Over = argument(SiameseNet, "over")

    def build(self, model: nn.Module, loss: Loss, features: tuple[int, ...]) -> Learner:
        """Return the learner around an embedding."""
        return SiameseNet(model, loss, features=flat(features), over=self.over, norm=self.norm)


@dataclass(frozen=True)
class RelationNetMethod(MetricMethod):
    """Relation Network: a network judges how a query relates to each class."""

    norm: Norm = argument(RelationNet, "norm")
    width: int = argument(RelationNet, "width")
    hidden: int = argument(RelationNet, "hidden")
    padding: int = argument(RelationNet, "padding")

    def build(self, model: nn.Module, loss: Loss, features: tuple[int, ...]) -> Learner:
        """Return the learner around an embedding."""
        sizes = {"width": self.width, "hidden": self.hidden, "padding": self.padding}
        return RelationNet(model, loss, features=features, **sizes, norm=self.norm)


@dataclass(frozen=True)
class AdaptiveSubspacesMethod(MetricMethod):
    """Adaptive subspaces: the class whose span of samples is nearest."""

    basis: Basis = argument(AdaptiveSubspaces, "basis")
    squared: bool = argument(AdaptiveSubspaces, "squared")
    discriminative: float = argument(AdaptiveSubspaces, "discriminative")

    def build(self, model: nn.Module, loss: Loss, features: tuple[int, ...]) -> Learner:
        """Return the learner around an embedding."""
        settings: dict[str, Any] = {"basis": self.basis, "squared": self.squared, "norm": self.norm}
        return AdaptiveSubspaces(model, loss, discriminative=self.discriminative, **settings)


def flat(features: tuple[int, ...]) -> int:
    """Return how many numbers features of a shape have."""
    return torch.Size(features).numel()


@torch.no_grad()
def feature_shape(model: nn.Module, shape: dict[str, Any]) -> tuple[int, ...]:
    """Return the shape of what an embedding gives for one input, `{"kind": "image" | ..., ...}`, by trying it."""
    with torch_random_kept(), evaluating(model):
        return tuple(model(torch.zeros(2, *sample_shape(shape))).shape[1:])


def sample_shape(shape: dict[str, Any]) -> tuple[int, ...]:
    """Return the shape of one input."""
    image = shape["kind"] == "image"
    return (shape["channels"], shape["size"], shape["size"]) if image else (shape["inputs"],)
