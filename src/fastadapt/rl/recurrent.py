"""A policy with a memory, which learns a task by acting in it (RL²)."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastadapt.rl.distributions import Categorical, Distribution, Gaussian
from fastadapt.rl.policies import LEAST_LOG_STD


class RecurrentPolicy(nn.Module):
    """Act on observations, and on what came of the last action, with a hidden state that outlives an episode.

        h_t = GRU([o_t, a_{t-1}, r_{t-1}, d_{t-1}], h_{t-1}),     pi(a_t | h_t)

    with `d` 1 at the first step of an episode that is not the first of its trial. Nothing else tells it that an episode
    has ended: its state goes on, and is 0 at the beginning of a trial.

    Args:
        observations: numbers in an observation.
        actions: numbers in an action, or choices.
        hidden: numbers in the hidden state.
        discrete: whether an action is a choice.

    Example:
        >>> policy = RecurrentPolicy(2, 2, hidden=8)
        >>> answers, state = policy(policy.inputs(torch.zeros(5, 7, 2), torch.zeros(5, 7, 2), *torch.zeros(2, 5, 7)))
        >>> answers.mean.shape, state.shape
        (torch.Size([5, 7, 2]), torch.Size([1, 5, 8]))

    References:
        Duan, Schulman, Chen, Bartlett, Sutskever, Abbeel 2016, RL²: Fast Reinforcement Learning via Slow Reinforcement
        Learning (arXiv:1611.02779). Wang et al. 2016, Learning to reinforcement learn (arXiv:1611.05763).
    """

    def __init__(self, observations: int, actions: int, hidden: int = 100, discrete: bool = False) -> None:
        super().__init__()
        self.actions, self.discrete = actions, discrete
        self.gru = nn.GRU(observations + actions + 2, hidden, batch_first=True)
        self.head = nn.Linear(hidden, actions)
        nn.init.xavier_uniform_(self.head.weight, gain=0.1)
        nn.init.zeros_(self.head.bias)
        self.log_std = None if discrete else nn.Parameter(torch.zeros(actions))

    def inputs(self, observations: Tensor, actions: Tensor, rewards: Tensor, begins: Tensor) -> Tensor:
        """Return what is read at each step, `[n, L, i]`.

        Args:
            observations: `[n, L, o]`.
            actions: those of the step before, `[n, L, a]`, or choices `[n, L]`.
            rewards: of the step before, `[n, L]`.
            begins: d, `[n, L]`.
        """
        told = F.one_hot(actions.long(), self.actions) if self.discrete else actions
        return torch.cat([observations, told.to(observations), torch.stack([rewards, begins], -1).to(observations)], -1)

    def forward(self, inputs: Tensor, state: Tensor | None = None) -> tuple[Distribution, Tensor]:
        """Return the distributions over the actions of a sequence `[n, L, i]`, and the state after it `[1, n, h]`."""
        seen, after = self.gru(inputs, state)
        outputs = self.head(seen)
        if self.log_std is None:
            return Categorical(outputs), after
        return Gaussian(outputs, self.log_std.clamp(min=LEAST_LOG_STD).expand_as(outputs)), after

    def noise(self, rng: np.random.Generator, *shape: int) -> Tensor:
        """Return the random numbers `[*shape, k]` that as many actions are made of."""
        if self.discrete:
            return torch.from_numpy(rng.random((*shape, 1), dtype=np.float32))
        return torch.from_numpy(rng.standard_normal((*shape, self.actions), dtype=np.float32))
