"""How the methods of a comparison stand: accuracies on the same tasks, and their differences task by task.

The difference of two methods is taken on each task and then averaged; what makes a task easy or hard for all of them
cancels, so that its interval is narrower than the two of the accuracies suggest. Which method is best turned out on
these very tasks, which favours it a little; each interval is for itself, and of many one in twenty misses.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastadapt.compare.comparison import verdict
from fastadapt.errors import ConfigError
from fastadapt.evaluation import confidence


@dataclass(frozen=True)
class Standing:
    """Hold one method on one set of test tasks.

    Args:
        method: its name.
        mean: accuracy, as a fraction.
        half: half-width of its 95 % interval over tasks.
        gain: accuracy minus that of the method it is compared with, task by task; None for that method itself.
        gain_half: half-width of the 95 % interval of that.
        words: "better", "worse", "no difference can be told", or "" for the method it is compared with.
    """

    method: str
    mean: float
    half: float
    gain: float | None = None
    gain_half: float | None = None
    words: str = ""


def measured(record: Mapping[str, Any], test: str) -> list[Mapping[str, Any]]:
    """Return the rows of the methods that have a result on a set of test tasks."""
    return [row for row in record["methods"] if test in row.get("results", {}) and "failed" not in row]


def standings(record: Mapping[str, Any], test: str, baseline: str | None = None) -> list[Standing]:
    """Return how the methods stand on one set of test tasks, best first.

    Args:
        record: a comparison, `{"tests": ..., "methods": rows}`.
        test: the name of the test tasks.
        baseline: the method that the others are compared with; None takes the best.

    Raises:
        ConfigError: if the baseline has no result there.

    Example:
        >>> def row(name, values):
        ...     return {"method": name, "results": {"t": {"per task": values}}}
        >>> record = {"methods": [row("a", [0.5, 0.7, 0.6]), row("b", [0.6, 0.9, 0.7])]}
        >>> [(s.method, s.words) for s in standings(record, "t")]
        [('b', ''), ('a', 'worse')]
    """
    values = {
        row["method"]: np.array([float(value) for value in row["results"][test]["per task"]])
        for row in measured(record, test)
    }
    if not values:
        return []
    means = {name: confidence(tasks) for name, tasks in values.items()}
    ranked = sorted(values, key=lambda name: _rank(means[name][0]), reverse=True)
    to = ranked[0] if baseline is None else baseline
    if to not in values:
        raise ConfigError(f"{to!r}, with which to compare, has no result on {test}; there are {', '.join(ranked)}")
    found = []
    for name in ranked:
        if name == to:
            found.append(Standing(name, *means[name]))
            continue
        gain, half = confidence(values[name] - values[to])
        found.append(Standing(name, *means[name], gain, half, verdict(gain, half)))
    return found


def _rank(mean: float) -> float:
    return mean if math.isfinite(mean) else -math.inf
