"""Environments of the user's own: any of Gymnasium that differ by a task."""

import importlib
import importlib.util
import logging
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastadapt.errors import ConfigError, EpisodeError, MissingExtraError
from fastadapt.rl.gym_episodes import FAILURES, GymEpisodes, told
from fastadapt.rl.gym_spaces import actions_of, observations_of
from fastadapt.rl.gym_tasks import Form, attribute, drawing, takes

_log = logging.getLogger("fastadapt")


def from_spec(words: str) -> "GymFamily":
    """Return the family of `package:function`, where the function lies in a module that can be imported from here.

    Args:
        words: such as `"my_envs:make"`; see `GymFamily` for what the function does.

    Raises:
        MissingExtraError: if Gymnasium is not installed.
        ConfigError: if there is no such function, or its environments don't do.
    """
    place, colon, name = words.partition(":")
    if not (colon and place and name):
        raise ConfigError(f"{words!r} names no environment; write package:function, such as my_envs:make")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` has it
    try:
        function = importlib.import_module(place)
        for part in name.split("."):
            function = getattr(function, part)
    except FAILURES as error:
        raise ConfigError(f"can't import the environment {words!r}: {told(error)}") from error
    return from_function(function, words)


def from_function(function: Any, name: str | None = None, horizon: int | None = None) -> "GymFamily":
    """Return the family of the environments that a function makes; see `GymFamily`.

    Args:
        function: makes an environment; a class of environments does, too.
        name: what it is called in messages and in a run's settings; None takes the function's own.
        horizon: steps after which an episode ends, None for what the environment says.

    Raises:
        MissingExtraError: if Gymnasium is not installed.
        ConfigError: if its environments don't do.
    """
    if importlib.util.find_spec("gymnasium") is None:
        raise MissingExtraError("environments of your own need gymnasium: pip install 'fastadapt[rl]'")
    return GymFamily(function, name or getattr(function, "__name__", type(function).__name__), horizon)


class GymFamily:
    """Hold environments of Gymnasium that differ by a task.

    The function is one of

    - `make(task) -> env`, whose argument has no default: an environment is made for each task;
    - `make() -> env`, or a class, whose environments have `set_task(task)`, which is called before `reset`; they are
      used again and again.

    What gives tasks is `task_space` or `sample_tasks` of the function or of the environment, see
    `fastadapt.rl.gym_tasks.drawing`. A task is a number, an array or a mapping of numbers, and comes back as it was
    drawn. The horizon is `max_episode_steps` of the environment's spec, that of a `TimeLimit` around it, or its
    attribute `horizon`. Actions and observations: `fastadapt.rl.gym_spaces`.

    Before each episode `reset(seed=...)` is called, with 32 bits made of the episode's seed, and what is random must
    come from there. `terminated` ends an episode, and so does `truncated` before the horizon. An observation or a
    reward that is not finite ends it as well, and is counted. All `n` environments of a call lie in memory, and are
    stepped one after another in this process.

    Args:
        function: makes an environment.
        name: of the family.
        horizon: None for what the environment says.

    Raises:
        ConfigError: if something of this is missing; the message has what to do.
        EpisodeError: if an environment fails in its first steps.

    Example:
        >>> import gymnasium as gym
        >>> class Push(gym.Env):
        ...     action_space, observation_space = gym.spaces.Box(-1, 1), gym.spaces.Box(-9, 9)
        ...     task_space, horizon = gym.spaces.Box(-0.5, 0.5), 10
        ...     def set_task(self, task): self.goal = task
        ...     def reset(self, seed=None, options=None): self.x = np.zeros(1); return self.x, {}
        ...     def step(self, a): self.x = self.x + a; return self.x, -abs(self.x - self.goal).item(), False, False, {}
        >>> from_function(Push).horizon
        10
    """

    def __init__(self, function: Any, name: str, horizon: int | None = None) -> None:
        if not callable(function):
            raise ConfigError(
                f"{name} is a {type(function).__name__}, and a function is needed that makes an environment"
            )
        self.name = name
        self._function = function
        self._made_of = function, name, horizon
        self._of_task = not takes(function, 0)
        if self._of_task and not takes(function, 1):
            raise ConfigError(f"{name} takes several arguments; let it take the task alone, or nothing")
        self._free = [] if self._of_task else [self._new()]
        try:
            self._draw = drawing(function, self._free[0] if self._free else None, name)
            drawn = self._draw(1, np.random.default_rng(0))
            if not hasattr(drawn, "__len__") or len(drawn) != 1:
                raise ValueError(f"{str(drawn)[:60]} where a list of 1 task was asked for")
            first = drawn[0]
            self.form = Form.of(first)
        except ConfigError:
            raise
        except FAILURES as error:
            raise ConfigError(f"{name} can't draw a task: {told(error)}") from error
        env = self._ready(first)
        actions, observations = actions_of(env.action_space, name), observations_of(env.observation_space, name)
        self.actions, self.observations = actions, observations
        self.action_size, self.discrete, self.observation_size = actions.size, actions.discrete, observations.size
        self.horizon = _horizon(env, name) if horizon is None else horizon
        if self.horizon < 1:
            raise ConfigError(f"an episode of {name} has at least 1 step, got {self.horizon}")
        self.release([env])
        self._try_twice(torch.from_numpy(self.form.row(first)))

    def __reduce__(self) -> Any:
        """Make a copy anew: its environments are its own."""
        return GymFamily, self._made_of

    def draw_tasks(self, count: int, rng: np.random.Generator) -> Tensor:
        """Return tasks `[count, g]`, float64, the numbers of one in each row.

        Raises:
            EpisodeError: if what draws them fails, or returns something else.
        """
        try:
            tasks = self._draw(count, rng)
            if len(tasks) != count:
                raise ValueError(f"{len(tasks)} tasks where {count} were asked for")
            return torch.from_numpy(np.stack([self.form.row(task) for task in tasks]))
        except FAILURES as error:
            raise EpisodeError(f"{self.name} can't draw tasks: {told(error)}") from error

    def start(self, tasks: Tensor, seeds: Sequence[int]) -> "GymEpisodes":
        """Return one environment for each task.

        Raises:
            ConfigError: if the tasks are not `[n, g]`, or there are not as many seeds.
            EpisodeError: if an environment can't be made, or fails as it is reset.
        """
        if tasks.dim() != 2 or tasks.shape[1] != self.form.size or len(seeds) != len(tasks):
            raise ConfigError(
                f"{self.name} needs tasks [n, {self.form.size}] with a seed each, got {list(tasks.shape)} and "
                f"{len(seeds)} seeds"
            )
        asked = [self.form.task(row) for row in tasks.detach().double().numpy()]
        envs = [self._ready(task) for task in asked]
        episodes = GymEpisodes(self, envs, asked, seeds)
        weakref.finalize(episodes, self.release, envs)
        return episodes

    def release(self, envs: list[Any]) -> None:
        """Take environments back when their episodes are over: to be used again, or closed."""
        if not self._of_task:
            self._free += envs
            return
        for env in envs:
            try:
                env.close()
            except Exception as error:  # what they had to give, they gave
                _log.debug("%s can't be closed: %s", self.name, told(error))

    def _ready(self, task: Any) -> Any:
        """Return an environment of a task, before its reset."""
        if self._of_task:
            return self._new(task)
        env = self._free.pop() if self._free else self._new()
        set_task = attribute(env, "set_task")
        if not callable(set_task):
            raise ConfigError(
                f"{self.name} makes environments without set_task(task), and takes no task itself, which would be an "
                "argument without a default; give it one of them"
            )
        try:
            set_task(task)
        except FAILURES as error:
            raise EpisodeError(f"{self.name} can't set the task {task!r}: {told(error)}") from error
        return env

    def _new(self, *task: Any) -> Any:
        import gymnasium

        try:
            env = self._function(*task)
        except FAILURES as error:
            of = f" of the task {task[0]!r}" if task else ""
            raise EpisodeError(f"{self.name} can't make an environment{of}: {told(error)}") from error
        if not isinstance(env, gymnasium.Env):
            raise ConfigError(
                f"{self.name} made a {type(env).__name__}, which is no gymnasium.Env (those of the older gym are not); "
                "derive it from that class"
            )
        return env

    def _try_twice(self, task: Tensor) -> None:
        """Play some steps twice: the same seed must give the same."""
        seen = []
        for _ in range(2):
            episodes = self.start(task[None], [0])
            found = [episodes.observations]
            for _ in range(min(3, self.horizon)):
                found += episodes.step(torch.as_tensor(self.actions.probe)[None])
            if episodes.nonfinite:
                raise EpisodeError(
                    f"{self.name} returns an observation or a reward that is not finite in its first steps, task "
                    f"{self.form.task(task.numpy())!r}; mend it: such a number ends an episode"
                )
            seen.append(torch.cat([part.double().ravel() for part in found]))
        if not torch.equal(*seen):
            _log.warning(
                "%s is not the same twice: something in it is random that reset(seed=...) does not set, so that runs "
                "can't be repeated",
                self.name,
            )


def _horizon(env: Any, name: str) -> int:
    """Return the steps of an episode that an environment, or one of its wrappers, has."""
    at = env
    while at is not None:
        found = [getattr(at, "_max_episode_steps", None), getattr(at, "horizon", None)]
        found.append(getattr(getattr(at, "spec", None), "max_episode_steps", None))
        for steps in found:
            if isinstance(steps, (int, np.integer)) and not isinstance(steps, bool):
                return int(steps)
        at = getattr(at, "env", None)
    raise ConfigError(
        f"{name} does not say how long an episode is; wrap it in gymnasium.wrappers.TimeLimit(env, "
        "max_episode_steps=...), or give it an attribute horizon"
    )
