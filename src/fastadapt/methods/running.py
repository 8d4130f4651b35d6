"""Run a function of one task over a meta-batch, such that nothing that requires a gradient is lost on the way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fastadapt.engine.engine import Engine, TaskFunction
from fastadapt.engine.shapes import scattered
from fastadapt.inner.calculus import Captured
from fastadapt.inner.generators import random_state, set_random_state
from fastadapt.inner.runner import Runner
from fastadapt.inner.unchanged import unchanged
from fastadapt.layers.turns import turn
from fastadapt.methods.fitting import check_labels
from fastadapt.methods.loop import State
from fastadapt.methods.results import Leaves, Ran, without_graph
from fastadapt.tasks import Tasks

Extra = Mapping[str, Sequence[Tensor] | Tensor]
"""What each task needs besides its samples, a row for each."""


@dataclass(frozen=True)
class Running:
    """Hold what runs the tasks of a learner.

    Args:
        engine: the engine.
        learner: whose network runs, and whose Python state is watched.
        key: what distinguishes this computation beside its shapes.
    """

    engine: Engine
    learner: Any
    key: tuple[Any, Any]

    def run(self, f: TaskFunction, state: State, groups: list[Tasks], extra: Extra, pieces: bool) -> Ran:
        """Run `f` over every group.

        Args:
            f: the function of one task.
            state: the tensors that it depends on.
            groups: the tasks.
            extra: what each task needs besides.
            pieces: whether `f` does nothing but call pieces through its runner, so that they can be compiled.
        """
        kind = self.key[0][0]
        if kind not in self.learner.unchecked:
            check_labels(self.learner, groups, judged=kind == "trace")
        cut = [without_graph(group) for group in groups]
        began = random_state(state["params"])
        ran = self._once(f, state, cut, extra, self.key[0], pieces)

        def again(weights: Tensor) -> Ran:
            def weighed(state: State, support: Any, query: Any, extra: Any, run: Runner) -> tuple[Any, Any]:
                rest = {name: value for name, value in extra.items() if name != "weight"}
                averaged, stacked = f(state, support, query, rest, run)
                return pytree.tree_map(lambda leaf: extra["weight"] * leaf, averaged), stacked

            before = random_state(state["params"])
            set_random_state(began)
            try:
                with turn(self.learner.model), torch.enable_grad():
                    key = (*self.key[0], "weighed")
                    return self._once(weighed, state, cut, {**extra, "weight": weights}, key, False)
            finally:
                set_random_state(before)

        ran.again = again
        return ran

    def _once(self, f: TaskFunction, state: State, groups: list[Leaves], extra: Extra, key: Any, pieces: bool) -> Ran:
        count = sum(len(group.tasks) for group in groups)
        total: Any = None
        stacked = []
        captured = Captured()
        alone = scattered([group.tasks for group in groups])
        for group in groups:
            tasks = group.tasks
            rest = {name: torch.stack([value[p] for p in tasks.positions]) for name, value in extra.items()}
            rest |= group.asked
            known = (*key, *group.asked, self.key[1])
            pieced = pieces and not group.asked
            with unchanged((tasks.support, tasks.query), self.learner.model):
                mean, each = self.engine(
                    f, state, tasks, rest, self.learner.model, known, pieced, self.learner, captured, alone
                )
            if len(groups) > 1:
                share = len(tasks) / count
                mean = pytree.tree_map(lambda leaf, s=share: leaf * s, mean)
            total = mean if total is None else pytree.tree_map(torch.add, total, mean)
            stacked.append((tasks, each))
        captured.check(self.learner.model, self.learner.adapted)
        return Ran(total, stacked, captured, groups)
