"""Nearest neighbour on features of a classifier, or on pixels: baselines of Ravi & Larochelle (2017)."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fastadapt.engine.engine import Route
from fastadapt.engine.execution import Execution
from fastadapt.inner.calculus import Params
from fastadapt.layers.bound import Bound, inside
from fastadapt.layers.norm import Norm, NormPlan, Statistics
from fastadapt.learner import Trace
from fastadapt.losses import Loss
from fastadapt.methods.loop import InnerLoop, State
from fastadapt.methods.transfer import Transfer
from fastadapt.nets.nearest import Nearest, directions, headless
from fastadapt.predictor import Predictor, frozen_copy
from fastadapt.tasks import Tasks


class NearestNeighbour(Transfer):
    r"""Train a classifier of all training classes; answer with the label of the most similar support sample.

        s_c(x) = max_{j: y_j = c} cos(f(x), f(x_j)),      y(x) = argmax_c s_c(x)

    where `f(x)` is the input of the network's last linear layer. This is one nearest neighbour for any number of
    shots, not a comparison with class means. The outputs are the `s_c` in [-1, 1]: they rank the classes, and as
    logits they are nearly uniform, so read the accuracy and not the cross-entropy. There are no inner steps, and a
    trace has the one column.

    The pixels themselves are compared by a network that is nothing but a head: `MLP(784, (), ways)`.

    Args:
        model: the network of a new task, see `Transfer`; of its head only the number of outputs matters.
        loss: on logits; default cross-entropy.
        classes: how many training classes there are; None for features that were trained elsewhere, or none.
        norm: the batch-norm mode; any but "per_step".
        route: "auto", "vmap" or "loop", or an `Execution`.

    Raises:
        ConfigError: for a setting outside its range.
        SelectionError: if the network does not end with a linear layer.

    Example:
        >>> from fastadapt import MLP
        >>> pixels = NearestNeighbour(MLP(4, (), 2))
        >>> predict = pixels.adapt((torch.tensor([[1.0, 0, 0, 0], [0, 0, 1, 1]]), torch.tensor([1, 0])))
        >>> predict(torch.tensor([[0.5, 0.2, 0, 0]])).argmax(-1)
        tensor([1])

    References:
        Ravi, Larochelle 2017, Optimization as a Model for Few-Shot Learning (ICLR), section 5.1.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        classes: int | None = None,
        norm: Norm = "running",
        route: Route | Execution = "auto",
    ) -> None:
        super().__init__(model, loss, classes=classes, norm=norm, route=route)

    def _loop(self, state: State, plan: NormPlan, support: Any, query: Any, extra: Any, steps: int) -> InnerLoop:
        return NearestLoop(self, state, plan, {"support": support, "query": query, **extra})

    def adapting(
        self, support: Any, steps: int | None = None, norm: Norm | None = None, rate: float | None = None
    ) -> Iterator[Predictor]:
        """Yield the one predictor that there is without inner steps."""
        yield self.adapt(support, steps, norm)

    def _trace(self, groups: list[Tasks], k: int, norm: Norm | None, after: tuple[int, ...]) -> Trace:
        return super()._trace(groups, 0, norm, (0,))

    def _adapt(self, support: Any, k: int, norm: Norm | None) -> Predictor:
        state = self.state()
        plan = self._plan(state, norm)
        x, y = support
        with torch.no_grad():
            loop = NearestLoop(self, state, plan, {"support": support, "query": None})
            found = inside(loop.bound(loop.fixed, loop.constants(0), loop.theta, Statistics()))
            statistics = plan.query(lambda own: loop.bound(loop.fixed, loop.constants(0), loop.theta, own)(x))
        network = frozen_copy(Nearest(self.model, len(y)), found.params, found.buffers)
        return Predictor(network, plan.mode, statistics.given or [], x if plan.beside_support else None).eval()


class NearestLoop(InnerLoop):
    """Remember the support set in place of adapting to it.

    Args:
        learner: as in `InnerLoop`.
        state: as in `InnerLoop`.
        plan: as in `InnerLoop`.
        task: as in `InnerLoop`.
    """

    def __init__(self, learner: NearestNeighbour, state: State, plan: NormPlan, task: State) -> None:
        super().__init__(learner, state, plan, 0, task)
        x, y = task["support"]
        self.nearest = Nearest(learner.model, 1).eval()  # how many samples it can hold follows from the buffers
        self.unused = set(learner.head)
        body = Bound(headless(learner.model), *self._of_body(self.fixed, self.constants(0), self.theta), plan.support())
        self.remembered: dict[str, Tensor] = {"support": directions(body(x)), "labels": y}

    def bound(self, fixed: Any, constants: Any, theta: Params, statistics: Statistics, **options: Any) -> Bound:
        """Return the comparison with the support set."""
        parts = self._of_body(fixed, constants, theta)
        params, buffers = ({f"body.{name}": value for name, value in part.items()} for part in parts)
        return Bound(self.nearest, params, {**buffers, **self.remembered}, statistics, **options)

    def _of_body(self, fixed: Any, constants: Any, theta: Params) -> tuple[Params, Params]:
        params = {**constants["params"], **fixed["params"], **theta}
        return {name: p for name, p in params.items() if name not in self.unused}, constants["buffers"]
