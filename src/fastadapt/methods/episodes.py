"""The tasks of a metric method: samples with class numbers, looked at before any of them is embedded.

The number of outputs follows from the support set, so that tasks may have any number of classes: it is the largest
label and one more. A class number that no support sample has is an output that is never the answer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastadapt.errors import TaskError
from fastadapt.judging.labels import IGNORED
from fastadapt.learner import MetaBatch
from fastadapt.tasks import Tasks, as_groups, is_collector, map_tensors

LARGEST = 1 << 16
"""The largest number of classes of a task: what is above it was meant for something else."""
Prepare = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class Episode:
    """Hold one task.

    Args:
        x: support samples `[S, ...]`.
        y: their class numbers `[S]`, int64.
        xq: query samples `[Q, ...]`.
        yq: their class numbers `[Q]`, int64; -100 marks one that does not count.
        ways: outputs N.
    """

    x: Tensor
    y: Tensor
    xq: Tensor
    yq: Tensor
    ways: int


def episodes_of(tasks: MetaBatch, method: str, prepare: Prepare) -> list[Episode]:
    """Return the tasks of a meta-batch in the order in which they were given.

    Args:
        tasks: any form of a meta-batch.
        method: the name of the method, for messages.
        prepare: what is made of a support set before it is embedded.

    Raises:
        TaskError: for a task that is none of classes, or whose query asks for a class without a support sample.
    """
    found: dict[int, Episode] = {}
    for group in as_groups(tasks):
        if not group.stacked:
            what = "a Collector" if group.collects else "an object of data"
            raise TaskError(f"{method} compares samples in tensors (x, y), and a task has {what}; choose MAML for it")
        (x, y), (xq, yq) = (_pair(getattr(group, side), method, side, 1) for side in ("support", "query"))
        if not yq.shape[1]:
            raise TaskError("a task has no query samples to be judged on; draw at least one")
        _check_range(y, group, method)
        ways = [max(2, most + 1) for most in y.amax(1).tolist()]
        _check_known(y, yq, max(ways), group)
        for i, position in enumerate(group.positions):
            found[position] = Episode(*prepare(x[i], y[i]), xq[i], yq[i], ways[i])
    return [found[position] for position in sorted(found)]


def by_ways(tasks: MetaBatch, method: str) -> list[Tasks]:
    """Return a meta-batch in groups of equal shapes and numbers of classes.

    Raises:
        TaskError: as `episodes_of` does.
    """
    groups = as_groups(tasks)
    ways = dict(enumerate(episode.ways for episode in episodes_of(groups, method, lambda x, y: (x, y))))
    split = []
    for group in groups:
        counts = [ways[position] for position in group.positions]
        for count in sorted(set(counts)):
            members = [i for i, own in enumerate(counts) if own == count]
            if len(members) == len(counts):
                split.append(group)
                continue
            support, query = map_tensors(lambda leaf, m=members: leaf[m], (group.support, group.query))
            split.append(Tasks(support, query, tuple(group.positions[i] for i in members)))
    return split


def support_of(support: Any, method: str) -> tuple[Tensor, Tensor, int]:
    """Return samples, class numbers and outputs of one support set.

    Raises:
        TaskError: if it is not one of classes.
    """
    if is_collector(support):
        raise TaskError(f"{method} compares samples in tensors (x, y), and this is a Collector; choose MAML for it")
    x, y = _pair(support, method, "support", 0)
    _check_range(y.unsqueeze(0), None, method)
    return x, y, max(2, int(y.max()) + 1)


def _pair(batch: Any, method: str, side: str, axis: int) -> tuple[Tensor, Tensor]:
    """Return samples and labels of a batch whose rows are along `axis`."""
    pair = isinstance(batch, (tuple, list)) and len(batch) == 2
    if not pair or not isinstance(batch[0], Tensor) or not isinstance(batch[1], Tensor):
        raise TaskError(
            f"{method} needs a {side} set (x, y) of two tensors, samples and class numbers, got a "
            f"{_kind(batch)}; choose "
            "MAML for batches of another form"
        )
    x, y = batch
    if y.is_floating_point() or y.is_complex() or y.dim() != axis + 1:
        raise TaskError(
            f"{method} tells classes apart, and needs class numbers {_shape(x, axis)} of torch.long; the {side} labels "
            f"are {tuple(y.shape[axis:])} of {y.dtype}: choose MAML for numbers to be predicted, and write y.argmax(1) "
            "for class probabilities"
        )
    if x.dim() <= axis or x.shape[axis] != y.shape[axis]:
        rows = x.shape[axis] if x.dim() > axis else 0
        raise TaskError(f"the {side} set has {rows} samples and {y.shape[axis]} labels; give a label for each sample")
    if side == "support" and not y.shape[axis]:
        raise TaskError("a support set has no samples; give at least one of each class")
    return x, y.long()


def _kind(batch: Any) -> str:
    if not isinstance(batch, (tuple, list)):
        return type(batch).__name__
    return f"{type(batch).__name__} of ({', '.join(type(item).__name__ for item in batch)})"


def _shape(x: Tensor, axis: int) -> str:
    return f"({x.shape[axis]},)" if x.dim() > axis else "(n,)"


def _check_range(y: Tensor, group: Tasks | None, method: str) -> None:
    wrong = (y < 0) | (y >= LARGEST)
    if bool(wrong.any()):
        task, row = (int(i) for i in wrong.nonzero()[0])
        cure = f"; {IGNORED} marks a query that does not count" if int(y[task, row]) == IGNORED else ""
        raise TaskError(
            f"{_where(group, task)}support row {row}: the label is {int(y[task, row])}, and {method} takes class "
            f"numbers 0..{LARGEST - 1}; number the classes of a task from 0{cure}"
        )


def _check_known(y: Tensor, yq: Tensor, ways: int, group: Tasks) -> None:
    """Refuse a query of a class that the support set has no sample of: no answer to it could be right."""
    known = torch.zeros(len(y), ways, dtype=torch.bool, device=y.device).scatter_(1, y, True)
    inside = (yq >= 0) & (yq < ways)
    wrong = ~(inside & known.gather(1, yq.clamp(0, ways - 1))) & (yq != IGNORED)
    if bool(wrong.any()):
        task, row = (int(i) for i in wrong.nonzero()[0])
        classes = sorted(set(y[task].tolist()))
        shown = ", ".join(map(str, classes[:8])) + (", ..." if len(classes) > 8 else "")
        raise TaskError(
            f"{_where(group, task)}query row {row}: the label is {int(yq[task, row])}, and the support set has samples "
            f"of {shown} alone; give each class of the queries a support sample, or number both alike"
        )


def _where(group: Tasks | None, task: int) -> str:
    return "" if group is None else f"task {group.positions[task]} of the meta-batch, "
