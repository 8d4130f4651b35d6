"""The inner loop whose support loss, at the parameters before it, is a part of what the outer loop minimises."""

from typing import Any, Protocol

from torch import Tensor

from fastadapt.inner.calculus import Calculus, Params
from fastadapt.inner.differentiation import Differentiation
from fastadapt.inner.trajectory import Carry
from fastadapt.layers.bound import Bound
from fastadapt.layers.norm import NormPlan, Statistics
from fastadapt.methods.loop import Adapting, InnerLoop, State

SUPPORT_LOSS = "task:support loss"
"""What the support loss is called among the adapted parameters, beside which it travels to the end of the loop."""


class Splitting(Adapting, Protocol):
    """What this inner loop takes from a learner."""

    differentiation: Differentiation

    @property
    def weights(self) -> tuple[float, float]:
        """The weights of the support loss before and of the query loss after the inner steps."""
        ...


class SplitLoop(InnerLoop):
    """Judge `a L_S(theta) + b L_Q(theta^k)`; the first step's loss is used again and computed once.

    Args:
        learner: as in `InnerLoop`, with the weights `(a, b)`.
        state: as in `InnerLoop`.
        plan: as in `InnerLoop`.
        steps: as in `InnerLoop`.
        task: as in `InnerLoop`.
    """

    def __init__(self, learner: Splitting, state: State, plan: NormPlan, steps: int, task: State) -> None:
        super().__init__(learner, state, plan, steps, task)
        self.splitting = learner
        self.support = task["support"]

    def bound(self, fixed: Any, constants: Any, theta: Params, statistics: Statistics, **options: Any) -> Bound:
        """Return the model with these parameters, without what travels beside them."""
        return super().bound(fixed, constants, without_loss(theta), statistics, **options)

    def support_loss(self, fixed: Any, constants: Any, theta: Params, batch: Any) -> tuple[Tensor, Any]:
        """Return the inner objective, and beside the moments to feed the objective again, with its graph."""
        value, fed = super().support_loss(fixed, constants, theta, batch)
        return value, (value, fed)

    def advance(
        self, calculus: Calculus, fixed: Any, constants: Any, carry: Carry, task: Any, through: bool
    ) -> tuple[Carry, Any]:
        """Return the carry after one inner step, with the loss ahead of the first one in it."""
        before, carry = carry[0].get(SUPPORT_LOSS), (without_loss(carry[0]), carry[1])
        (theta, state), report = super().advance(calculus, fixed, constants, carry, task, through)
        value, fed = report["fed"]
        return ({**theta, SUPPORT_LOSS: value if before is None else before}, state), {**report, "fed": fed}

    def judge(self, fixed: Any, constants: Any, theta: Params, task: Any) -> tuple[Tensor, dict[str, Any]]:
        """Return `a L_S(theta) + b L_Q(theta^k)`, and both among the metrics."""
        of_query, report = super().judge(fixed, constants, theta, task)
        of_support = theta.get(SUPPORT_LOSS)
        if of_support is None:  # no step was taken
            of_support = self._at(fixed, theta)
        a, b = self.splitting.weights
        told = {"support loss": of_support.detach(), "query loss": of_query.detach()}
        return a * of_support + b * of_query, {**report, "metrics": {**report["metrics"], **told}}

    def before(self, calculus: Calculus, theta: Params, fixed: Any) -> tuple[Params, Any]:
        """Return the gradient to the meta-parameters: where inner steps are constants, that of L_S is added."""
        theta = without_loss(theta)
        if self.splitting.differentiation.through or not self.steps:
            return theta, fixed
        a, _ = self.splitting.weights
        (more, rest), _, _ = calculus.outer(lambda at: (a * self._at(at[1], at[0]), ()), (self.theta, self.fixed))
        total = {name: gradient + more[name] for name, gradient in theta.items()}
        return total, {part: {name: g + rest[part][name] for name, g in fixed[part].items()} for part in fixed}

    def _at(self, fixed: Any, theta: Params) -> Tensor:
        """Return `L_S` at the parameters before the loop."""
        batch = self.data(self.support, fixed, "support")
        return self.support_loss(fixed, self.constants(0), theta, batch)[0]


def without_loss(theta: Params) -> Params:
    """Return the parameters without the support loss that travels beside them."""
    return {name: value for name, value in theta.items() if name != SUPPORT_LOSS}
