"""What a module has kept on itself while tensors were bound: without the graph that it was made by."""

from typing import Any

import torch
from torch import Tensor

_functorch: Any = torch._C._functorch  # type: ignore[attr-defined]

DEPTH = 3  # containers in containers that are looked through
ABSENT: Any = object()


def settle(value: Any, depth: int = DEPTH) -> Any:
    """Return what a module has kept on itself without its graph; `ABSENT` for what a vmap leaves behind."""
    if isinstance(value, Tensor):
        if _functorch.is_functorch_wrapped_tensor(value):
            return ABSENT
        return value.detach() if value.grad_fn is not None else value
    if not depth or type(value) not in (list, tuple, dict):
        return value
    if isinstance(value, dict):
        kept = {key: settle(item, depth - 1) for key, item in value.items()}
        kept = {key: item for key, item in kept.items() if item is not ABSENT}
        same = len(kept) == len(value) and all(kept[key] is value[key] for key in kept)
        if not same:
            value.clear()
            value.update(kept)
        return value
    items = [item for item in (settle(item, depth - 1) for item in value) if item is not ABSENT]
    if len(items) == len(value) and all(a is b for a, b in zip(items, value, strict=True)):
        return value
    if isinstance(value, list):
        value[:] = items
        return value
    return tuple(items)


def inside_a_transform() -> bool:
    """Whether this runs in a function that `torch.func` transforms (vmap, grad)."""
    return _functorch.peek_interpreter_stack() is not None
