"""Relatives of MAML as settings of a run: Meta-SGD, MAML++ and ProtoMAML."""

from dataclasses import dataclass

from torch import nn

from fastadapt.arguments import argument, default_of
from fastadapt.errors import ConfigError
from fastadapt.inner.differentiation import MetaGradient
from fastadapt.layers.norm import Norm
from fastadapt.learner import Learner
from fastadapt.losses import Loss
from fastadapt.methods.mamlpp import MAMLPlusPlus
from fastadapt.methods.protomaml import ProtoMAML
from fastadapt.methods.settings import MAMLMethod, _InnerSteps
from fastadapt.rules.rates import Stepwise, learned_rates
from fastadapt.rules.rules import Rule


@dataclass(frozen=True)
class MetaSGDMethod(MAMLMethod):
    """Meta-SGD: an inner rate for each weight, learned with it, and one step."""

    inner_lr: float = 0.005
    """Where the learned inner rates begin, or the lower end of it."""
    inner_lr_to: float | None = 0.1
    """Upper end of where they begin: each is drawn evenly between the two; None begins all at inner_lr."""

    def rule(self, model: nn.Module) -> Rule:
        """Return the inner update rule, with rates that are learned."""
        low, high = self.inner_lr, self.inner_lr_to
        if high is not None and high < low:
            raise ConfigError(f"method.inner_lr_to={high} must be at least method.inner_lr={low}, or None")
        return self._rule(learned_rates(model, low if high is None else (low, high)))


@dataclass(frozen=True)
class MAMLPlusPlusMethod(MAMLMethod):
    """MAML++: MAML with six changes, each a switch (the sixth is training.schedule cosine)."""

    inner_lr: float = 0.1  # that of the constructor's rule
    """Inner step size alpha; where the learned ones begin."""
    steps: int = default_of(MAMLPlusPlus, "steps")
    """Inner steps in training."""
    test_steps: int = 5
    """Inner steps in evaluation and for a new task."""
    norm: Norm = default_of(MAMLPlusPlus, "norm")
    """Batch-norm mode; per_step keeps running statistics for each inner step."""
    learned_lr: bool = True
    """Learn an inner rate for each tensor and inner step."""
    step_affine: bool = argument(MAMLPlusPlus, "step_affine")
    multi_step_epochs: int = argument(MAMLPlusPlus, "multi_step_epochs")
    first_order_epochs: int = argument(MAMLPlusPlus, "first_order_epochs")
    epoch: int = argument(MAMLPlusPlus, "epoch")

    def rule(self, model: nn.Module) -> Rule:
        """Return the inner update rule, with rates of each inner step where they are learned."""
        if not self.learned_lr:
            return self._rule()
        return Stepwise(self._rule(learned_rates(model, self.inner_lr, per="tensor", steps=self.steps)))

    def build(self, model: nn.Module, loss: Loss) -> Learner:
        """Return the learner around `model`."""
        return MAMLPlusPlus(
            model,
            loss,
            rule=self.rule(model),
            step_affine=self.step_affine,
            multi_step_epochs=self.multi_step_epochs,
            first_order_epochs=self.first_order_epochs,
            epoch=self.epoch,
            **self._settings(loss),
        )


@dataclass(frozen=True)
class ProtoMAMLMethod(_InnerSteps):
    """ProtoMAML: steps from a head that is made of each task's prototypes; tasks of any number of classes."""

    steps: int = default_of(ProtoMAML, "steps")
    """Inner steps in training."""
    test_steps: int = 5
    """Inner steps in evaluation and for a new task."""
    meta_gradient: MetaGradient = default_of(ProtoMAML, "meta_gradient")
    """Exact, or first order (fo-Proto-MAML)."""
    adapt: tuple[str, ...] = ("*",)
    """Which parameters of the embedding adapt beside the head: patterns over names ("!" excludes)."""
    norm: Norm = default_of(ProtoMAML, "norm")
    """Batch-norm mode."""

    def build(self, model: nn.Module, loss: Loss) -> Learner:
        """Return the learner around `model`, an embedding."""
        return ProtoMAML(
            model,
            loss,
            rule=self._rule(),
            steps=self.steps,
            test_steps=self.test_steps,
            meta_gradient=self.meta_gradient,
            adapt=self.adapt[0] if len(self.adapt) == 1 else self.adapt,
            norm=self.norm,
            inner_loss=self._inner_loss(loss),
            route=self.execution(),
        )
