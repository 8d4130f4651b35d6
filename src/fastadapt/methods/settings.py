"""Methods as settings of a run."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import nn

from fastadapt.arguments import added, argument, default_of
from fastadapt.engine.execution import Execution
from fastadapt.errors import ConfigError
from fastadapt.inner.differentiation import MetaGradient
from fastadapt.layers.norm import Norm
from fastadapt.learner import Learner
from fastadapt.losses import CrossEntropy, Loss, Reduction
from fastadapt.methods.displacement import InnerState
from fastadapt.methods.fine_tune import FineTune
from fastadapt.methods.foml import FOML
from fastadapt.methods.maml import MAML
from fastadapt.methods.nearest import NearestNeighbour
from fastadapt.methods.pretrain import Pretrain
from fastadapt.methods.reptile import Reptile
from fastadapt.rules.rules import SGD, Adam, Clip, Momentum, Rate, Rule


@dataclass(frozen=True)
class _InnerSteps(Execution):
    """What MAML and Reptile share: the inner rule and how often it steps."""

    inner_lr: float = default_of(SGD, "lr")
    """Inner step size alpha."""
    inner_rule: Literal["sgd", "momentum", "adam"] = "sgd"
    """Inner update rule; adam has beta1 = 0."""
    momentum: float = default_of(Momentum, "momentum")
    """For the momentum rule."""
    inner_clip: float | None = None
    """Bound the norm of the inner gradient."""
    loss_reduction: Reduction = default_of(CrossEntropy, "reduction")
    """Scale of the inner loss: with N ways, "sum_over_classes" at alpha equals "mean" at N alpha; with "sum", as
    Reptile's code has it, the rate is per sample of a minibatch."""
    steps: int = default_of(MAML, "steps")
    """Inner steps in training."""

    def _rule(self, rates: Rate | None = None) -> Rule:
        lr = self.inner_lr if rates is None else rates
        rules: dict[str, Rule] = {"sgd": SGD(lr), "momentum": Momentum(lr, self.momentum), "adam": Adam(lr, beta1=0.0)}
        rule = rules[self.inner_rule]
        return rule if self.inner_clip is None else Clip(rule, self.inner_clip)

    def _inner_loss(self, loss: Loss) -> Loss:
        return CrossEntropy(self.loss_reduction) if isinstance(loss, CrossEntropy) else loss


@dataclass(frozen=True)
class MAMLMethod(_InnerSteps):
    """MAML, FOMAML, ANIL, BOIL."""

    learner: ClassVar[type[MAML]] = MAML
    test_steps: int = 1  # a number, where the constructor's None would follow `steps`
    """Inner steps in evaluation and for a new task."""
    meta_gradient: MetaGradient = default_of(MAML, "meta_gradient")
    """Exact, or first order (FOMAML)."""
    adapt: tuple[str, ...] = ("*",)  # "all" of the constructor, as a pattern
    """Which parameters adapt: patterns over names ("!" excludes), or head (ANIL), or body (BOIL)."""
    norm: Norm = default_of(MAML, "norm")
    """Batch-norm mode."""
    batch: int | None = added(None)
    """Samples of an inner minibatch in training, drawn anew for every step; None takes the whole support set."""

    def mean_loss_lr(self, ways: int | None, shots: int) -> float:
        """Return the inner rate that does with a mean loss what `inner_lr` does with this reduction."""
        examples = (ways or 1) * shots
        scale = {"mean": 1, "sum_over_classes": ways or 1, "sum": examples}[self.loss_reduction]
        return self.inner_lr * scale

    def rule(self, model: nn.Module) -> Rule:
        """Return the inner update rule."""
        return self._rule()

    def build(self, model: nn.Module, loss: Loss) -> Learner:
        """Return the learner around `model`."""
        return self.learner(model, loss, rule=self.rule(model), **self._settings(loss))

    def _settings(self, loss: Loss) -> dict[str, Any]:
        return {"meta_gradient": self.meta_gradient, "batch": self.batch, **settings_of(self, loss)}


def settings_of(method: Any, loss: Loss) -> dict[str, Any]:
    """Return what a method of the MAML family gives its constructor beside rule and meta-gradient."""
    return {
        "steps": method.steps,
        "test_steps": method.test_steps,
        "adapt": method.adapt[0] if len(method.adapt) == 1 else method.adapt,
        "norm": method.norm,
        "inner_loss": method._inner_loss(loss),
        "route": method.execution(),
    }


