"""Trials: a few episodes of one task, one after another, through which a policy with a memory keeps its state."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fastadapt.rl.advantages import advantages, discounted, linear_baseline
from fastadapt.rl.distributions import Distribution
from fastadapt.rl.environments import Episodes
from fastadapt.rl.experience import returns_of
from fastadapt.rl.recurrent import RecurrentPolicy
from fastadapt.rl.sampling import begun, live
from fastadapt.rl.tasks import EpisodeCollector


class Trials(NamedTuple):
    """Hold `n` trials of at most `L` steps, those that were taken first.

    Args:
        inputs: `[n, L, i]`, what the policy read.
        actions: `[n, L, a]`, or choices `[n, L]`.
        alive: `[n, L]`, 1 for steps that were taken.
        advantages: `[n, L]`, normalised over all steps.
        behaviour: the distributions that the actions were drawn from.
        returns: `[n, E]`, not discounted, of each episode; NaN for one that had no step.
        nonfinite: episodes that were ended as they were not finite.
    """

    inputs: Tensor
    actions: Tensor
    alive: Tensor
    advantages: Tensor
    behaviour: Any
    returns: Tensor
    nonfinite: int


class _Recalled:
    """Pass steps on to environments, and remember what came of the last one for the policy."""

    def __init__(self, episodes: Episodes, policy: RecurrentPolicy, state: Tensor | None, begins: float) -> None:
        self.episodes, self.policy, self.state = episodes, policy, state
        self.begins, self.read = begins, list[Tensor]()
        n = len(episodes.observations)
        self.alive = torch.ones(n, dtype=torch.bool)
        none = torch.zeros(n, dtype=torch.int64) if policy.discrete else torch.zeros(n, policy.actions)
        self.last = none, torch.zeros(n)

    @property
    def observations(self) -> Tensor:
        return self.episodes.observations

    @property
    def nonfinite(self) -> int:
        return self.episodes.nonfinite

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = self.episodes.step(actions)
        self.last = actions, torch.nan_to_num(found[1], 0.0, 0.0, 0.0)
        self.alive = self.alive & ~found[2].bool()
        return found

    def act(self, observations: Tensor) -> Distribution:
        actions, rewards = self.last
        begins = torch.full_like(observations[:, :1], self.begins)
        read = self.policy.inputs(observations[:, None], actions[:, None], rewards[:, None].to(begins), begins)
        self.begins = 0.0
        self.read.append(read[:, 0])
        answers, state = self.policy(read, self.state)
        # where an episode has ended, the state waits for the next
        before = torch.zeros_like(state) if self.state is None else self.state
        self.state = torch.where(self.alive.to(state.device)[None, :, None], state, before)
        return type(answers)(*(leaf[:, 0] for leaf in answers))


def gather_trials(collectors: Sequence[EpisodeCollector], policy: RecurrentPolicy, episodes: int) -> Trials:
    """Live through trials of many tasks at once, `Environments.episodes` of each.

    Args:
        collectors: of the tasks.
        policy: with a memory, which begins empty in each trial.
        episodes: E, of each trial.

    Raises:
        EpisodeError: if an environment fails.
    """
    first = collectors[0].environments
    count, horizon = first.episodes, first.steps
    goals = torch.stack([collector.goal for collector in collectors]).repeat_interleave(count, 0)
    state, parts, broken, returns = None, [], 0, []
    for number in range(episodes):
        rngs = [collector.rng() for collector in collectors]
        seeds = [seed for rng in rngs for seed in rng.integers(2**62, size=count).tolist()]
        noise = torch.cat([policy.noise(rng, count, horizon) for rng in rngs]).to(policy.head.weight)
        recalled = _Recalled(begun(first.family, goals, seeds), policy, state, float(number > 0))
        lived = live(recalled.act, recalled, noise, horizon, first.family.name)
        state = recalled.state
        parts.append((torch.stack(recalled.read, 1), lived.actions, lived.rewards, lived.alive, lived.behaviour))
        returns.append(returns_of(lived.rewards, lived.alive))
        broken += lived.nonfinite
    joined = pytree.tree_map(lambda *leaves: torch.cat(leaves, 1), *parts)
    inputs, actions, rewards, alive, behaviour = _taken_first(joined, joined[3])
    seen = inputs[..., : first.family.observation_size]
    # one baseline for all trials: the memory is what tells tasks apart
    baseline = linear_baseline(seen, discounted(rewards, first.discount), alive)
    better = advantages(rewards, baseline, alive, first.discount, first.gae_lambda)
    return Trials(inputs, actions, alive, better, behaviour, torch.stack(returns, 1), broken)


def _taken_first(tree: Any, alive: Tensor) -> Any:
    """Return leaves `[n, L, ...]` with the steps that were taken in front, in their order."""
    order = alive.sort(dim=1, descending=True, stable=True).indices[:, : int(alive.sum(1).max())]

    def taken(leaf: Tensor) -> Tensor:
        index = order.view(*order.shape, *(1,) * (leaf.dim() - 2)).expand(*order.shape, *leaf.shape[2:])
        return leaf.gather(1, index)

    return pytree.tree_map(taken, tree)
