"""The inner loop over a stream: a step on each chunk, whose loss ahead of the step is what the outer loop minimises."""

from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from fastadapt.inner.calculus import Calculus, Params
from fastadapt.inner.differentiation import Differentiation
from fastadapt.inner.runner import Runner
from fastadapt.inner.sweep import UNROLLED, sweep
from fastadapt.inner.trajectory import Carry, Loop
from fastadapt.layers.bound import Bound
from fastadapt.layers.norm import Statistics
from fastadapt.methods.loop import InnerLoop
from fastadapt.tasks import map_tensors

READ = "task:losses of what was read"
"""What the sum of the losses so far is called among the adapted parameters, beside which it travels to the end."""

PAIR = 2
"""Steps of a long stream whose first-order graph is kept at once: it is small, and fewer weights are kept instead."""


class StreamLoop(InnerLoop):
    """Judge the mean over chunks of the loss on each, with the parameters ahead of the step on it.

    The losses of the inner steps are used; only where inner gradients are constants is each computed once more, with
    the graph that is wanted. The last chunk is the query.
    """

    def bound(self, fixed: Any, constants: Any, theta: Params, statistics: Statistics, **options: Any) -> Bound:
        """Return the model with these parameters, without what travels beside them."""
        return super().bound(fixed, constants, without_sum(theta), statistics, **options)

    def support_loss(self, fixed: Any, constants: Any, theta: Params, batch: Any) -> tuple[Tensor, Any]:
        """Return the loss on one chunk `[1, n, ...]`, and beside the moments to feed the loss again, with its graph."""
        value, fed = super().support_loss(fixed, constants, theta, map_tensors(lambda leaf: leaf[0], batch))
        return value, (value, fed)

    def advance(
        self, calculus: Calculus, fixed: Any, constants: Any, carry: Carry, task: Any, through: bool
    ) -> tuple[Carry, Any]:
        """Return the carry after the step on one chunk, with its loss ahead of the step in the sum."""
        before, theta = carry[0].get(READ), without_sum(carry[0])
        (after, state), report = super().advance(calculus, fixed, constants, (theta, carry[1]), task, through)
        value, fed = report["fed"]
        if not through and any(p.requires_grad for p in theta.values()):
            rows, batch = task["rows"], self.data(task["support"], fixed, "support")
            value, _ = self.support_loss(fixed, constants, theta, pytree.tree_map(lambda leaf: leaf[rows], batch))
        total = value if before is None else before + value
        return ({**after, READ: total}, state), {**report, "fed": fed}

    def judge(self, fixed: Any, constants: Any, theta: Params, task: Any) -> tuple[Tensor, dict[str, Any]]:
        """Return the mean over all chunks, the last one included; the metrics are those of the last."""
        loss, report = super().judge(fixed, constants, theta, task)
        before = theta.get(READ)
        return (loss if before is None else (before + loss) / (self.steps + 1)), report


class AlongStream:
    """Differentiate what a stream's loop judges at its end, whose sum has the losses of all steps in it.

    Args:
        by: how the gradient passes through the inner steps: exact or first order.
    """

    def __init__(self, by: Differentiation) -> None:
        self.by = by
        self.name, self.through = by.name, by.through

    def gradient(
        self, run: Runner, loop: Loop, start: Carry, fixed: Any, task: Any, weights: Any
    ) -> tuple[Any, Any, Tensor, Any]:
        """Return `(gradient to theta^0, gradient to f, meta-objective, report)`, see `Differentiation`."""
        last = {loop.steps: 1.0}
        if self.through:
            theta, rest, loss, report = self.by.gradient(run, loop, start, fixed, task, last)
        else:
            pair = PAIR if loop.steps > UNROLLED else None
            theta, rest, loss, report = sweep(run, loop, start, fixed, task, last, segment=pair, through=False)
        return without_sum(theta), rest, loss, report


def without_sum(theta: Params) -> Params:
    """Return the parameters without the sum of losses that travels beside them."""
    return {name: value for name, value in theta.items() if name != READ}