@dataclass(frozen=True)
class ReptileMethod(_InnerSteps):
    """Reptile."""

    # rule, minibatches, test steps and state: the public code's for Omniglot, 5 ways, not the constructor's
    inner_lr: float = default_of(Adam, "lr")
    inner_rule: Literal["sgd", "momentum", "adam"] = "adam"
    steps: int = default_of(Reptile, "steps")
    batch: int | None = 10
    """Samples of a minibatch in training."""
    test_steps: int = 50
    """Inner steps in evaluation and for a new task."""
    test_batch: int | None = 5
    """Samples of a minibatch in evaluation."""
    replacement: bool = argument(Reptile, "replacement")
    inner_state: InnerState = "serial"
    """Adam's moments between tasks: reset, serial (as the reference code) or mean."""
    norm: Norm = default_of(Reptile, "norm")
    """Batch-norm mode."""

    def build(self, model: nn.Module, loss: Loss) -> Learner:
        """Return the learner around `model`."""
        return Reptile(model, self._inner_loss(loss), **self._settings())

    def _settings(self) -> dict[str, Any]:
        return {
            "rule": self._rule(),
            "steps": self.steps,
            "batch": self.batch,
            "test_steps": self.test_steps,
            "test_batch": self.test_batch,
            "replacement": self.replacement,
            "inner_state": self.inner_state,
            "norm": self.norm,
            "route": self.execution(),
        }


@dataclass(frozen=True)
class FOMLMethod(ReptileMethod):
    """First-order MAML as the Reptile paper compares it: only the last inner step counts."""

    tail: int | None = default_of(FOML, "tail")
    """Samples of each class kept apart for the last step; None takes the next minibatch of the stream."""

    def build(self, model: nn.Module, loss: Loss) -> Learner:
        """Return the learner around `model`."""
        return FOML(model, self._inner_loss(loss), tail=self.tail, **self._settings())


@dataclass(frozen=True)
class PretrainMethod(Execution):
    """Joint training, then fine-tuning; the oracle with no step at all."""

    inner_lr: float = default_of(SGD, "lr")
    """Step size of fine-tuning."""
    test_steps: int = 10  # the constructor takes one
    """Steps of fine-tuning."""
    norm: Norm = default_of(Pretrain, "norm")
    """Batch-norm mode."""

    def build(self, model: nn.Module, loss: Loss) -> Learner:
        """Return the learner around `model`."""
        return Pretrain(
            model, loss, rule=SGD(self.inner_lr), test_steps=self.test_steps, norm=self.norm, route=self.execution()
        )


@dataclass(frozen=True)
class FineTuneMethod(Execution):
    """A classifier of all training classes, then a fresh head and fine-tuning."""

    inner_lr: float = default_of(FineTune, "lr")
    """First step size of fine-tuning; to be tuned on validation tasks."""
    lr_decay: float = default_of(FineTune, "decay")
    """The step size is divided by 1 + lr_decay * step."""
    test_steps: int = default_of(FineTune, "test_steps")
    """Steps of fine-tuning."""
    norm: Norm = argument(FineTune, "norm")

    def build(self, model: nn.Module, loss: Loss, classes: int | None) -> Learner:
        """Return the learner around `model`, a network with as many outputs as a test task has classes."""
        return FineTune(
            model,
            loss,
            classes=_some(classes),
            lr=self.inner_lr,
            decay=self.lr_decay,
            test_steps=self.test_steps,
            norm=self.norm,
            route=self.execution(),
        )


@dataclass(frozen=True)
class NearestMethod(Execution):
    """A classifier of all training classes, then the label of the most similar support sample."""

    norm: Norm = argument(NearestNeighbour, "norm")

    def build(self, model: nn.Module, loss: Loss, classes: int | None) -> Learner:
        """Return the learner around `model`, a network with as many outputs as a test task has classes."""
        return NearestNeighbour(model, loss, classes=_some(classes), norm=self.norm, route=self.execution())


def _some(classes: int | None) -> int:
    if classes is None:
        raise ConfigError("a classifier of all training classes needs data with classes; waves have none")
    return classes
