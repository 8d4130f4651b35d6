"""Episodes in environments of the user's own, side by side."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fastadapt.errors import EpisodeError
from fastadapt.rl.gym_spaces import Actions, Observations


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
        self._alive = np.ones(len(envs), dtype=bool)
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
        of 0, and is counted in `nonfinite`.

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
        return self.observations, torch.from_numpy(rewards), torch.from_numpy(~self._alive)

    def _end(self, broken: np.ndarray) -> None:
        self.nonfinite += int(broken.sum())
        self._seen[broken] = np.nan_to_num(self._seen[broken])
        self._alive = self._alive & ~broken

    def _reset(self, env: Any, seed: int) -> np.ndarray:
        observation, _ = env.reset(seed=seed)
        return self._family.observations.read(observation)

    def _stepped(self, env: Any, action: np.ndarray) -> tuple[np.ndarray, float, bool]:
        observation, reward, terminated, truncated, _ = env.step(self._family.actions.translate(action))
        cut = bool(truncated) and self._step < self._family.horizon
        return self._family.observations.read(observation), float(reward), bool(terminated) or cut

    def _asked(self, number: int, what: Callable[[], Any]) -> Any:
        try:
            return what()
        except Exception as error:  # a user's code may raise anything
            when = f"in step {self._step}" if self._step else "as it was reset"
            raise EpisodeError(
                f"an environment of {self._family.name} failed {when}, task {self._tasks[number]!r}, seed "
                f"{self._seeds[number]}: {told(error)}; mend it, and the same command goes on from the last checkpoint"
            ) from error


def told(error: Exception) -> str:
    """Return an error as one line."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
