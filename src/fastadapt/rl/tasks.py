"""Tasks of reinforcement learning: support and query are episodes that the policy, as adapted so far, lives through."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fastadapt.batches.streams import task_rng
from fastadapt.errors import ConfigError, TaskError
from fastadapt.rl.advantages import advantages, discounted, linear_baseline
from fastadapt.rl.distributions import Distribution
from fastadapt.rl.environments import Family
from fastadapt.rl.experience import Experience
from fastadapt.rl.sampling import Act, begun, live
from fastadapt.tasks import Collector, Task

_log = logging.getLogger("fastadapt")


@dataclass(frozen=True)
class Environments:
    """Draw tasks of a family of environments: a goal each, support and query are episodes at it.

    Args:
        family: the environments, see `fastadapt.rl.environments`.
        episodes: F, how many in a support or query set. As many are lived through, whatever their length; the public
            code counts steps, so that short episodes are more.
        discount: gamma of the return that advantages are made of.
        gae_lambda: lambda of generalised advantage estimates; 1 is return minus baseline.
        pooled: fit one baseline to the episodes of all tasks of a meta-batch, and normalise advantages over all of
            them, as training on drawn tasks without adaptation does; each task has its own otherwise.
        told: append the goal to every observation (the oracle).
        horizon: steps of an episode; None takes the family's.

    Raises:
        ConfigError: for a value outside its range.

    Example:
        >>> from fastadapt.rl.environments import family
        >>> task = Environments(family("navigation-v0"), episodes=5).sample(np.random.default_rng(0))
        >>> task.support.goal.shape
        torch.Size([2])
    """

    family: Family
    episodes: int = 20
    discount: float = 0.99
    gae_lambda: float = 1.0
    pooled: bool = False
    told: bool = False
    horizon: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.episodes < 1 or (self.horizon is not None and self.horizon < 1):
            raise ConfigError(
                f"a task needs at least 1 episode of at least 1 step, got episodes={self.episodes}, "
                f"horizon={self.horizon}"
            )
        if not (0 < self.discount <= 1 and 0 <= self.gae_lambda <= 1):
            raise ConfigError(
                f"discount must be in (0, 1] and gae_lambda in [0, 1], got {self.discount} and {self.gae_lambda}"
            )

    @property
    def steps(self) -> int:
        """Steps of an episode at most."""
        return self.family.horizon if self.horizon is None else self.horizon

    def sample(self, rng: np.random.Generator) -> Task:
        """Return one task that depends on nothing but `rng`."""
        goal = self.family.draw_tasks(1, rng)[0]
        return self.task(goal, int(rng.integers(2**62)))

    def task(self, goal: Tensor, seed: int = 0) -> Task:
        """Return the task with a goal, its random numbers from `seed`."""
        return Task(EpisodeCollector(self, goal, seed, "support"), EpisodeCollector(self, goal, seed, "query"))


@dataclass(eq=False)
class EpisodeCollector(Collector):
    """Gather episodes of one task with the policy as adapted so far.

    Whenever it is asked, it has new random numbers: those of call `j` depend on the task's seed, on whether this is its
    support or its query, and on `j` alone.

    Args:
        environments: how they are gathered.
        goal: `[g]`.
        seed: of the task.
        which: "support" or "query".
    """

    environments: Environments
    goal: Tensor
    seed: int
    which: Literal["support", "query"]
    asked: int = field(default=0)

    def rng(self) -> np.random.Generator:
        """Return the generator of the next call."""
        self.asked += 1
        return task_rng(self.seed, self.which, self.asked - 1)

    def collect(self, model: Any) -> Experience:
        """Return episodes lived through with `model`, a policy."""
        experience, _ = gather([self], model, model)
        return pytree.tree_map(lambda leaf: leaf[0], experience)


def gather(collectors: Sequence[EpisodeCollector], policy: Any, act: Act) -> tuple[Experience, Tensor]:
    """Live through the episodes of many tasks at once, side by side.

    Args:
        collectors: of `T` tasks of one `Environments`.
        policy: which random numbers its actions are made of, `policy.noise`.
        act: observations `[T F, o]`, task after task, to distributions.

    Returns:
        The experience `[T, F, H, ...]`, and how many episodes of each task were ended as they were not finite, `[T]`.

    Raises:
        TaskError: if the tasks are of different environments, or the policy has no noise.
        EpisodeError: if an environment fails.
    """
    first = collectors[0].environments
    if any(other.environments != first for other in collectors):
        raise TaskError("a meta-batch needs tasks of one Environments, got several; train them one after another")
    if not callable(getattr(policy, "noise", None)):
        raise TaskError(
            f"{type(policy).__name__} is no policy: it needs noise(rng, *shape) beside forward(observations); derive "
            "from GaussianPolicy or CategoricalPolicy of fastadapt.rl.policies"
        )
    count, tasks = first.episodes, len(collectors)
    seeds: list[int] = []
    noise = []
    for collector in collectors:
        rng = collector.rng()
        seeds += rng.integers(2**62, size=count).tolist()
        noise.append(policy.noise(rng, count, first.steps))
    goals = torch.stack([collector.goal for collector in collectors]).repeat_interleave(count, 0)
    episodes = begun(first.family, goals, seeds)
    made_of = torch.cat(noise).to(next(policy.parameters()))
    told = goals.to(made_of)

    def acting(observations: Tensor) -> Distribution:
        return act(torch.cat([observations, told], 1) if first.told else observations)

    lived = live(acting, episodes, made_of, first.steps, first.family.name)
    observations = lived.observations
    if first.told:
        beside = told[:, None].expand(-1, observations.shape[1], -1)
        observations = torch.cat([observations, beside], 2)
    parts = (observations, lived.actions, lived.rewards, lived.alive, lived.behaviour)
    seen, actions, rewards, alive, behaviour = pytree.tree_map(lambda leaf: leaf.unflatten(0, (tasks, count)), parts)
    baseline, better = _judged(first, seen, rewards, alive)
    broken = torch.full((tasks,), lived.nonfinite / tasks)
    return Experience(seen, actions, rewards, alive, better, baseline, behaviour), broken


def warn_of(broken: Tensor, collectors: Sequence[EpisodeCollector]) -> None:
    """Log how many episodes were ended as they were not finite, which a mean return does not show.

    Args:
        broken: how many, of each task or of all.
        collectors: of the tasks.
    """
    if count := round(float(broken.sum())):
        how = collectors[0].environments
        _log.warning(
            "%d of %d episodes in %s were ended as a number in them was not finite: after an observation or a reward "
            "the return is of the steps before, and may look better than it is; after an action, as of a policy that "
            "too long an update broke, there is none",
            count,
            how.episodes * len(collectors),
            how.family.name,
        )


def _judged(how: Environments, observations: Tensor, rewards: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
    """Return baseline and advantages, `[T, F, H]`, of each task, or of all together."""
    shape = rewards.shape
    if how.pooled:
        observations, rewards, alive = (leaf.flatten(0, 1)[None] for leaf in (observations, rewards, alive))
    returns = discounted(rewards, how.discount)
    baseline = [linear_baseline(*task) for task in zip(observations, returns, alive, strict=True)]
    better = [advantages(*task, how.discount, how.gae_lambda) for task in zip(rewards, baseline, alive, strict=True)]
    return torch.stack(baseline).view(shape), torch.stack(better).view(shape)
