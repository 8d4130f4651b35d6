"""Independent tasks on several threads, each computing on one core."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

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
