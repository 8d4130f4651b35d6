"""Streams as a learner gets them: looked at a chunk at a time, with a step on each but the last."""

from typing import Any

import torch
from torch import Tensor

from fastadapt.errors import TaskError
from fastadapt.learner import MetaBatch
from fastadapt.methods.fitting import check_labels
from fastadapt.tasks import Tasks, as_groups, first_tensor, map_tensors


def as_streams(learner: Any, tasks: MetaBatch) -> list[Tasks]:
    """Return the groups of a meta-batch of streams, after a look at their labels.

    Raises:
        TaskError: for tasks whose support has no axis of chunks, or a label that the loss does not know.
    """
    groups = as_groups(tasks)
    for group in groups:
        read, last = first_tensor(group.support), first_tensor(group.query)
        if not group.stacked or read is None or last is None or read.dim() != last.dim() + 1:
            raise TaskError(
                "TTT reads streams, and these are tasks of another form; write fastadapt.tasks.Stream((x, y)) with "
                "the batches of a stream stacked, [J, n, ...]"
            )
    check_labels(learner, [_chunk_by_chunk(group) for group in groups], judged=True)
    return groups


def learned_from(group: Tasks) -> int:
    """Return how many chunks of each stream there are to learn from: all but the last."""
    return int(group.samples.shape[1])


def chunks_in(support: Any) -> int:
    """Return how many chunks a support set has."""
    first = first_tensor(support)
    return 0 if first is None else len(first)


def in_turn(groups: list[Tasks], steps: int) -> dict[str, list[Tensor]]:
    """Return for each task the numbers of its chunks, one at each step: minibatches of one."""
    if not steps:
        return {}
    turns = {p: group.samples.device for group in groups for p in group.positions}
    return {"batches": [torch.arange(steps, device=turns[p]).unsqueeze(1) for p in sorted(turns)]}


def _chunk_by_chunk(group: Tasks) -> Tasks:
    """Return every chunk as a task of its own with the place of its stream: to look at labels, a chunk at once."""
    chunks = map_tensors(
        lambda read, last: torch.cat([read, last.unsqueeze(1)], 1).flatten(0, 1), group.support, group.query
    )
    return Tasks(chunks, chunks, tuple(p for p in group.positions for _ in range(learned_from(group) + 1)))
