"""Whose turn it is to run a module: one thread after another, as binding and modes change the module for a while."""

import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import nn

_locks: dict[int, threading.RLock] = {}
_making = threading.Lock()


def _lock(part: nn.Module) -> threading.RLock:
    key = id(part)
    lock = _locks.get(key)
    if lock is None:
        with _making:
            lock = _locks.get(key)
            if lock is None:
                lock = _locks[key] = threading.RLock()
                weakref.finalize(part, _locks.pop, key, None)
    return lock


@contextmanager
def turn(module: nn.Module) -> Iterator[None]:
    """Let no other thread run the module, or one that shares a part with it, until the end of the block.

    A thread may take a turn within its own.
    """
    parts = [part for part in module.modules() if part._parameters or part._buffers or part is module]
    with ExitStack() as taken:
        for part in sorted(parts, key=id):  # in one order, so that no two threads wait for each other
            taken.enter_context(_lock(part))
        yield
