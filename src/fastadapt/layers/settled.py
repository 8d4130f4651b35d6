"""What a module has kept on itself while tensors were bound: without the graph that it was made by."""

from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import Tensor

_functorch: Any = torch._C._functorch  # type: ignore[attr-defined]

DEPTH = 3  # containers in containers that are looked through
ABSENT: Any = object()


def settle(value: Any, had: Collection[int] = (), depth: int = DEPTH) -> Any:
    """Return what a module has kept on itself without its graph; `ABSENT` for what a vmap leaves behind.

    Args:
        value: what it has kept.
        had: the ids of tensors that it had before, which are the user's and stay as they are, with their graph.
        depth: containers in containers that are looked through.
    """
    if isinstance(value, Tensor):
        if id(value) in had:
            return value
        if _functorch.is_functorch_wrapped_tensor(value):
            return ABSENT
        return value.detach() if value.grad_fn is not None else value
    if not depth or type(value) not in (list, tuple, dict):
        return value
    if isinstance(value, dict):
        kept = {key: settle(item, had, depth - 1) for key, item in value.items()}
        kept = {key: item for key, item in kept.items() if item is not ABSENT}
        same = len(kept) == len(value) and all(kept[key] is value[key] for key in kept)
        if not same:
            value.clear()
            value.update(kept)
        return value
    items = [item for item in (settle(item, had, depth - 1) for item in value) if item is not ABSENT]
    if len(items) == len(value) and all(a is b for a, b in zip(items, value, strict=True)):
        return value
    if isinstance(value, list):
        value[:] = items
        return value
    return tuple(items)


def tensors_in(value: Any, depth: int = DEPTH) -> Iterator[Tensor]:
    """Yield the tensors that a value is or has in its containers."""
    if isinstance(value, Tensor):
        yield value
    elif depth and type(value) in (list, tuple, dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(item, depth - 1)


def left_by_a_vmap(tensor: Tensor) -> bool:
    """Whether a tensor was kept from inside a vmap that is over, so that nothing can be done with it."""
    return _functorch.is_functorch_wrapped_tensor(tensor) and not inside_a_transform()


def inside_a_transform() -> bool:
    """Whether this runs in a function that `torch.func` transforms (vmap, grad)."""
    return _functorch.peek_interpreter_stack() is not None
