"""How a goal is written on the command line: `goal=0.3,-0.2`, or `task=7`, number 7 of a run's test tasks."""

import math

import torch
from torch import Tensor

from fastadapt.errors import ConfigError
from fastadapt.rl.environments import Family
from fastadapt.rl.settings import goal_size
from fastadapt.rl.tasks import Environments, EpisodeCollector
from fastadapt.tasks import draw

WRITE = "write goal=0.3,-0.2, a number for each part of a goal, or task=7 for number 7 of the test tasks"


def goal_of(word: str, source: Environments, *, seed: int = 1, split: str = "test") -> Tensor:
    """Return the goal `[g]`, float64, that a word names.

    Args:
        word: as it was written.
        source: of the test tasks.
        seed: of their stream.
        split: the name of their stream.

    Raises:
        ConfigError: if it names none, or one of another size.
    """
    name, _, value = word.partition("=")
    if name == "task" and value.isdigit():
        [task] = draw(source, seed=seed, split=split, indices=[int(value)])
        assert isinstance(task.support, EpisodeCollector)
        return task.support.goal
    if name != "goal":
        raise ConfigError(f"{word!r} names no goal; {WRITE}")
    return _numbers(value, source.family)


def _numbers(text: str, known: Family) -> Tensor:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"{text!r} is no list of numbers; {WRITE}") from None
    size = goal_size(known)
    if len(numbers) != size or not all(map(math.isfinite, numbers)):
        raise ConfigError(
            f"a goal of {known.name} is {size} finite number{'s' * (size != 1)}, got {text!r}; write goal="
            f"{','.join(['0.1'] * size)} with numbers of yours, or task=7 for number 7 of the test tasks"
        )
    return torch.tensor(numbers, dtype=torch.float64)
