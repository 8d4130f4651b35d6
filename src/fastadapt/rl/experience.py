"""What a policy has lived through: steps in environments, with all that a policy gradient needs of them."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fastadapt.rl.distributions import Distribution


class Experience(NamedTuple):
    """Hold `N` episodes of at most `H` steps each; several tasks have a leading axis `T`.

    Args:
        observations: `[..., N, H, o]`, before each step.
        actions: `[..., N, H, a]`, or choices `[..., N, H]`.
        rewards: `[..., N, H]`, 0 behind the end of an episode.
        alive: `[..., N, H]`, 1 for a step that was taken and 0 behind the end; every mean over steps is weighted by it.
        advantages: `[..., N, H]`, mean 0 and standard deviation 1 over the steps of a task, 0 behind the end.
        baseline: `[..., N, H]`, what the baseline says of the discounted return.
        behaviour: the distributions that the actions were drawn from, `[..., N, H, ...]`.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    alive: Tensor
    advantages: Tensor
    baseline: Tensor
    behaviour: Distribution

    @property
    def returns(self) -> Tensor:
        """The sum of rewards of each episode, not discounted, `[..., N]`; NaN for one that had no step."""
        return returns_of(self.rewards, self.alive)

    @property
    def mean_return(self) -> Tensor:
        """The mean of the returns of the episodes that had a step, `[...]`; NaN if none had."""
        return self.returns.nanmean(-1)

    def steps(self) -> "Experience":
        """Return the steps `[T, R, ...]` of `T` tasks without those behind an end, as far as the longest task allows.

        A mean over steps is the same, and what is left out is not computed. Episodes can't be told apart any more.
        """
        rows = pytree.tree_map(lambda leaf: leaf.flatten(1, 2), self)
        order = rows.alive.sort(dim=1, descending=True, stable=True).indices[:, : int(rows.alive.sum(1).max())]

        def taken(leaf: Tensor) -> Tensor:
            index = order.view(*order.shape, *(1,) * (leaf.dim() - 2)).expand(*order.shape, *leaf.shape[2:])
            return leaf.gather(1, index)

        return pytree.tree_map(taken, rows)


def returns_of(rewards: Tensor, alive: Tensor) -> Tensor:
    """Return the sums of rewards `[..., H]`, with NaN, and not a 0 that may look good, where no step was taken."""
    return torch.where(alive.sum(-1) > 0, rewards.sum(-1), math.nan)


def mean_over_steps(values: Tensor, alive: Tensor, axes: int = 1) -> Tensor:
    """Return the mean of `values` over the steps that were taken, over the last `axes` axes.

    Episodes of unequal length weigh by their steps: it is no mean of means.

    Example:
        >>> mean_over_steps(torch.tensor([[1.0, 2.0], [6.0, 99.0]]), torch.tensor([[1.0, 1.0], [1.0, 0.0]]), axes=2)
        tensor(3.)
    """
    along = tuple(range(-axes, 0))
    return torch.where(alive > 0, values, 0.0).sum(along) / alive.sum(along)
