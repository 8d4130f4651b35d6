"""Strategy "loop": one task after another with plain autograd, which runs whatever torch runs."""

from dataclasses import dataclass
from typing import Any

from torch.utils import _pytree as pytree

from fastadapt.engine.parts import Results, mean_and_stack
from fastadapt.engine.strategy import TaskFunction
from fastadapt.inner.calculus import Autograd, Captured
from fastadapt.inner.runner import Inline
from fastadapt.layers.kernels import on_kernels_that_differentiate
from fastadapt.layers.tracing import written_for
from fastadapt.tasks import Tasks


@dataclass(frozen=True)
class Loop:
    """Run one task after another.

    Args:
        segment: inner steps to differentiate at once.
        captured: gathers the gradients of what else tasks depend on, summed over them, with a task's weight of
            `extra["weight"]`.
    """

    segment: int | None = None
    captured: Captured | None = None

    def run(self, f: TaskFunction, state: Any, tasks: Tasks, extra: Any) -> Results:
        """Return the mean over tasks of the first result, and the stack of the second."""
        run, captured = Inline(Autograd(self.captured), self.segment), self.captured

        def one(t: int) -> Results:
            task, rest = tasks[t], pytree.tree_map(lambda leaf: leaf[t], extra)

            def run_task() -> tuple[Any, Any]:
                if captured is not None:
                    captured.open()
                return f(state, task.support, task.query, rest, run)

            result = on_kernels_that_differentiate(run_task)
            if captured is not None:
                captured.close(rest.get("weight") if rest else None)
            return result

        with written_for("autograd"):
            return mean_and_stack(len(tasks), map(one, range(len(tasks))))
