"""Episodes in environments of the user's own, side by side."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fastadapt.errors import EpisodeError
from fastadapt.rl.gym_spaces import Actions, Observations

FAILURES = (Exception, SystemExit)
"""A user's code may raise anything, and leave the process."""


class Played(Protocol):
    """Say what episodes need to know of their family."""

    name: str
    horizon: int
    observation_size: int
    actions: Actions
    observations: Observations


class GymEpisodes:
    """Hold environments of the user's, one episode each; see `fastadapt.rl.gym_family.GymFamily`.

    Args:
        family: whose they are.
        envs: `n` of them, before their reset.
        tasks: of each, for messages.
        seeds: of each.
    """

    nonfinite = 0

    def __init__(self, family: Played, envs: list[Any], tasks: list[Any], seeds: Sequence[int]) -> None:
        self._family, self._envs, self._tasks, self._seeds = family, envs, tasks, list(seeds)
        self._step = 0
        self._alive, self._broken = np.ones(len(envs), dtype=bool), np.zeros(len(envs), dtype=bool)
        self._seen = np.zeros((len(envs), family.observation_size), dtype=family.observations.dtype)
        for number, env in enumerate(envs):
            # old environments seed numpy's old generator, which takes 32 bits
            words = np.random.SeedSequence(self._seeds[number]).generate_state(1)
            self._seen[number] = self._asked(number, lambda env=env, words=words: self._reset(env, int(words[0])))
        self._end(np.array([not np.isfinite(row).all() for row in self._seen]))

    @property
    def observations(self) -> Tensor:
        """`[n, o]`."""
        return torch.from_numpy(self._seen)

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take one step in every environment that has not ended; see `Episodes.step`.

        Where action, observation or reward is not finite, the episode ends with the observation of before and a reward
        of NaN, so that the step does not count, and the episode is counted in `nonfinite`.

        Raises:
            EpisodeError: if an environment fails, or returns what it should not; the message names it, its task and the
                step.
        """
        self._step += 1
        given = actions.detach().cpu().numpy()
        rewards, seen = np.zeros(len(self._envs)), self._seen.copy()
        over, broken = np.zeros_like(self._alive), np.zeros_like(self._alive)
        for number in np.flatnonzero(self._alive).tolist():
            action = given[number]
            if np.isfinite(action).all():
                observation, reward, over[number] = self._asked(
                    number, lambda number=number, action=action: self._stepped(self._envs[number], action)
                )
                if np.isfinite(reward) and np.isfinite(observation).all():
                    rewards[number], seen[number] = reward, observation
                    continue
            broken[number] = True
        self._seen = seen
        self._end(broken)
        self._alive &= ~over
        rewards[self._broken] = np.nan
        return self.observations, torch.from_numpy(rewards), torch.from_numpy(~self._alive)

    def _end(self, broken: np.ndarray) -> None:
        self.nonfinite += int(broken.sum())
        self._seen[broken] = np.nan_to_num(self._seen[broken])
        self._alive, self._broken = self._alive & ~broken, self._broken | broken

    def _reset(self, env: Any, seed: int) -> np.ndarray:
        observation, _ = _parts(env.reset(seed=seed), "reset", "(observation, info)", 2)
        return self._family.observations.read(observation)

    def _stepped(self, env: Any, action: np.ndarray) -> tuple[np.ndarray, float, bool]:
        answer = env.step(self._family.actions.translate(action))
        told = "(observation, reward, terminated, truncated, info)"
        observation, reward, terminated, truncated, _ = _parts(answer, "step", told, 5)
        over, cut = _said(terminated, "terminated"), _said(truncated, "truncated") and self._step < self._family.horizon
        return self._family.observations.read(observation), _number(reward), over or cut

    def _asked(self, number: int, what: Callable[[], Any]) -> Any:
        try:
            return what()
        except FAILURES as error:
            when = f"in step {self._step}" if self._step else "as it was reset"
            raise EpisodeError(
                f"an environment of {self._family.name} failed {when}, task {self._tasks[number]!r}, seed "
                f"{self._seeds[number]}: {told(error)}; mend it, and the same command goes on from the last checkpoint"
            ) from error


def _parts(answer: Any, which: str, what: str, count: int) -> Any:
    if not isinstance(answer, tuple | list) or len(answer) != count:
        of = f" of length {len(answer)}" if isinstance(answer, tuple | list) else ""
        raise ValueError(f"{which} returned a {type(answer).__name__}{of}, and not {what}")
    return answer


def _number(reward: Any) -> float:
    """Return a reward, of whatever type one number may have."""
    found = np.asarray(reward)
    if found.size != 1 or found.dtype.kind not in "fiub":
        raise ValueError(f"the reward is {reward!r}, and not one real number")
    return float(found.item())


def _said(flag: Any, name: str) -> bool:
    """Return a flag; the word "False" is true in Python, and is refused as all that is neither true nor false."""
    found = np.asarray(flag)
    if found.size != 1 or found.dtype.kind not in "biu":
        raise ValueError(f"{name} is {flag!r}, and not true or false")
    return bool(found.item())


def told(error: BaseException) -> str:
    """Return an error as one line."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
