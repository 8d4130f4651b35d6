"""Take some tasks of a meta-batch, and put the results of its parts together."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fastadapt.batches.leaves import map_tensors
from fastadapt.tasks import Tasks

Results = tuple[Any, Any]
"""The mean over tasks of what is averaged, and what is stacked."""


def in_chunks(chunk: int | None, tasks: Tasks, extra: Any, run: Callable[[Tasks, Any], Results]) -> Results:
    """Run `chunk` tasks at once, and put the results together."""
    if chunk is None or chunk >= len(tasks):
        return run(tasks, extra)
    total: Any = None
    parts = []
    for start in range(0, len(tasks), chunk):
        part = slice(start, start + chunk)
        support, query, rest = map_tensors(lambda leaf, p=part: leaf[p], (tasks.support, tasks.query, extra))
        few = Tasks(support, query)
        averaged, stacked = run(few, rest)
        share = len(few) / len(tasks)
        averaged = pytree.tree_map(lambda leaf, s=share: leaf * s, averaged)
        total = averaged if total is None else pytree.tree_map(torch.add, total, averaged)
        parts.append(stacked)
    return total, pytree.tree_map(lambda *leaves: torch.cat(leaves), *parts)


def mean_and_stack(count: int, results: Iterable[Results]) -> Results:
    """Return the mean of the first results of `count` tasks, and the stack of the second."""
    total: Any = None
    each = []
    for averaged, stacked in results:
        # a running sum: memory does not grow with the number of tasks
        total = averaged if total is None else pytree.tree_map(torch.add, total, averaged)
        each.append(stacked)
    return pytree.tree_map(lambda leaf: leaf / count, total), pytree.tree_map(_stack, *each)


def _stack(*leaves: Tensor) -> Tensor | list[Tensor]:
    return torch.stack(leaves) if len({leaf.shape for leaf in leaves}) == 1 else list(leaves)


def first(count: int, tasks: Tasks, extra: Any) -> tuple[Tasks, Any]:
    """Return the first tasks."""
    few = Tasks(*map_tensors(lambda leaf: leaf[:count], (tasks.support, tasks.query)))
    return few, pytree.tree_map(lambda leaf: leaf[:count], extra)


def singly(tasks: Tasks, extra: Any) -> list[tuple[Tasks, Any]]:
    """Return every task alone."""

    def one(tree: Any, t: int) -> Any:
        return map_tensors(lambda leaf: leaf[t : t + 1], tree)

    return [(Tasks(*one((tasks.support, tasks.query), t)), one(extra, t)) for t in range(len(tasks))]
