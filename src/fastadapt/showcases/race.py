"""Starts measured on the same test tasks, each tuned for each number of steps, and what comes of it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from fastadapt.compare.by_step import Choice, Start, measured, tune_steps
from fastadapt.evaluation import confidence
from fastadapt.rules.rules import Rule
from fastadapt.showcases.showcase import ShowSettings
from fastadapt.showcases.stages import Stages
from fastadapt.tasks import Tasks

AT_ONCE = 8  # tasks
FEWEST = 32
"""Test tasks that are measured in any case: fewer say little."""
LEAST = 0.25
"""What trainings keep of their share, at least."""


@dataclass(frozen=True)
class Race:
    """What all starts have in common.

    Args:
        settings: of the showcase.
        stages: where finished parts are kept.
        at: numbers of steps, rising.
        loss: that is descended, with the metric that is measured, and its direction.
        rules: tried with every start.
        validation: tasks by their numbers, to tune on.
        test: tasks by their numbers.
        validate: how many validation tasks.
        most: test tasks at most.
        batch: points of a step; None takes all.
        fewest: test tasks that are measured in any case.
        after: seconds kept back for drawing.
    """

    settings: ShowSettings
    stages: Stages
    at: tuple[int, ...]
    loss: Any
    rules: dict[str, Rule]
    validation: Callable[[Sequence[int]], Tasks]
    test: Callable[[Sequence[int]], Tasks]
    validate: int
    most: int
    batch: int | None = None
    fewest: int = FEWEST
    after: float = 20.0

    def portions(self, source: Callable[[Sequence[int]], Tasks], count: int) -> list[Tasks]:
        """Return the first tasks of a source, some at once."""
        device = self.settings.device
        return [source(range(i, min(i + AT_ONCE, count))).to(device) for i in range(0, count, AT_ONCE)]

    def tuned(self, start: Start) -> tuple[dict[int, Choice], float]:
        """Return what serves a start best after each number of steps, and the seconds of a task and pair on the way."""

        def tune() -> Any:
            since = time.monotonic()
            tasks = self.portions(self.validation, self.validate)
            found = tune_steps(start, self.rules, tasks, self.at, self.loss, self.batch)
            pairs = len(start.nets) * (len(self.rules) + len(start.rules))
            pace = (time.monotonic() - since) / (pairs * self.validate)
            return {"pace": pace, "choices": {str(k): asdict(choice) for k, choice in found.items()}}

        self.stages.say(f"tuning {start.name}: {', '.join(start.nets)}")
        kept = self.stages.kept(f"tuned {start.name}", tune)
        return {int(k): Choice(**choice) for k, choice in kept["choices"].items()}, kept["pace"]

    def shrinks(self, share: float, pace: float, nets: int, starts: int) -> float:
        """Return by which factor the trainings' share of the minutes is cut, so that tuning and measuring fit as well.

        Args:
            share: of the minutes, for all trainings.
            pace: seconds of a task with one network and one rule, see `tuned`.
            nets: that are still to be tuned.
            starts: that will be measured.
        """
        if self.settings.small:
            return 1.0
        tuning = pace * nets * (len(self.rules) + 1) * self.validate
        measuring = 2 * pace * starts * FEWEST
        left = self.settings.left - self.after - tuning - measuring
        return self.stages.kept("shares", lambda: min(1.0, max(LEAST, left / (60 * self.settings.minutes * share))))

    def run(self, starts: Sequence[Start], learned: Sequence[str]) -> dict[str, Any]:
        """Return how the starts stand after each number of steps, those that were meta-learned beside their rivals."""
        choices, paces = {}, {}
        for start in starts:
            choices[start.name], paces[start.name] = self.tuned(start)
        runs = sum(
            paces[name] * max(k for k in found if (found[k].net, found[k].rule) == pair) / max(self.at)
            for name, found in choices.items()
            for pair in {(choice.net, choice.rule) for choice in found.values()}
        )
        left = self.settings.left - self.after
        fits = self.fewest if self.settings.small else max(self.fewest, int(0.85 * left / runs))
        count = min(self.most, self.stages.kept("test tasks", lambda: fits))
        tasks = self.portions(self.test, count)
        values: dict[str, Tensor] = {}
        for start in starts:
            self.stages.say(f"measuring {start.name} on {count} test tasks")
            kept = self.stages.kept(f"measured {start.name}", lambda start=start: self._measure(start, choices, tasks))
            values[start.name] = torch.tensor(kept, dtype=torch.float64)
        rows = [
            {
                "name": start.name,
                "learned": start.name in learned,
                "chosen": [asdict(choices[start.name][k]) for k in self.at],
                **_summary(values[start.name]),
                "values": [[round(v, 3) for v in row] for row in values[start.name].tolist()],
            }
            for start in starts
        ]
        found = {"steps": list(self.at), "test tasks": count, "validation tasks": self.validate, "starts": rows}
        return found if self.loss.higher_is_better else {**found, "lower is better": True}

    def _measure(self, start: Start, choices: dict[str, dict[int, Choice]], tasks: list[Tasks]) -> Any:
        return measured(start, self.rules, choices[start.name], tasks, self.loss, self.batch).tolist()


def _summary(values: Tensor) -> dict[str, list[float]]:
    pairs = [confidence(column.tolist()) for column in values.unbind(1)]
    return {"mean": [round(mean, 3) for mean, _ in pairs], "ci95": [round(half, 3) for _, half in pairs]}


@dataclass(frozen=True)
class Lead:
    """How a start stands against the best of its rivals after one number of steps.

    Args:
        step: the number of steps.
        start: the name of the start.
        rival: the name of the best rival there.
        gain: the mean difference, task by task; above 0 where the start is better.
        ci95: the half-width of its 95 % interval.
    """

    step: int
    start: str
    rival: str
    gain: float
    ci95: float


def leads(record: dict[str, Any], name: str) -> list[Lead]:
    """Return how a start stands against the best of the rivals that were not meta-learned, after each number of steps.

    The best rival turned out on these very tasks, which favours it a little.
    """
    rivals = [row for row in record["starts"] if not row["learned"]]
    own = next(row for row in record["starts"] if row["name"] == name)
    sign = -1 if record.get("lower is better") else 1
    found = []
    for j, step in enumerate(record["steps"]):
        rival = max(rivals, key=lambda row: sign * row["mean"][j])
        gains = [sign * (a[j] - b[j]) for a, b in zip(own["values"], rival["values"], strict=True)]
        mean, half = confidence(gains)
        found.append(Lead(step, name, rival["name"], round(mean, 3), round(half, 3)))
    return found


def crossing(record: dict[str, Any], name: str) -> int | None:
    """Return the first number of steps, 1 or more, from which a rival is level with or ahead of a start; None if never.

    Example:
        >>> rows = [{"name": "a", "learned": True, "mean": [0, 5, 6], "values": [[0, 5, 6], [0, 5, 6]]},
        ...         {"name": "b", "learned": False, "mean": [0, 1, 7], "values": [[0, 1, 7], [0, 1, 7]]}]
        >>> crossing({"steps": [0, 2, 4], "starts": rows}, "a")
        4
    """
    return next((lead.step for lead in leads(record, name) if lead.step and lead.gain <= 0), None)


def counted(steps: int) -> str:
    """Return "1 step", "2 steps".

    Example:
        >>> counted(1), counted(16)
        ('1 step', '16 steps')
    """
    return f"{steps} step{'' if steps == 1 else 's'}"


def steps_to(record: dict[str, Any], score: float) -> tuple[str, int] | None:
    """Return the rival that first reaches a score, and after how many of the steps that were measured; None if none."""
    sign = -1 if record.get("lower is better") else 1
    for j, step in enumerate(record["steps"]):
        rivals = [row for row in record["starts"] if not row["learned"] and sign * row["mean"][j] >= sign * score]
        if rivals:
            return max(rivals, key=lambda row: sign * row["mean"][j])["name"], step
    return None
