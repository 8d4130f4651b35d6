"""Ours beside the paper's: one row for each published number that a result file speaks to."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fastadapt.evaluation import confidence
from fastadapt.published.experiment import Experiment, Measurement
from fastadapt.published.verdict import Verdict, judge
from fastadapt.results.evaluation_json import column_of


@dataclass(frozen=True)
class Row:
    """Hold one measured number and, where there is one, the published number for it.

    Args:
        experiment: the name of the published run.
        measurement: how it was measured.
        step: inner steps.
        ours: the mean; over seeds if there were several.
        half: half-width of its 95 % interval over tasks; over seeds the larger of the mean one and the seeds' own.
        seeds: how many trainings.
        spread: standard deviation over the seeds; None for one.
        nonfinite: test tasks that diverged, over all seeds.
        median: the median over tasks, the mean of that over seeds.
        fraction: the smallest fraction of the published training among them.
        published: the published number with its ±; None where there is none.
        verdict: the comparison; None where there is nothing to compare with.
        tasks: how many test tasks.
        asked: how many the published protocol has.
        percent: whether the metric is an accuracy.
        transductive: whether the queries of a task shared batch statistics.
    """

    experiment: str
    measurement: str
    step: int
    ours: float
    half: float
    seeds: int
    spread: float | None
    nonfinite: int
    median: float
    fraction: float
    published: str | None
    verdict: Verdict | None
    tasks: int
    asked: int
    percent: bool
    transductive: bool

    @property
    def label(self) -> str:
        """How it was measured, with the number of test tasks where they are fewer than the protocol's."""
        return self.measurement if self.tasks >= self.asked else f"{self.measurement}, {self.tasks:,} tasks"

    def text(self) -> str:
        """Return our number with its interval, accuracies in percent; where tasks diverge, with the median."""
        scale, digits = (100, 2) if self.percent else (1, 3)
        if self.nonfinite or (not self.percent and not self.half < abs(self.ours)):
            return f"{self.ours:.3g} ± {self.half:.3g} (median {self.median:.3f})"
        return f"{scale * self.ours:.{digits}f} ± {scale * self.half:.{digits}f}"

    def remark(self, unjudged: str = "") -> str:
        """Return the verdict in words (`unjudged` where nothing is published) and how many tasks diverged."""
        words = [unjudged if self.verdict is None else self.verdict.text(percent=self.percent)]
        if self.nonfinite:
            words.append(f"{self.nonfinite} task{'s' if self.nonfinite > 1 else ''} diverged")
        return "; ".join(word for word in words if word)


def share(fraction: float) -> str:
    """Return which part of the published training was done.

    Example:
        >>> share(0.1322), share(1)
        ('13 %', '100 %')
    """
    return "100 %" if fraction >= 1 else f"{100 * fraction:.2g} %"


def rows(experiment: Experiment, runs: Iterable[dict[str, Any]]) -> list[Row]:
    """Return the rows of an experiment: each published number, or the headline result where there is none.

    Args:
        experiment: the published run.
        runs: the records of its result file, one for each seed.
    """
    found = []
    records = list(runs)
    for measurement in experiment.measurements:
        of = [m for run in records for m in run["measurements"] if m["name"] == measurement.name]
        if not of:
            continue
        protocol = measurement.protocol
        headline = protocol.report if protocol.report is not None else protocol.steps or 0
        for step in sorted(measurement.claims) or [min(headline, of[0].get("after", [len(of[0]["mean"]) - 1])[-1])]:
            found.append(_row(experiment, measurement, step, of, records))
    return found


def _row(
    experiment: Experiment, measurement: Measurement, step: int, of: list[dict[str, Any]], runs: list[dict[str, Any]]
) -> Row:
    claim = measurement.claims.get(step)
    at = [column_of(m, step) for m in of]
    means = [float(m["mean"][j]) for m, j in zip(of, at, strict=True)]
    halves = [float(m["ci95"][j]) for m, j in zip(of, at, strict=True)]
    ours = sum(means) / len(means)
    # The same test tasks serve every seed: their interval does not shrink with the number of seeds.
    half = sum(halves) / len(halves)
    spread = None
    if len(means) > 1 and math.isfinite(ours):
        _, between = confidence(means, ddof=1)
        half = max(half, between)
        spread = math.sqrt(sum((m - ours) ** 2 for m in means) / (len(means) - 1))
    higher = bool(of[0]["higher_is_better"])
    return Row(
        experiment=experiment.name,
        measurement=measurement.name,
        step=step,
        ours=ours,
        half=half,
        seeds=len(of),
        spread=spread,
        nonfinite=sum(m["nonfinite"][j] for m, j in zip(of, at, strict=True)),
        median=sum(float(m["median"][j]) for m, j in zip(of, at, strict=True)) / len(of),
        fraction=min(float(run["fraction"]) for run in runs),
        published=None if claim is None else claim.text(percent=of[0]["metric"] == "accuracy"),
        verdict=None if claim is None else judge(ours, half, claim, higher_is_better=higher),
        tasks=min(m["protocol"]["tasks"] for m in of),
        asked=measurement.protocol.tasks,
        percent=of[0]["metric"] == "accuracy",
        transductive=bool(of[0]["transductive"]),
    )
