"""Strategy "vmapped": many tasks at once with `torch.func.vmap`, in chunks that fit the memory.

The gradient is taken *inside* of the vmap: one that is taken from outside is wrong for some normalisation layers in
torch 2.13.
"""

from dataclasses import dataclass
from typing import Any

from torch.func import vmap
from torch.utils import _pytree as pytree

from fastadapt.batches.leaves import task_axes
from fastadapt.engine.check import python_states
from fastadapt.engine.loop import Loop
from fastadapt.engine.parts import Results, in_chunks
from fastadapt.engine.strategy import TaskFunction
from fastadapt.inner.calculus import Functional
from fastadapt.inner.generators import random_state, set_random_state
from fastadapt.inner.runner import Inline
from fastadapt.layers.kernels import written_out_where_wanted
from fastadapt.layers.patches import kept
from fastadapt.layers.rewrites import tell_once
from fastadapt.tasks import Tasks


@dataclass(frozen=True)
class Vmapped:
    """Run all tasks at once, or in a loop where Python code draws random numbers, which all of them would share.

    Args:
        segment: inner steps to differentiate at once.
        chunk: the most tasks to run at once; None is all.
    """

    segment: int | None = None
    chunk: int | None = None

    def run(self, f: TaskFunction, state: Any, tasks: Tasks, extra: Any) -> Results:
        """Return the mean over tasks of the first result, and the stack of the second."""

        def at_once(few: Tasks, rest: Any) -> Results:
            before, stood = random_state(state), python_states()
            results = written_out_where_wanted(lambda: self.of_tensors(f, state, few.support, few.query, rest))
            if python_states() == stood:
                return results
            # code that the watch does not look into (a library's), or that it did not yet see drawing
            tell_once("tasks run in a loop, because something draws from Python's or numpy's random numbers now")
            set_random_state(before)
            return Loop(self.segment).run(f, state, few, rest)

        return in_chunks(self.chunk, tasks, extra, at_once)

    def of_tensors(self, f: TaskFunction, state: Any, support: Any, query: Any, extra: Any) -> Results:
        """Run all tasks at once, as a function of tensors alone."""

        def one(support: Any, query: Any, rest: Any) -> Results:
            return f(state, support, query, rest, Inline(Functional(), self.segment))

        axes = (task_axes(support), task_axes(query), 0)
        with kept((support, query)):
            averaged, stacked = vmap(one, in_dims=axes, randomness="different")(support, query, extra)
        return pytree.tree_map(lambda leaf: leaf.mean(0), averaged), stacked
