"""What a computation consists of: how many operations, how much arithmetic, which ones; counted, and not timed."""

import hashlib
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import flop_registry

from fastadapt.engine.memory import PeakBytes


@dataclass(frozen=True)
class Work:
    """Hold what one task costs.

    Args:
        operations: calls of torch's operations.
        arithmetic: additions and multiplications in matrix products and convolutions.
    """

    operations: int
    arithmetic: float


class Census(PeakBytes):
    """Count the operations that run while this mode is on, and note which they are.

    Two computations with one `digest` have run the same operations on tensors of the same shapes and types, with the
    same numbers among their arguments, in the same order.

    Example:
        >>> import torch
        >>> a = torch.ones(2, 3)
        >>> with Census() as first:
        ...     _ = a @ a.T * 2
        >>> with Census() as second:
        ...     _ = a @ a.T * 3
        >>> first.work
        Work(operations=3, arithmetic=24.0)
        >>> first.digest == second.digest
        False
    """

    def __init__(self) -> None:
        super().__init__()
        self._operations, self._arithmetic = 0, 0.0
        self._seen_so_far = hashlib.sha256()

    @property
    def work(self) -> Work:
        """What was counted."""
        return Work(self._operations, self._arithmetic)

    @property
    def digest(self) -> str:
        """A name of what has run, in hexadecimal digits."""
        return self._seen_so_far.hexdigest()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = super().__torch_dispatch__(func, types, args, kwargs)
        self._operations += 1
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self._arithmetic += float(count(*args, **(kwargs or {}), out_val=out))
        leaves = pytree.tree_leaves((args, kwargs))
        words = [(leaf.shape, leaf.dtype, leaf.stride()) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        self._seen_so_far.update(f"{func} {words}\n".encode())
        return out
