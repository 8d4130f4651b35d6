"""Where the tasks of a user's environments come from, and how a task is a row of numbers."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastadapt.errors import ConfigError

Draw = Callable[[int, np.random.Generator], Sequence[Any]]
"""Draws so many tasks, from nothing but the generator."""


@dataclass(frozen=True)
class Form:
    """Know how a task of the user's is written as a row of numbers, and read back.

    Args:
        keys: of a task that is a mapping, in order; `None` for one that is not.
        parts: for each value its shape and its type: `float`, `int` or `bool`.
    """

    keys: tuple[Any, ...] | None
    parts: tuple[tuple[tuple[int, ...], type], ...]

    @classmethod
    def of(cls, task: Any) -> "Form":
        """Return the form of a task.

        Raises:
            ValueError: if it is not made of numbers.
        """
        keys = tuple(task) if isinstance(task, Mapping) else None
        values = list(task.values()) if isinstance(task, Mapping) else [task]
        parts = []
        for value in values:
            found = np.asarray(value)
            kinds = {"f": float, "i": int, "u": int, "b": bool}
            if found.dtype.kind not in kinds or not found.size:
                raise ValueError(f"{value!r} is not a number, nor an array or a mapping of numbers")
            parts.append((found.shape, kinds[found.dtype.kind]))
        return cls(keys, tuple(parts))

    @property
    def size(self) -> int:
        """Numbers in a row."""
        return sum(int(np.prod(shape)) for shape, _ in self.parts)

    def row(self, task: Any) -> np.ndarray:
        """Return a task as numbers.

        Raises:
            ValueError: if it is of another form, or not finite.
        """
        form = Form.of(task)
        if form.keys != self.keys or [shape for shape, _ in form.parts] != [shape for shape, _ in self.parts]:
            raise ValueError(f"{task!r} has another form than the first task that was drawn")
        values = task.values() if isinstance(task, Mapping) else [task]
        row = np.concatenate([np.asarray(value, dtype=np.float64).ravel() for value in values])
        if not np.isfinite(row).all():
            raise ValueError(f"{task!r} is not finite")
        return row

    def task(self, row: np.ndarray) -> Any:
        """Return the task of a row: numbers as Python's, arrays as numpy's."""
        values, at = [], 0
        for shape, kind in self.parts:
            size = int(np.prod(shape))
            part = row[at : at + size].reshape(shape)
            values.append(part.astype(kind) if shape else kind(part))
            at += size
        return values[0] if self.keys is None else dict(zip(self.keys, values, strict=True))


def drawing(function: Any, env: Any, name: str) -> Draw:
    """Return how tasks are drawn.

    The function is asked first, then the environment (through its wrappers), for the first of
    1. `sample_tasks(count, rng)`, which returns `count` tasks and draws from `rng`;
    2. `sample_tasks(count)`, which draws from the environment's own generator, as `env.reset(seed=...)` sets it;
    3. `task_space`, a `Box` with bounds, or `Discrete`: tasks are uniform in it.

    Raises:
        ConfigError: if there is none of them; the message has what to add.
    """
    # what stands in a class is bound to its environments
    for owner in (env,) if isinstance(function, type) and env is not None else (function, env):
        sample = attribute(owner, "sample_tasks")
        if sample is not None:
            return _sampled(sample, env, name)
        space = attribute(owner, "task_space")
        if space is not None:
            return _uniform(space, name)
    raise ConfigError(
        f"{name} does not say which tasks there are; give the function or the environment task_space, a Box with "
        "bounds or Discrete of gymnasium.spaces, or sample_tasks(count, rng), which returns count tasks"
    )


def attribute(owner: Any, name: str) -> Any:
    """Return an attribute of a function, or of an environment or what it wraps; `None` if there is none."""
    while owner is not None:
        found = getattr(owner, name, None)
        if found is not None:
            return found
        owner = getattr(owner, "env", None)
    return None


def takes(function: Callable[..., Any], count: int) -> bool:
    """Return whether a function can be called with so many positional arguments."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # a builtin without a signature
        return count == 0
    return True


def _sampled(sample: Callable[..., Any], env: Any, name: str) -> Draw:
    if takes(sample, 2):
        return sample

    def draw(count: int, rng: np.random.Generator) -> Sequence[Any]:
        env.reset(seed=int(rng.integers(2**31)))
        return sample(count)

    once, again = (repr(draw(3, np.random.default_rng(0))) for _ in range(2))
    if once != again:
        raise ConfigError(
            f"sample_tasks(count) of {name} draws from a generator that reset(seed=...) does not set, so that a run "
            "could not be repeated; let it take a second argument rng, a numpy.random.Generator, and draw from that"
        )
    return draw


def _uniform(space: Any, name: str) -> Draw:
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        first, beyond = int(space.start), int(space.start + space.n)
        return lambda count, rng: [int(rng.integers(first, beyond)) for _ in range(count)]
    if not isinstance(space, spaces.Box) or not np.isfinite([space.low, space.high]).all():
        raise ConfigError(
            f"the task_space of {name} is {space}, and tasks are drawn uniformly from a Box with bounds or a Discrete "
            "space; give sample_tasks(count, rng) for others"
        )
    low, high = space.low, space.high
    if np.issubdtype(space.dtype, np.integer):
        return lambda count, rng: [rng.integers(low, high, endpoint=True) for _ in range(count)]
    return lambda count, rng: [rng.uniform(low, high) for _ in range(count)]
