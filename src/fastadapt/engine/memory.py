"""How much memory a computation takes at its peak, how much there is, and how to give back what is free."""

import os
import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from fastadapt.heap import give_back as give_back
from fastadapt.tasks import Tasks


class PeakBytes(TorchDispatchMode):
    """Count the bytes of the tensors that are alive at once while this mode is on; the most ever is `peak`.

    Only storages made inside are counted, each once, on any device.

    Example:
        >>> with PeakBytes() as memory:
        ...     _ = torch.zeros(1000).add(1).sum()
        >>> 8000 <= memory.peak < 8100
        True
    """

    def __init__(self) -> None:
        super().__init__()
        self.alive = 0
        self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in pytree.tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._count(leaf)
        return out

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address in self._seen:
            return
        self._seen.add(address)
        size = storage.nbytes()
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._free, address, size)

    def _free(self, address: int, size: int) -> None:
        self._seen.discard(address)
        self.alive -= size


def budget(device: torch.device, gigabytes: float | None) -> float:
    """Return the bytes that tasks run at once may take: `gigabytes`, or a quarter of the memory (half of a GPU's)."""
    if gigabytes is not None:
        return gigabytes * 1e9
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / 2
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 4


def fitting(bytes_per_task: float, tasks: Tasks, gigabytes: float | None) -> int:
    """Return how many tasks may run at once."""
    device = tasks.device or torch.device("cpu")
    return max(1, int(budget(device, gigabytes) / max(bytes_per_task, 1)))
