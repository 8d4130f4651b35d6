"""Strategy "threads": a program for each piece of a task, and several tasks at the same time, each on one core."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

import torch
from torch.utils import _pytree as pytree

from fastadapt.engine.parts import Results, mean_and_stack
from fastadapt.engine.pieces import Compiled, Kind, laid_out
from fastadapt.engine.strategy import TaskFunction
from fastadapt.tasks import Tasks

T = TypeVar("T")


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Return threads of which each has told torch to use no further ones."""
    return ThreadPoolExecutor(threads, "fastadapt", initializer=lambda: torch.set_num_threads(1))


def run_on_threads(one: Callable[[int], T], count: int, threads: int) -> Iterator[T]:
    """Yield `one(0) .. one(count - 1)` in this order, computed by `threads` threads.

    Two cores that each run a task lose nothing to handing over, which two cores on every operation of one task do. The
    results don't depend on which thread ran what.
    """
    if threads == 1 or count == 1:
        yield from map(one, range(count))
        return

    def without_gradient(i: int) -> T:
        with torch.no_grad():  # a thread has a gradient mode of its own
            return one(i)

    before = torch.get_num_threads()
    torch.set_num_threads(1)  # matrix products share one setting among all threads
    try:
        yield from _pool(threads).map(without_gradient, range(count))
    finally:
        torch.set_num_threads(before)


class Threads:
    """Run one task after another by compiled pieces, several of them at the same time.

    Args:
        kind: "trace" or "on".
        segment: inner steps in one program of the backward sweep.
        threads: tasks at the same time; None is torch's number of threads.
    """

    def __init__(self, kind: Kind, segment: int | None, threads: int | None) -> None:
        self._pieces = Compiled(kind, batched=False, threads=1, segment=segment)
        self._threads = threads

    def run(self, f: TaskFunction, state: Any, tasks: Tasks, extra: Any) -> Results:
        """Return the mean over tasks of the first result, and the stack of the second."""
        state = pytree.tree_map(laid_out, state)  # once, and not for every task

        def one(t: int) -> Results:
            task, rest = tasks[t], pytree.tree_map(lambda leaf: leaf[t], extra)
            return f(state, task.support, task.query, rest, self._pieces)

        threads = self._threads or torch.get_num_threads()
        return mean_and_stack(len(tasks), run_on_threads(one, len(tasks), threads))
