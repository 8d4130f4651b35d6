"""Ours beside the paper's: one row for each published number that a result file speaks to."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fastadapt.evaluate import confidence
from fastadapt.published.experiment import Experiment
from fastadapt.published.verdict import Verdict, judge


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
        fraction: the smallest fraction of the published training among them.
        published: the published number with its ±; None where there is none.
        verdict: the comparison; None where there is nothing to compare with.
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
    fraction: float
    published: str | None
    verdict: Verdict | None
    percent: bool
    transductive: bool

    def text(self) -> str:
        """Return our number with its interval, accuracies in percent."""
        scale, digits = (100, 2) if self.percent else (1, 3)
        return f"{scale * self.ours:.{digits}f} ± {scale * self.half:.{digits}f}"


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
        for step in sorted(measurement.claims) or [min(headline, len(of[0]["mean"]) - 1)]:
            found.append(_row(experiment, measurement.name, step, of, records, measurement.claims.get(step)))
    return found


def _row(
    experiment: Experiment, name: str, step: int, of: list[dict[str, Any]], runs: list[dict[str, Any]], claim: Any
) -> Row:
    means = [float(m["mean"][step]) for m in of]
    halves = [float(m["ci95"][step]) for m in of]
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
        measurement=name,
        step=step,
        ours=ours,
        half=half,
        seeds=len(of),
        spread=spread,
        nonfinite=sum(m["nonfinite"][step] for m in of),
        fraction=min(float(run["fraction"]) for run in runs),
        published=None if claim is None else claim.text(percent=of[0]["metric"] == "accuracy"),
        verdict=None if claim is None else judge(ours, half, claim, higher_is_better=higher),
        percent=of[0]["metric"] == "accuracy",
        transductive=bool(of[0]["transductive"]),
    )
