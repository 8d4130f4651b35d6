"""Where the random generators stand that a forward pass can draw from: torch's, Python's and numpy's."""

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree


@dataclass(frozen=True)
class RandomState:
    """Hold the states of the generators that serve a computation.

    Args:
        cpu: of torch on the CPU.
        devices: of torch on each GPU, by its name.
        python: of `random`.
        numpy: of `numpy.random`.

    Example:
        >>> before = random_state(())
        >>> drawn = random.random(), np.random.randn()
        >>> set_random_state(before)
        >>> drawn == (random.random(), np.random.randn())
        True
    """

    cpu: Tensor
    devices: tuple[tuple[str, Tensor], ...]
    python: Any
    numpy: Any


def random_state(tree: Any) -> RandomState:
    """Return the states of the generators that serve the devices of `tree`, and of those that serve none.

    That of a GPU is left out while a CUDA graph is recorded: what it draws has no state then, see
    `fastadapt.engine.graph`.
    """
    tensors = [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]
    devices = sorted({str(tensor.device) for tensor in tensors if tensor.is_cuda})
    if devices and torch.cuda.is_current_stream_capturing():
        devices = []
    return RandomState(
        torch.get_rng_state(),
        tuple((device, torch.cuda.get_rng_state(device)) for device in devices),
        random.getstate(),
        np.random.get_state(legacy=False),
    )


def set_random_state(state: RandomState) -> None:
    """Put the generators into a state that `random_state` returned."""
    seen = _repeats.get()
    if seen is not None:
        seen.append("set")
    torch.set_rng_state(state.cpu)
    for device, value in state.devices:
        torch.cuda.set_rng_state(value, device)
    random.setstate(state.python)
    np.random.set_state(state.numpy)


_theirs = threading.RLock()


@contextmanager
def torch_random_kept(devices: Sequence[torch.device | int] = (), *, seed: int | None = None) -> Iterator[None]:
    """Leave torch's random generators as they were, and let one thread at a time do so.

    Torch has one generator for a process. Two threads of a service that seed it or put it back at once would get each
    other's numbers.

    Args:
        devices: the GPUs whose generators are kept as well.
        seed: to begin with; None goes on with the generators as they are.

    Example:
        >>> with torch_random_kept(seed=0):
        ...     first = torch.rand(())
        >>> with torch_random_kept(seed=0):
        ...     first == torch.rand(())
        tensor(True)
    """
    with _theirs, torch.random.fork_rng(devices=list(devices)):
        if seed is not None:
            torch.manual_seed(seed)
        yield


_repeats: ContextVar[list[str] | None] = ContextVar("repeats", default=None)


@contextmanager
def repeats() -> Iterator[list[str]]:
    """Gather, in the list that is yielded, each time that something is computed again with its random numbers."""
    seen: list[str] = []
    token = _repeats.set(seen)
    try:
        yield seen
    finally:
        _repeats.reset(token)
