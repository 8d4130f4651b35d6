"""Numbers in the data of a task that are not finite: which tensor holds them, and in which row.

They are looked for before the method is blamed: one missing value makes every loss and gradient of its task not a
number.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fastadapt.batches.leaves import kind_of

SHOWN = 3
"""Tasks that are named in a sentence."""


def not_finite(batch: Any, what: str) -> str | None:
    """Return which tensor of a batch holds a number that is not finite, None where all are.

    Args:
        batch: a support or query set: a pytree of tensors, or objects that keep tensors.
        what: what it is called.

    Returns:
        The first tensor, the first row in it and the value there, and how many more there are.

    Example:
        >>> x = torch.ones(3, 2)
        >>> x[1, 0] = torch.nan
        >>> not_finite((x, torch.zeros(3)), "support")
        'support x, row 1: nan'
    """
    for name, tensor in _named(batch):
        if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.is_nested:
            continue
        wrong = ~torch.isfinite(tensor.detach())
        if not bool(wrong.any()):
            continue
        place = wrong.nonzero()[0]
        value = tensor.detach()[tuple(place)]
        rest = int(wrong.sum()) - 1
        row = f", row {int(place[0])}" if tensor.dim() else ""
        more = f" (and {rest} more of {tensor.numel()} numbers)" if rest else ""
        return f"{what}{name}{row}: {_called(value)}{more}"
    return None


def not_finite_in(task: Any) -> str | None:
    """Return the same of a task, its support first."""
    return not_finite(task.support, "support") or not_finite(task.query, "query")


def faults_of_data(tasks: Sequence[Any], numbers: Sequence[int]) -> list[str]:
    """Return of each task that holds such a number which it is and where: "task 7, support x, row 0: nan".

    Args:
        tasks: groups of tasks, as a meta-batch is made of.
        numbers: the number of each task in its stream, by its position in the meta-batch.
    """
    found = []
    for group in tasks:
        if not_finite_in(group) is None:  # all its tasks at once
            continue
        for position, task in zip(group.positions, group, strict=True):
            fault = not_finite_in(task)
            if fault is not None:
                found.append((numbers[position], fault))
    return [f"task {number}, {fault}" for number, fault in sorted(found)]


def listed(faults: Sequence[str]) -> str:
    """Return the first few faults as part of a sentence."""
    more = f"; and {len(faults) - SHOWN} more tasks" if len(faults) > SHOWN else ""
    return "; ".join(faults[:SHOWN]) + more


def _called(value: Tensor) -> str:
    if value.is_complex():
        return str(value.item())
    number = float(value)
    return "nan" if math.isnan(number) else str(number)


def _named(batch: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor with its name: x and y of a pair, the keys of what is made of others."""
    pair = isinstance(batch, (tuple, list)) and len(batch) == 2
    for path, leaf in pytree.tree_flatten_with_path(batch)[0]:
        name = pytree.keystr(path)
        if pair and isinstance(path[0], pytree.SequenceKey):
            name = f" {'xy'[path[0].idx]}{pytree.keystr(path[1:])}"
        if isinstance(leaf, Tensor):
            yield name, leaf
        elif kind_of(leaf) == "object":
            yield from ((f"{name}.{key}", tensor) for key, tensor in _kept(leaf) if isinstance(tensor, Tensor))


def _kept(leaf: Any) -> list[tuple[str, Any]]:
    """Return what an object of data keeps, by name: a graph says so itself."""
    listed = getattr(leaf, "to_dict", None)
    try:
        items: Any = listed() if callable(listed) else getattr(leaf, "__dict__", {})
        return list(items.items())
    except Exception:  # an object that can't be looked into has nothing to be blamed for
        return []
