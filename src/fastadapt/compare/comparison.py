"""Whether meta-learning pays on a table: a learner beside the baselines, on the same rows, with paired intervals."""

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from fastadapt.compare.baselines import Baseline, Measured, arrays_of, measure_baseline, simple_baselines
from fastadapt.compare.boosting import boosting_baselines
from fastadapt.compare.deadline import Deadline, OutOfTime
from fastadapt.compare.held_out import draw_rows, explained_variance, interval, judge, known_ways, learner_scores
from fastadapt.compare.task_gaussian import gaussian_baseline
from fastadapt.compare.tune import at_rate
from fastadapt.data.tables.table import LoadedTable
from fastadapt.data.tables.table_settings import TableData
from fastadapt.learner import Learner
from fastadapt.methods.gradient import GradientLearner

logger = logging.getLogger("fastadapt")
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Multiples of the trained inner rate that are tried on the validation tasks."""


@dataclass(frozen=True)
class Adaptation:
    """Hold how a learner adapts to a new task: inner rate (None for one that it has learned) and steps."""

    rate: float | None
    steps: int


def tune_adaptation(
    learner: GradientLearner,
    table: LoadedTable,
    data: TableData,
    *,
    rate: float | None,
    most_steps: int,
    draws: int = 5,
    deadline: Deadline | None = None,
) -> Adaptation:
    """Return the inner rate and number of steps that serve a trained learner best on the validation tasks.

    One pair is chosen for all numbers of support rows together, by the mean over them; the trained rate and
    `most_steps / 2` steps stay where nothing is better.

    Args:
        learner: the learner, left as it was.
        table: the table.
        data: its settings.
        rate: the inner rate of the training; None leaves the learner's own rates, and chooses the steps alone.
        most_steps: the most steps to try.
        draws: how often each task is taken.
        deadline: until when to try further rates, those near the trained one first.
    """
    device = next(parameter.device for parameter in learner.parameters())
    best, chosen = -math.inf, Adaptation(rate, max(1, most_steps // 2))
    factors = (1.0,) if rate is None else FACTORS
    for tried, factor in enumerate(sorted(factors, key=lambda factor: abs(math.log(factor)))):
        if tried and deadline is not None and deadline.over:
            logger.info("%d of %d inner rates were tried: the minutes allow no more", tried, len(FACTORS))
            break
        totals = np.zeros(most_steps + 1)
        with at_rate(learner, None if rate is None else torch.tensor(rate * factor, device=device)):
            for shots in data.every_shots:
                drawn = draw_rows(table, data, "val", shots, draws)
                scores = learner_scores(learner, table, drawn, most_steps, ways=known_ways(data))
                for j in range(most_steps + 1):
                    totals[j] += judge([score[j] for score in scores], table, data, drawn).score
        j = int(totals.argmax())
        if totals[j] > best:
            best, chosen = float(totals[j]), Adaptation(None if rate is None else rate * factor, j)
    return chosen


def compare(
    learners: Mapping[str, Learner],
    table: LoadedTable,
    data: TableData,
    *,
    draws: int = 5,
    seed: int = 1,
    boosting: bool = True,
    refit: bool = True,
    say: Callable[[str], None] = lambda text: None,
    left: Callable[[], float] = lambda: math.inf,
) -> dict[str, Any]:
    """Measure learners and baselines on the held-out tasks, as JSON values.

    Args:
        learners: trained learners, by name.
        table: the table.
        data: its settings.
        draws: how often each held-out task is taken, with other rows.
        seed: of the draws.
        boosting: whether to fit gradient boosting, which needs scikit-learn.
        refit: whether one of its forms is fitted for each task.
        say: told what is being measured.
        left: seconds until it is to be done; baselines that come later are left out, and named.

    Raises:
        MissingExtraError: if boosting is asked for and scikit-learn is not installed.
    """
    arrays, results = arrays_of(table, data), []
    for number, shots in enumerate(data.every_shots):
        deadline = Deadline(left() / (len(data.every_shots) - number))
        drawn = draw_rows(table, data, "test", shots, draws, seed)
        meta = []
        for name, learner in learners.items():
            scores = [score[-1] for score in learner_scores(learner, table, drawn, ways=known_ways(data))]
            meta.append(Measured(name, judge(scores, table, data, drawn), {"steps": float(learner.test_steps)}))
        trees = partial(boosting_baselines, arrays, shots, refit=refit, deadline=deadline) if boosting else tuple

        def measured(baseline: Baseline, until: Deadline | None, shots: int = shots) -> Measured:
            say(f"{shots} support rows: {baseline.name}")
            return measure_baseline(baseline, arrays, table, data, shots, draws, seed, until)

        kinds = (partial(simple_baselines, arrays), partial(gaussian_baseline, arrays, deadline), trees)
        plain, left_out = _until(deadline, kinds, measured)
        lacks = {"left out": left_out} if left_out else {}
        results.append({"shots": shots, **tell(meta, plain), **lacks})
    return {
        "file": data.file,
        "target": data.preparation.target,
        "task column": data.preparation.task,
        "split seed": data.split_seed,
        "tasks": {part: len(table.split.names(part)) for part in ("train", "val", "test")},
        "draws of each task": draws,
        "seed": seed,
        "held out": list(table.split.test),
        "results": results,
    }


def _until(
    deadline: Deadline,
    kinds: Sequence[Callable[[], Iterable[Baseline]]],
    measured: Callable[[Baseline, Deadline | None], Measured],
) -> tuple[list[Measured], list[str]]:
    """Return what was measured of all kinds of baselines, the first in any case, and the names of those left out."""
    plain: list[Measured] = []
    left_out: list[str] = []
    for kind in kinds:
        try:
            baselines = list(kind())
        except OutOfTime:
            left_out.append("gradient boosting")
            continue
        for baseline in baselines:
            try:
                plain.append(measured(baseline, deadline if plain else None))
            except OutOfTime:
                left_out.append(baseline.name)
    return plain, left_out


def tell(meta: Sequence[Measured], plain: Sequence[Measured]) -> dict[str, Any]:
    """Return the numbers of every method, and the paired difference of each learner from the best baseline.

    The best baseline is the one that turned out best on these very tasks, which favours it.
    """
    best = max(plain, key=lambda measured: measured.judged.score)
    rows = [_row(measured, True) for measured in meta] + [_row(measured, False) for measured in plain]
    differences = []
    for measured in meta:
        sign = 1.0 if measured.judged.metric == "accuracy" else -1.0
        gain, half = interval(sign * (measured.judged.per_task - best.judged.per_task))
        differences.append({"method": measured.name, "gain": gain, "ci95": half, "verdict": verdict(gain, half)})
    return {"metric": best.judged.metric, "methods": rows, "best baseline": best.name, "differences": differences}


def verdict(gain: float, half: float) -> str:
    """Return what a gain with its interval says: "better", "worse" or "no difference can be told".

    Example:
        >>> verdict(2.0, 0.5), verdict(-2.0, 0.5), verdict(0.2, 0.5)
        ('better', 'worse', 'no difference can be told')
    """
    if not math.isfinite(gain) or not abs(gain) > half:
        return "no difference can be told"
    return "better" if gain > 0 else "worse"


def _row(measured: Measured, learned: bool) -> dict[str, Any]:
    mean, half = interval(measured.judged.per_task)
    row: dict[str, Any] = {"method": measured.name, "meta-learned": learned, "mean": mean, "ci95": half}
    if measured.judged.metric == "mse":
        row["explained variance"], row["explained variance ci95"] = explained_variance(measured.judged)
    judged = measured.judged
    kept = {"per task": judged.per_task, "squares": judged.squares, "spread": judged.spread}
    return row | {"chosen": measured.setting, **{name: values.tolist() for name, values in kept.items() if values.size}}


def comparison_markdown(comparison: Mapping[str, Any]) -> str:
    """Return a comparison as Markdown: a table for each number of support rows, and what it says in a sentence."""
    tasks = comparison["tasks"]
    lines = [
        f"# {comparison['file']}: {comparison['target']} for a new {comparison['task column']}",
        "",
        f"Trained on {tasks['train']} tasks, settings chosen on {tasks['val']}, measured on {tasks['test']} that "
        f"nothing was fitted on (split seed {comparison['split seed']}). Every held-out task is taken "
        f"{comparison['draws of each task']} times with other support rows and averaged; intervals are 95 % of "
        "Student's t over tasks.",
    ]
    for result in comparison["results"]:
        lines += ["", f"## {result['shots']} support rows", "", *_table(result), "", *_sentences(result)]
    return "\n".join(lines) + "\n"


def _table(result: Mapping[str, Any]) -> Iterable[str]:
    error = result["metric"] == "mse"
    yield "| method | mean squared error | explained variance (%) |" if error else "| method | accuracy (%) |"
    yield "|:---|---:|---:|" if error else "|:---|---:|"
    ranked = sorted(result["methods"], key=lambda row: row["mean"] if error else -row["mean"])
    for row in ranked:
        name = f"**{row['method']}**" if row["meta-learned"] else row["method"]
        if error:
            explained = plus_minus(100 * row["explained variance"], 100 * row["explained variance ci95"])
            yield f"| {name} | {plus_minus(row['mean'], row['ci95'])} | {explained} |"
        else:
            yield f"| {name} | {plus_minus(100 * row['mean'], 100 * row['ci95'])} |"


def _sentences(result: Mapping[str, Any]) -> Iterable[str]:
    error = result["metric"] == "mse"
    words, scale = (("lower", "higher", "mean squared error"), 1.0) if error else (("more", "less", "accuracy"), 100.0)
    if "left out" in result:
        yield f"Not compared with, as the minutes were over: {', '.join(result['left out'])}."
    for difference in result["differences"]:
        gain, half = scale * difference["gain"], scale * difference["ci95"]
        told = f"{plus_minus(abs(gain), half)}{'' if error else ' points'} {words[gain <= 0]} {words[2]}"
        here = "of those measured" if "left out" in result else "here"
        yield (
            f"{difference['method']} against the best baseline {here}, {result['best baseline']}: {told}, "
            f"task by task: {difference['verdict']}."
        )


def plus_minus(value: float, half: float) -> str:
    """Return a number and its interval with as many digits as the interval bears.

    Example:
        >>> plus_minus(105.2341, 3.419), plus_minus(0.012345, 0.00061), plus_minus(3.0, 0.0)
        ('105.2 ± 3.4', '0.01235 ± 0.00061', '3 ± 0')
    """
    if not (math.isfinite(value) and math.isfinite(half) and half > 0):
        return f"{value:.4g} ± {half:.2g}"
    digits = max(0, 1 - math.floor(math.log10(half)))
    return f"{value:.{digits}f} ± {half:.{digits}f}"
