"""One problem of a duel: every method on the same test tasks, at several sizes of what a new task gives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from fastadapt.compare.comparison import verdict
from fastadapt.compare.held_out import interval

Role = Literal["gaussian", "learned", "rival", "floor"]


@dataclass(frozen=True, eq=False)
class Line:
    """Hold what one method achieved.

    Args:
        name: for people.
        role: the Gaussian prior, a method that was meta-trained, another rival, or what no method can pass.
        values: `[tasks, sizes]`, of every test task.
        chosen: for each size what the validation tasks chose, in words; empty where nothing was to be chosen.
    """

    name: str
    role: Role
    values: np.ndarray = field(repr=False)
    chosen: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Panel:
    """Hold one problem.

    Args:
        title: for people.
        sizes: what a new task gives, ascending.
        unit: of the sizes.
        metric: of the values.
        higher_is_better: its direction.
        lines: the methods, one of which is the Gaussian.
        facts: what else is to be known of how it was measured.
    """

    title: str
    sizes: Sequence[int]
    unit: str
    metric: str
    higher_is_better: bool
    lines: Sequence[Line]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Return the numbers as JSON values, with the paired difference of each method from the Gaussian.

        A gain above 0 is the method's; intervals are 95 % of Student's t over tasks.
        """
        [gaussian] = [line for line in self.lines if line.role == "gaussian"]
        sign = 1.0 if self.higher_is_better else -1.0
        rows = []
        for line in self.lines:
            columns = [interval(column) for column in line.values.T]
            row: dict[str, Any] = {
                "method": line.name,
                "role": line.role,
                "mean": [mean for mean, _ in columns],
                "ci95": [half for _, half in columns],
            }
            if line.chosen:
                row["chosen"] = list(line.chosen)
            if line is not gaussian:
                gains = [interval(sign * column) for column in (line.values - gaussian.values).T]
                row["gain over the Gaussian"] = [gain for gain, _ in gains]
                row["gain ci95"] = [half for _, half in gains]
                row["verdict"] = [verdict(gain, half) for gain, half in gains]
            rows.append(row)
        return {
            "title": self.title,
            self.unit: list(self.sizes),
            "unit": self.unit,
            "metric": self.metric,
            "higher is better": self.higher_is_better,
            "test tasks": len(gaussian.values),
            **self.facts,
            "methods": rows,
        }
