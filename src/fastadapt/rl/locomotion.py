"""Half-cheetah and ant that are to run at a velocity or in a direction which they are not told (section 5.3)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from fastadapt.errors import ConfigError
from fastadapt.rl.ant import GymnasiumAnt, RllabAnt
from fastadapt.rl.creature import Creature
from fastadapt.rl.half_cheetah import GymnasiumHalfCheetah, RllabHalfCheetah

HORIZON = 200


@dataclass(frozen=True)
class Goal:
    """Say what a body is rewarded for.

        velocity:   r = -|v_x - g| + bonus,   g ~ U[0, widest]
        direction:  r = d v_x,   d = -1 if g < widest / 2 else 1,   g ~ U[0, widest]

    Args:
        kind: which of them.
        widest: the largest goal.
        bonus: added in each step, so that an ant would rather live on than fall.
    """

    kind: Literal["velocity", "direction"]
    widest: float
    bonus: float = 0.0

    def reward(self, velocity: np.ndarray, goals: np.ndarray) -> np.ndarray:
        """Return the reward `[n]` without the costs of velocities `[n]`, metres a second along x, for goals `[n]`."""
        if self.kind == "velocity":
            return self.bonus - np.abs(velocity - goals)
        return np.where(goals < self.widest / 2, -1.0, 1.0) * velocity

    def called(self, goal: float) -> str:
        """Return a goal in words, for pictures."""
        if self.kind == "velocity":
            return f"{goal:.2f} m/s"
        return "backward" if goal < self.widest / 2 else "forward"


class Locomotion:
    """Move copies of a body towards goals.

    The reward of a step is that of the goal, see `Goal`, less the cost of the step. What a step is, what is seen and
    what it costs is said by the body. Ids with -v0 have `RllabHalfCheetah` and `RllabAnt`: the time step, frame skip,
    observation, starts and reward of rllab, which the paper's numbers are from, in today's MuJoCo. Ids with -v5, as in
    later papers, have `GymnasiumHalfCheetah` and `GymnasiumAnt`. Returns of the two are not comparable: 200 steps are
    2 s (half-cheetah) or 4 s (ant) in the one, 10 s in the other.

    Args:
        name: the versioned id.
        body: makes the body, given a number of threads.
        goal: what is rewarded.
        threads: on how many the copies are moved; None takes as many as torch does. The numbers are the same.

    Raises:
        MissingExtraError: if mujoco or Gymnasium is not installed.

    Example:
        >>> family = FAMILIES["half-cheetah-direction-v0"]()
        >>> goals = family.draw_tasks(3, np.random.default_rng(0))
        >>> episodes = family.start(goals, seeds=[0, 1, 2])
        >>> observations, rewards, ended = episodes.step(torch.zeros(3, 6))
        >>> list(observations.shape), ended.tolist()
        ([3, 20], [False, False, False])

    References:
        Finn, Abbeel, Levine 2017, Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks
        (arXiv:1703.03400), section 5.3, and the authors' public code; Duan et al. 2016, Benchmarking Deep
        Reinforcement Learning for Continuous Control (arXiv:1604.06778).
    """

    discrete = False
    horizon = HORIZON

    def __init__(self, name: str, body: Callable[[int], Creature], goal: Goal, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise ConfigError(f"environments are moved on at least 1 thread; got {threads}")
        self.name = name
        self.goal = goal
        self._made_of = name, body, goal, threads
        self.body = body(torch.get_num_threads() if threads is None else threads)
        self.observation_size = self.body.observation_size
        self.action_size = self.body.action_size

    def __reduce__(self) -> Any:
        """Make a copy anew: threads are not copied."""
        return Locomotion, self._made_of

    def draw_tasks(self, count: int, rng: np.random.Generator) -> Tensor:
        """Return goals `[count, 1]`, float64, uniform: a velocity, or a number whose half says the direction."""
        return torch.from_numpy(rng.uniform(0.0, self.goal.widest, (count, 1)))

    def start(self, tasks: Tensor, seeds: Sequence[int]) -> "Runners":
        """Return one copy of the body for each goal.

        Args:
            tasks: `[n, 1]`.
            seeds: `n` of them; positions and velocities at the start are drawn from them.

        Raises:
            ConfigError: if the goals are not `[n, 1]`, or there are not as many seeds.
        """
        if tasks.dim() != 2 or tasks.shape[1] != 1 or len(seeds) != len(tasks):
            raise ConfigError(
                f"{self.name} needs goals [n, 1] with a seed each, got {list(tasks.shape)} and {len(seeds)} seeds"
            )
        return Runners(self, tasks, seeds)


class Runners:
    """Hold copies of a body on their way, see `Locomotion`.

    Args:
        family: whose they are.
        tasks: goals `[n, 1]`.
        seeds: one for each.
    """

    nonfinite = 0

    def __init__(self, family: Locomotion, tasks: Tensor, seeds: Sequence[int]) -> None:
        self._family = family
        self._goals = tasks.detach().double().numpy()[:, 0]
        self.states = family.body.start(list(seeds))
        """`[n, s]`, float64: time, positions, velocities; what a picture is drawn from."""
        self._seen = family.body.see(self.states)
        self._alive = np.ones(len(tasks), dtype=bool)

    @property
    def observations(self) -> Tensor:
        """`[n, o]`, float64."""
        return torch.from_numpy(self._seen)

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take one action in every copy that has not ended; see `Episodes.step`.

        Where the action or the physics after it is not finite, the episode ends with the observation of before and a
        reward of NaN, so that the step does not count, and the episode is counted in `nonfinite`.
        """
        family, on = self._family, np.flatnonzero(self._alive)
        asked = actions.detach().double().numpy()[on]
        rewards = np.zeros(len(self._alive))
        if len(on):
            given = np.asarray(np.isfinite(asked).all(1))
            controls = np.clip(np.where(given[:, None], asked, 0.0), -1.0, 1.0)
            moved = family.body.move(self.states[on], controls)
            sound = given & moved.sound
            self.nonfinite += int((~sound).sum())
            earned = family.goal.reward(moved.velocity, self._goals[on]) - moved.cost
            rewards[on] = np.where(sound, earned, np.nan)
            states, seen, alive = self.states.copy(), self._seen.copy(), self._alive.copy()
            states[on[sound]] = moved.states[sound]
            seen[on[sound]] = moved.observations[sound]
            alive[on] = sound & ~moved.ended
            self.states, self._seen, self._alive = states, seen, alive
        return self.observations, torch.from_numpy(rewards), torch.from_numpy(~self._alive)


_BODIES: dict[str, tuple[Callable[[int], Creature], Goal, Goal]] = {
    "half-cheetah-{}-v0": (RllabHalfCheetah, Goal("velocity", 2.0), Goal("direction", 2.0)),
    "half-cheetah-{}-v5": (GymnasiumHalfCheetah, Goal("velocity", 2.0), Goal("direction", 2.0)),
    "ant-{}-v0": (RllabAnt, Goal("velocity", 3.0, 1.0), Goal("direction", 3.0)),
    "ant-{}-v5": (GymnasiumAnt, Goal("velocity", 3.0, 1.0), Goal("direction", 3.0)),
}
FAMILIES: dict[str, Callable[[], Locomotion]] = {
    form.format(goal.kind): partial(Locomotion, form.format(goal.kind), body, goal)
    for form, (body, *goals) in _BODIES.items()
    for goal in goals
}
"""Versioned id -> what makes the family."""
