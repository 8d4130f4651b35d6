"""Methods of the MAML family whose step is learned, or that adapt a context, as settings of a run."""

from dataclasses import dataclass

from torch import nn

from fastadapt.arguments import argument, default_of
from fastadapt.engine.execution import Execution
from fastadapt.inner.differentiation import MetaGradient
from fastadapt.layers.norm import Norm
from fastadapt.learner import Learner
from fastadapt.losses import Loss
from fastadapt.methods.cavia import CAVIA
from fastadapt.methods.maml import MAML
from fastadapt.methods.settings import MAMLMethod
from fastadapt.rules.curvature import MetaCurvature, curvature
from fastadapt.rules.meta_lstm import Feedback, Gates, MetaLSTM
from fastadapt.rules.rates import learned_rates
from fastadapt.rules.rules import Rule, with_lr
from fastadapt.selection import Selection


@dataclass(frozen=True)
class MetaLSTMMethod(Execution):
    """Meta-learner LSTM: a learned optimizer, and the start that it begins from."""

    inner_lr: float = default_of(MetaLSTM, "lr")
    """What each gradient is multiplied by before the LSTM sees it; 1 leaves it as it is."""
    hidden: int = argument(Gates, "hidden")
    feedback: Feedback = argument(Gates, "feedback")
    steps: int = 5  # the constructor's one step would show the LSTM no past
    """Inner steps in training."""
    test_steps: int = 5
    """Inner steps in evaluation and for a new task."""
    meta_gradient: MetaGradient = "first_order"  # as published
    """First order takes gradients and losses as constants; exact passes through them too."""
    adapt: tuple[str, ...] = ("*",)  # "all" of the constructor, as a pattern
    """Which parameters adapt: patterns over names ("!" excludes), or head, or body."""
    norm: Norm = default_of(MAML, "norm")
    """Batch-norm mode."""

    def build(self, model: nn.Module, loss: Loss) -> Learner:
        """Return the learner around `model`."""
        return MAML(
            model,
            loss,
            rule=MetaLSTM(self.inner_lr, Gates(self.hidden, self.feedback)),
            steps=self.steps,
            test_steps=self.test_steps,
            meta_gradient=self.meta_gradient,
            adapt=_selection(self.adapt),
            norm=self.norm,
            route=self.execution(),
        )


@dataclass(frozen=True)
class MetaCurvatureMethod(MAMLMethod):
    """Meta-Curvature: MAML with learned matrices on its inner gradients."""

    learn_rates: bool = False
    """Learn the inner step size too, one for each tensor (MC2)."""

    def rule(self, model: nn.Module) -> Rule:
        """Return the rule of MAML behind matrices for the parameters of `model`."""
        rule, matrices = self._rule(), curvature(model, _selection(self.adapt))
        if self.learn_rates:
            rule = with_lr(rule, learned_rates(model, self.inner_lr, per="tensor"))
        return MetaCurvature(rule, matrices)


@dataclass(frozen=True)
class CAVIAMethod(MAMLMethod):
    """CAVIA: a context adapts, from 0 for each task, and the network around it is learned."""

    inner_lr: float = 1.0  # of CAVIA's own
    """Inner step size alpha."""
    adapt: tuple[str, ...] = (default_of(CAVIA, "adapt"),)
    """Which parameters are the context, by patterns over their names."""

    learner = CAVIA


def _selection(patterns: tuple[str, ...]) -> Selection:
    """Return one pattern by itself, as it may be a word such as "head"."""
    return patterns[0] if len(patterns) == 1 else patterns
