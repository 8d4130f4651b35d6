"""The gradient of some tasks travels between processes while that of the next ones is computed."""

import itertools
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from fastadapt.batches.leaves import map_tensors
from fastadapt.learner import Learner, Outcome
from fastadapt.ranks import Ranks
from fastadapt.tasks import Tasks
from fastadapt.training.sharded import ShardedStep


class Overlapped(ShardedStep):
    r"""Take outer steps as `ShardedStep` does, whose sum over tasks is sent in parts.

        g = (1 / N) sum_r sum_{i of r} grad L_i = sum_j [ (1 / N) sum_r sum_{i in part j of r} grad L_i ]

    What stands in brackets is one all-reduce, which begins when part j is computed and may last as long as part j + 1.
    It is the same gradient but for the order in which it is added up. The price: every part sends as many numbers as
    the whole would, a second copy of the gradient is kept while one travels, and fewer tasks run side by side. So it
    pays for models whose gradient takes long to send and of which a process runs one task or a few at once.

    Args:
        learner: the learner, whose weights become those of the first process.
        ranks: the processes.
        parts: into how many parts a process cuts its tasks, as far as it has as many.
    """

    def __init__(self, learner: Learner, ranks: Ranks, parts: int) -> None:
        self.ranks, self.parts = ranks, parts
        for tensor in itertools.chain(learner.parameters(), learner.buffers()):
            dist.broadcast(tensor.detach(), src=0)

    def differentiated(self, learner: Learner, tasks: list[Tasks], weight: float) -> tuple[Tensor, Outcome]:
        """Give every parameter the mean gradient; moments are those that each part would have alone, averaged."""
        start = [(value, value.clone()) for value in learner.buffers()]
        floating = [value for value, _ in start if value.is_floating_point()]
        moments = [torch.zeros_like(value) for value in floating]
        count = sum(len(group) for group in tasks)
        outcomes: list[Outcome] = []
        total, sent = None, None
        for part in cut(tasks, self.parts):
            for value, before in start:  # what counts steps counts this one once, then
                value.detach().copy_(before)
            outcome = learner(part)
            share = len(outcome.losses) / count
            (outcome.loss * (weight * share)).backward()
            for moment, value in zip(moments, floating, strict=True):
                moment.add_(value, alpha=share)
            outcomes.append(Outcome(outcome.loss.detach() * share, outcome.losses.detach(), _plain(outcome.metrics)))
            total = _added(total, sent)
            sent = Sending(learner)
        total = _added(total, sent)
        assert total is not None
        total.hand_over(self.ranks.world)
        for moment, value in zip(moments, floating, strict=True):
            value.detach().copy_(moment)
        losses = torch.cat([outcome.losses for outcome in outcomes])
        metrics = {name: torch.cat([o.metrics[name] for o in outcomes]) for name in outcomes[0].metrics}
        loss = torch.stack([outcome.loss for outcome in outcomes]).sum()
        return loss * weight, Outcome(loss, losses, metrics)


class Sending:
    """Hold the gradient of one part on its way: taken from the parameters, added up over all processes.

    Args:
        learner: whose gradients are sent; it has none after.
    """

    def __init__(self, learner: Learner) -> None:
        self.params = [p for p in learner.parameters() if p.requires_grad]
        self.flat: dict[torch.dtype, Tensor] = {}
        self._work: list[Any] = []
        for kind, some in _by_kind(self.params):
            has = torch.tensor([float(p.grad is not None) for p in some], device=some[0].device)
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in some]
            self.flat[kind] = torch.cat([*(grad.detach().reshape(-1) for grad in grads), has.to(kind)])
            self._work.append(dist.all_reduce(self.flat[kind], async_op=True))
        for p in self.params:
            p.grad = None

    def wait(self) -> None:
        """Return when all processes have it."""
        for work in self._work:
            work.wait()
        self._work = []

    def hand_over(self, world: int) -> None:
        """Give the parameters their mean over processes; none where no process had any."""
        for kind, some in _by_kind(self.params):
            *grads, has = self.flat[kind].split([*(p.numel() for p in some), len(some)])
            for p, grad, there in zip(some, grads, has.tolist(), strict=True):
                p.grad = grad.view_as(p).div(world) if there else None


def _added(total: Sending | None, arrived: Sending | None) -> Sending | None:
    """Return the sum of what has come and what was on its way."""
    if arrived is None:
        return total
    arrived.wait()
    if total is not None:
        for kind, flat in arrived.flat.items():
            flat.add_(total.flat[kind])
    return arrived


def _by_kind(params: list[torch.nn.Parameter]) -> list[tuple[torch.dtype, list[torch.nn.Parameter]]]:
    ordered = sorted(params, key=lambda p: str(p.dtype))
    return [(kind, list(some)) for kind, some in itertools.groupby(ordered, key=lambda p: p.dtype)]


def _plain(metrics: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in metrics.items()}


def cut(tasks: list[Tasks], parts: int) -> list[list[Tasks]]:
    """Return the tasks in parts of equal numbers, as near as that goes, in their order.

    Example:
        >>> import torch
        >>> one, other = torch.arange(3.0), torch.zeros(2, 4)
        >>> tasks = [Tasks((one,), (one,), positions=(0, 2, 4)), Tasks((other,), (other,), positions=(1, 3))]
        >>> [[group.positions for group in part] for part in cut(tasks, 2)]
        [[(0,), (1,)], [(0, 2), (1,)]]
    """
    count = sum(len(group) for group in tasks)
    parts = min(parts, count)
    cutted = []
    for j in range(parts):
        first, last = count * j // parts, count * (j + 1) // parts
        part = []
        for group in tasks:
            rows = [row for row, position in enumerate(group.positions) if first <= position < last]
            if rows:
                part.append(_rows(group, rows, first))
        cutted.append(part)
    return cutted


def _rows(group: Tasks, rows: list[int], first: int) -> Tasks:
    positions = tuple(group.positions[row] - first for row in rows)
    if not group.stacked:
        support, query = (tuple(side[row] for row in rows) for side in (group.support, group.query))
        return Tasks(support, query, positions)
    kept = map_tensors(lambda leaf: leaf[rows], (group.support, group.query))
    return replace(group, support=kept[0], query=kept[1], positions=positions)
