"""Outer steps of several processes: each takes its part of a meta-batch, and all end with the same weights."""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fastadapt.learner import Learner, Outcome
from fastadapt.ranks import Ranks
from fastadapt.tasks import Tasks
from fastadapt.training.blame import gradient_norm
from fastadapt.training.outer_step import Stepped
from fastadapt.training.settings import Training


class Share(nn.Module):
    """Compute one process's part of a meta-batch, weighted such that the mean over processes is that of the whole.

        loss = (W n_r / N) (1 / n_r) sum_i L_i

    for n_r of N tasks in one of W processes: shares may be unequal.

    Args:
        learner: the learner.
    """

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        self.learner = learner

    def forward(self, tasks: list[Tasks], weight: float) -> tuple[Tensor, Outcome]:
        """Return the learner's weighted loss on some tasks, in the open where FSDP2 finds it, and the outcome."""
        outcome = self.learner(tasks)
        loss = outcome.loss if weight == 1.0 else outcome.loss * weight
        return loss, dataclasses.replace(outcome, loss=loss)


class ShardedStep:
    """Take outer steps as `outer_step` does, with gradients that DistributedDataParallel averages over all processes.

    Whether numbers are finite is decided by all together, so that weights stay equal. Buffers (batch-norm moments)
    become those of all tasks, as in one process. The outcome that is returned is that of the whole meta-batch.

    Args:
        learner: the learner, whose weights become those of the first process.
        ranks: the processes.
    """

    def __init__(self, learner: Learner, ranks: Ranks) -> None:
        self.ranks = ranks
        self.module: nn.Module = DistributedDataParallel(Share(learner), forward_sync_buffers=False)

    def __call__(
        self, learner: Learner, tasks: list[Tasks], optimizer: torch.optim.Optimizer, training: Training
    ) -> Stepped:
        """Take one step; `tasks` are those of this process."""
        buffers = [(value, value.clone()) for value in learner.buffers()]
        optimizer.zero_grad(set_to_none=True)
        share = sum(len(group) for group in tasks) / training.meta_batch
        weight = 1.0 if training.meta_batch % self.ranks.world == 0 else share * self.ranks.world
        loss, outcome = self.differentiated(learner, tasks, weight)
        params = [p for group in optimizer.param_groups for p in group["params"]]
        gradient = self.gradient_norm([p.grad for p in params if p.grad is not None])
        finite = bool(torch.isfinite(loss) & torch.isfinite(gradient))
        whole = self._whole(outcome, training)
        if self.ranks.most(float(not finite))[0]:
            with torch.no_grad():
                for value, before in buffers:
                    value.copy_(before)
            return Stepped(whole, False, gradient)
        self.ranks.mean([value for value, _ in buffers if value.is_floating_point()], share)
        training.clip(params)
        optimizer.step()
        return Stepped(whole, True, gradient)

    def differentiated(self, learner: Learner, tasks: list[Tasks], weight: float) -> tuple[Tensor, Outcome]:
        """Give every parameter the mean gradient over processes; return this one's weighted loss, and its outcome."""
        loss, outcome = self.module(tasks, weight)
        loss.backward()
        return loss, outcome

    def gradient_norm(self, grads: list[Tensor]) -> Tensor:
        """Return the norm of the mean gradient, which each process has."""
        return gradient_norm(grads)

    def _whole(self, outcome: Outcome, training: Training) -> Outcome:
        """Return what all processes made of the meta-batch, its tasks in their order."""
        own = {"": outcome.losses, **outcome.metrics}
        parts = self.ranks.gathered({name: value.detach().cpu() for name, value in own.items()})
        merged = {name: interleaved([part[name] for part in parts]) for name in own}
        losses = merged.pop("")
        return Outcome(losses.mean(), losses, merged)


def interleaved(parts: list[Tensor]) -> Tensor:
    """Return the rows of all processes in the order of the tasks, of which each has every `len(parts)`-th.

    Example:
        >>> interleaved([torch.tensor([0, 2, 4]), torch.tensor([1, 3])]).tolist()
        [0, 1, 2, 3, 4]
    """
    whole = parts[0].new_empty((sum(len(part) for part in parts), *parts[0].shape[1:]))
    for rank, part in enumerate(parts):
        whole[rank :: len(parts)] = part
    return whole


def asked_to_stop(ranks: Ranks, name: str | None, over: bool) -> tuple[str | None, bool]:
    """Return which signal any process was sent, and whether the first one's time is over."""
    known: dict[Any, int] = {None: 0, "SIGINT": 1, "SIGTERM": 2}
    signal, late = ranks.most(known[name], float(over and ranks.first))
    return {number: word for word, number in known.items()}[int(signal)], bool(late)
