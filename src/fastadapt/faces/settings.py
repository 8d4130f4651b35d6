"""Methods on faces as settings of a run."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import nn

from fastadapt.arguments import argument, default_of
from fastadapt.engine.execution import Execution
from fastadapt.errors import ConfigError
from fastadapt.faces.cdt import CDT
from fastadapt.faces.cross_domain import Metric
from fastadapt.faces.mfr import MFR
from fastadapt.faces.objectives import MarginLoss, PairLoss
from fastadapt.inner.differentiation import MetaGradient
from fastadapt.layers.norm import batch_norm_layers
from fastadapt.learner import Learner
from fastadapt.losses import Loss
from fastadapt.methods.maml import MAML
from fastadapt.methods.mldg import MLDG
from fastadapt.rules.rules import SGD

FaceLoss = Literal["cosface", "arcface", "pairs"]


@dataclass(frozen=True)
class FaceMethod(Execution):
    """What methods on faces share."""

    pooled: ClassVar[bool] = False
    """Whether it trains on all domains at once, without splits."""
    loss: FaceLoss = "cosface"
    """Softmax over all training identities with a margin, or the losses of MFR on pairs."""
    scale: float = argument(MarginLoss, "scale")
    margin: float = argument(MarginLoss, "margin")
    positive: float = argument(PairLoss, "positive")
    negative: float = argument(PairLoss, "negative")
    hard: float = argument(PairLoss, "hard")
    soft: float = argument(PairLoss, "soft")
    alignment: float = argument(PairLoss, "alignment")
    alignment_scale: float = argument(PairLoss, "alignment_scale")
    detach: bool = argument(PairLoss, "detach")

    def learner(self, model: nn.Module, loss: Loss, data: Any) -> Learner:
        """Return the learner around an embedding; its loss is the method's own.

        Raises:
            ConfigError: if the splits of the data are not those that the method takes, or the network has batch norm.
        """
        if batch_norm_layers(model):
            raise ConfigError(
                "a network with batch norm sees one domain otherwise than several, and an embedding that is used alone "
                "has no batch; choose FacesNet, or leave net.norm out"
            )
        if self.pooled != (data.splits == "pooled"):
            wanted = "pooled" if self.pooled else "random"
            raise ConfigError(
                f"{type(self).__name__} trains {'without' if self.pooled else 'on'} splits, and data.splits is "
                f"{data.splits!r}; set it to {wanted!r}"
            )
        return self.build(model, self.objective)

    @property
    def objective(self) -> Loss:
        """The loss on pairs."""
        if self.loss != "pairs":
            return MarginLoss(self.loss, self.scale, self.margin)
        names = ("positive", "negative", "scale", "alignment_scale", "hard", "soft", "alignment", "detach")
        return PairLoss(**{name: getattr(self, name) for name in names})

    def build(self, model: nn.Module, loss: Loss) -> Learner:
        """Return the learner around an embedding."""
        raise NotImplementedError


@dataclass(frozen=True)
class PooledMethod(FaceMethod):
    """All domains at once, without a meta step: CosFace, ArcFace, or with the losses of MFR the control of MFR."""

    pooled: ClassVar[bool] = True

    def build(self, model: nn.Module, loss: Loss) -> Learner:
        """Return the learner around an embedding."""
        return MAML(model, loss, steps=0, norm="running", route=self.execution())


@dataclass(frozen=True)
class _Stepped(FaceMethod):
    inner_lr: float = 0.05  # with embeddings of length 1 that of the constructor's rule moves hardly anything
    """Inner step size alpha."""
    steps: int = default_of(MLDG, "steps")
    """Inner steps; 0 leaves the meta step out."""
    meta_gradient: MetaGradient = default_of(MLDG, "meta_gradient")
    """Exact, or first order."""
    adapt: tuple[str, ...] = ("*",)
    """Which parameters the inner step moves: patterns over names ("!" excludes)."""

    def _settings(self) -> dict[str, Any]:
        return {
            "rule": SGD(self.inner_lr),
            "steps": self.steps,
            "meta_gradient": self.meta_gradient,
            "adapt": self.adapt[0] if len(self.adapt) == 1 else self.adapt,
            "norm": "running",
            "route": self.execution(),
        }


@dataclass(frozen=True)
class MLDGMethod(_Stepped):
    """MLDG: the plain meta step for domain generalisation."""

    beta: float = argument(MLDG, "beta")

    def build(self, model: nn.Module, loss: Loss) -> Learner:
        """Return the learner around an embedding."""
        return MLDG(model, loss, beta=self.beta, **self._settings())


@dataclass(frozen=True)
class MFRMethod(_Stepped):
    """Meta face recognition."""

    loss: FaceLoss = "pairs"
    gamma: float = argument(MFR, "gamma")
    thresholds_every: int | None = argument(MFR, "thresholds_every")

    def build(self, model: nn.Module, loss: Loss) -> Learner:
        """Return the learner around an embedding."""
        chosen: dict[str, Any] = {"gamma": self.gamma, "thresholds_every": self.thresholds_every}
        return MFR(model, loss, **chosen, **self._settings())


@dataclass(frozen=True)
class CDTMethod(_Stepped):
    """The cross-domain triplet."""

    gamma: float = argument(CDT, "gamma")
    triplets: float = argument(CDT, "triplets")
    triplet_margin: float = default_of(CDT, "margin")
    """Tau of the triplets."""
    metric: Metric = argument(CDT, "metric")
    shrinkage: float = argument(CDT, "shrinkage")
    unit_trace: bool = argument(CDT, "unit_trace")
    through: bool = argument(CDT, "through")
    both: bool = argument(CDT, "both")
    within: bool = argument(CDT, "within")
    semi_hard: bool = argument(CDT, "semi_hard")

    def build(self, model: nn.Module, loss: Loss) -> Learner:
        """Return the learner around an embedding."""
        names = ("gamma", "triplets", "metric", "shrinkage", "unit_trace", "through", "both", "within", "semi_hard")
        chosen: dict[str, Any] = {name: getattr(self, name) for name in names}
        return CDT(model, loss, margin=self.triplet_margin, **chosen, **self._settings())
