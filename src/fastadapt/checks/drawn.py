"""Tasks that were drawn for a look, as what can be compared: their rows, and their labels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fastadapt.tasks import Task

_COLUMNS = 512
"""Numbers of a row by which it is looked up; what is alike in them is compared as a whole."""


def same_data(one: Any, other: Any) -> bool:
    """Return whether two pytrees hold equal tensors and, but for objects, equal constants."""
    ours, theirs = pytree.tree_leaves(one), pytree.tree_leaves(other)
    if len(ours) != len(theirs):
        return False
    return all(_same(a, b) for a, b in zip(ours, theirs, strict=True))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        a, b = a.detach().reshape(-1), b.detach().reshape(-1)
        first = slice(0, _COLUMNS)  # most differ there, and the rest need not be read
        return _equal(a[first], b[first]) and _equal(a, b)
    return type(a) is type(b)


def _equal(a: Tensor, b: Tensor) -> bool:
    return bool(torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)))


@dataclass(frozen=True)
class Side:
    """Hold the support or the query of a task, where it is a pair of tensors.

    Args:
        x: the inputs, `[n, ...]`.
        y: the labels or targets, `[n, ...]`.
    """

    x: Tensor
    y: Tensor

    @cached_property
    def keys(self) -> list[bytes]:
        """What each row of `x` is looked up by."""
        rows = self.x.detach().reshape(len(self.x), -1)
        if rows.shape[1] > _COLUMNS:
            rows = rows[:, torch.linspace(0, rows.shape[1] - 1, _COLUMNS, device=rows.device).long()]
        rows = rows.cpu()
        flat = rows.contiguous().view(torch.uint8) if rows.dtype != torch.bool else rows.to(torch.uint8)
        return [row.tobytes() for row in flat.numpy()]

    @property
    def classes(self) -> Tensor | None:
        """The class of each row as a whole number, None where the targets are numbers."""
        y = self.y.detach()
        if y.is_complex() or y.dim() == 0:
            return None
        if not y.is_floating_point():
            return y if y.dim() == 1 else (y.argmax(1) if y.dim() == 2 and _is_one_hot(y) else None)
        return y.argmax(1) if y.dim() == 2 and y.shape[1] > 1 and _is_one_hot(y) else None


def _is_one_hot(y: Tensor) -> bool:
    return y.shape[1] > 1 and bool(((y == 0) | (y == 1)).all()) and bool((y.sum(1) == 1).all())


@dataclass(frozen=True)
class Drawn:
    """Hold a task with its number.

    Args:
        number: of the task in its stream.
        task: the task.
    """

    number: int
    task: Task

    @cached_property
    def sides(self) -> dict[str, Side]:
        """Its support and query, as far as they are pairs of tensors with rows."""
        found = {}
        for name in ("support", "query"):
            batch = getattr(self.task, name)
            if not (isinstance(batch, (tuple, list)) and len(batch) == 2):
                continue
            x, y = batch
            if isinstance(x, Tensor) and isinstance(y, Tensor) and x.dim() and y.dim() and not x.is_nested and len(x):
                found[name] = Side(x, y)
        return found


def matches(ours: Side, theirs: Sequence[Side]) -> Iterator[tuple[int, int, int]]:
    """Yield `(row, which, row there)` for rows of one side whose inputs are also among those of others."""
    places: dict[bytes, list[tuple[int, int]]] = {}
    for which, side in enumerate(theirs):
        for there, key in enumerate(side.keys):
            places.setdefault(key, []).append((which, there))
    for row, key in enumerate(ours.keys):
        for which, there in places.get(key, []):
            if _one_sample(ours, row, theirs[which], there):
                yield row, which, there
                break


def _one_sample(ours: Side, row: int, theirs: Side, there: int) -> bool:
    """Return whether two rows are one sample: equal inputs, and equal targets where these are no numbers of classes."""
    if ours.x.shape[1:] != theirs.x.shape[1:] or not torch.equal(ours.x[row], theirs.x[there]):
        return False
    numbers = ours.y.is_floating_point() and ours.y.shape[1:] == theirs.y.shape[1:] and ours.classes is None
    return (
        not numbers or max(row - len(ours.y), there - len(theirs.y)) >= 0 or torch.equal(ours.y[row], theirs.y[there])
    )
