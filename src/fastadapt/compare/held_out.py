"""Held-out tasks of a table: the same rows for every method, and intervals over tasks rather than over draws.

A table has few test tasks, so each is taken several times with other support rows, and averaged; what is left to
chance is which tasks were held out. The interval is that of Student's t over them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from fastadapt.data.tables.table import LoadedTable, Part, answerable
from fastadapt.data.tables.table_settings import TableData
from fastadapt.errors import ConfigError
from fastadapt.evaluation import Evaluation, Protocol, summarise
from fastadapt.learner import Learner
from fastadapt.results.by_class import Tally
from fastadapt.tasks import Tasks, task_rng

_AT_ONCE = 64  # draws run at a time


@dataclass(frozen=True)
class Draw:
    """Hold the rows of one draw of a held-out task.

    Args:
        task: the number of the task among those of its part.
        support: row numbers to adapt on.
        query: row numbers to be judged on.
    """

    task: int
    support: np.ndarray
    query: np.ndarray


def draw_rows(table: LoadedTable, data: TableData, part: Part, shots: int, draws: int, seed: int = 1) -> list[Draw]:
    """Return the draws of every task of a part, task by task.

    The query rows do not depend on `shots`, and the support of 5 is the beginning of that of 10.

    Raises:
        ConfigError: if `shots` is above what the run was made for, or `draws` is below 1.
    """
    most = max(data.every_shots)
    if not 1 <= shots <= most:
        raise ConfigError(f"the tasks of this run have at most {most} support rows, {shots} were asked for")
    if draws < 1:
        raise ConfigError(f"draws must be at least 1, got {draws}")
    drawn = []
    for number, rows in enumerate(table.tasks(part).values()):
        for turn in range(draws):
            order = rows[task_rng(seed, part, number * 10_000 + turn).permutation(len(rows))]
            drawn.append(Draw(number, order[:shots], order[most : most + data.queries]))
    return drawn


def known_ways(data: TableData) -> int | None:
    """Return how many classes there are where a method answers with the labels of the support rows alone, else None."""
    return data.ways if data.known else None


def learner_scores(
    learner: Learner, table: LoadedTable, draws: Sequence[Draw], steps: int | None = None, ways: int | None = None
) -> list[np.ndarray]:
    """Return for each draw a learner's output on its query after 0..k steps, `[k+1, q, o]` in float64.

    Queries of different lengths are filled up with copies of a row, which are cut off again: without batch norm a row
    is answered alone.

    Args:
        learner: the learner.
        table: the table.
        draws: the rows.
        steps: inner steps k; None takes the learner's.
        ways: for a method that answers with the labels of the support rows alone, how many there are of all: a class
            that it has no row of is the least likely, and never the answer.
    """
    if getattr(learner, "layered", False):
        raise ConfigError("tasks of a table are measured with networks without batch norm; choose net.norm=False")
    device = next((parameter.device for parameter in learner.parameters()), torch.device("cpu"))
    widest = max(len(draw.query) for draw in draws)
    scores: list[np.ndarray] = []
    for first in range(0, len(draws), _AT_ONCE):
        some = draws[first : first + _AT_ONCE]
        support = np.stack([draw.support for draw in some])
        query = np.stack([np.resize(draw.query, widest) for draw in some])
        asked = table.y[query] if ways is None else answerable(table.y[support], table.y[query])
        tasks = Tasks((table.x[support], table.y[support]), (table.x[query], asked)).to(device)
        outputs = learner.trace(tasks, steps).outputs
        for output, draw in zip(outputs, some, strict=True):
            score = output[:, : len(draw.query)].double().cpu()
            lacking = 0 if ways is None else ways - score.shape[-1]
            lowest = torch.finfo(output.dtype).min / 2
            scores.append(torch.nn.functional.pad(score, (0, max(0, lacking)), value=lowest).numpy())
    return scores


@dataclass(frozen=True)
class Judged:
    """Hold what a method achieved on each held-out task, averaged over its draws.

    Args:
        metric: "mse", in the target's own units, or "accuracy".
        per_task: the metric, `[tasks]`.
        squares: the sum of squared errors of a task's query rows, `[tasks]`; empty for labels.
        spread: the sum of their squared distances from the mean of all of them, `[tasks]`; empty for labels.
    """

    metric: str
    per_task: np.ndarray
    squares: np.ndarray
    spread: np.ndarray

    @property
    def score(self) -> float:
        """The mean over tasks, such that higher is better."""
        mean = float(self.per_task.mean())
        value = mean if self.metric == "accuracy" else -mean
        return value if math.isfinite(value) else -math.inf


def judge(scores: Sequence[np.ndarray], table: LoadedTable, data: TableData, draws: Sequence[Draw]) -> Judged:
    """Judge the scores `[q, o]` of every draw.

    Args:
        scores: standardised values, or one number for each class, the largest of which is the answer.
        table: the table.
        data: its settings.
        draws: the rows that were scored.
    """
    y = table.y.numpy().astype(np.float64)
    count = max(draw.task for draw in draws) + 1
    turns = np.bincount([draw.task for draw in draws], minlength=count)
    sums = np.zeros((3, count))
    everywhere = np.concatenate([y[draw.query] for draw in draws]).mean()
    for score, draw in zip(scores, draws, strict=True):
        if data.preparation.labels:
            right = score.argmax(-1) == y[draw.query] if np.isfinite(score).all() else np.nan
            sums[0, draw.task] += np.mean(right)
            continue
        errors = (score - y[draw.query]) ** 2
        sums[:, draw.task] += errors.mean(), errors.sum(), ((y[draw.query] - everywhere) ** 2).sum()
    means = sums / turns
    if data.preparation.labels:
        return Judged("accuracy", means[0], np.empty(0), np.empty(0))
    units = data.preparation.std**2
    return Judged("mse", units * means[0], units * means[1], units * means[2])


def student95(degrees: int) -> float:
    """Return the 97.5 % point of Student's t, right to 0.01 from 1 degree of freedom on.

    Example:
        >>> [round(student95(n), 2) for n in (1, 2, 4, 29, 10**6)]
        [12.71, 4.3, 2.78, 2.05, 1.96]

    References:
        Abramowitz, Stegun 1964, Handbook of Mathematical Functions, 26.7.5.
    """
    if degrees < 1:
        return math.inf
    if degrees == 1:
        return math.tan(0.475 * math.pi)
    if degrees == 2:
        return 0.95 * math.sqrt(2 / (1 - 0.95**2))
    z, n = 1.959963984540054, degrees
    powers = {k: z**k for k in (1, 3, 5, 7, 9)}
    second = (5 * powers[5] + 16 * powers[3] + 3 * z) / 96
    third = (3 * powers[7] + 19 * powers[5] + 17 * powers[3] - 15 * z) / 384
    fourth = (79 * powers[9] + 776 * powers[7] + 1482 * powers[5] - 1920 * powers[3] - 945 * z) / 92160
    return z + (powers[3] + z) / (4 * n) + second / n**2 + third / n**3 + fourth / n**4


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return the mean over tasks and the half-width of its 95 % interval, `t std / sqrt(n)`."""
    n = values.size
    if n < 2:
        return float(values.mean()), math.inf
    with np.errstate(all="ignore"):
        return float(values.mean()), float(student95(n - 1) * values.std(ddof=1) / math.sqrt(n))


def explained_variance(judged: Judged) -> tuple[float, float]:
    """Return the explained variance `1 - sum of squares / spread`, pooled over tasks, and its 95 % half-width.

    The interval is a jackknife over tasks.

    References:
        Bakker, Heskes 2003, Task Clustering and Gating for Bayesian Multitask Learning (JMLR 4) for the measure.
    """
    squares, spread = judged.squares, judged.spread
    n = squares.size
    value = 1 - squares.sum() / spread.sum()
    if n < 2:
        return float(value), math.inf
    without = 1 - (squares.sum() - squares) / (spread.sum() - spread)
    error = math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum()))
    return float(value), student95(n - 1) * error


def evaluate_held_out(
    learner: Learner,
    data: TableData,
    table: LoadedTable,
    *,
    shots: int | None = None,
    draws: int = 5,
    seed: int = 1,
    steps: int | None = None,
    part: Part = "test",
    answers: list[dict[str, Any]] | None = None,
) -> Evaluation:
    """Evaluate a learner on held-out tasks: one number for each, the mean over draws.

    Args:
        learner: the learner.
        data: the settings of the table.
        table: the table.
        shots: support rows; None takes the smallest of the run.
        draws: how often each task is taken, with other rows.
        seed: of the draws.
        steps: inner steps; None takes the learner's.
        part: which tasks.
        answers: a list to which every draw of a task is added: its rows, what is true and what was answered.
    """
    k = data.shots if shots is None else shots
    drawn = draw_rows(table, data, part, k, draws, seed)
    scores = learner_scores(learner, table, drawn, steps, known_ways(data))
    by_step = [judge([score[j] for score in scores], table, data, drawn) for j in range(len(scores[0]))]
    values = np.stack([judged.per_task for judged in by_step], axis=1)
    metric = by_step[0].metric
    losses = values / data.preparation.std**2 if metric == "mse" else _cross_entropies(scores, table, drawn)
    name = f"held-out tasks, K={k}, {draws} draws each, v1"
    protocol = Protocol(name, tasks=len(values), steps=values.shape[1] - 1, seed=seed, split=part)
    result = summarise({"loss": losses, metric: values}, protocol, learner)
    if answers is not None:
        answers += answers_of(scores, table, data, drawn, result, part)
    tally = Tally(data.preparation.labels or None)
    if data.preparation.labels:
        for score, draw in zip(scores, drawn, strict=True):
            tally.add(draw.task, table.y[draw.query].numpy(), score[result.column].argmax(-1))
    by_class = tally.result() if data.preparation.labels and tally.unequal else None
    return replace(result, ci95=[interval(column)[1] for column in values.T], by_class=by_class)


def answers_of(
    scores: Sequence[np.ndarray],
    table: LoadedTable,
    data: TableData,
    draws: Sequence[Draw],
    result: Evaluation,
    part: Part,
) -> list[dict[str, Any]]:
    """Return of every held-out task its name, its metric and, draw by draw, its rows, the truth and the answers.

    Rows are counted from 1 below the header; amounts are in the target's own units.
    """
    names, prepared = list(table.tasks(part)), data.preparation
    records = [
        {"task": name, result.metric: row[result.column], "draws": []}
        for name, row in zip(names, result.per_task, strict=True)
    ]
    for score, draw in zip(scores, draws, strict=True):
        truth, answer = table.y[draw.query].numpy(), score[result.column]
        if prepared.labels:
            said = [[prepared.labels[int(i)] for i in row] for row in (truth, answer.argmax(-1))]
        else:
            units = (truth.reshape(-1), answer.reshape(-1))
            said = [[round(float(prepared.mean + prepared.std * v), 6) for v in row] for row in units]
        rows = {"support": [int(i) + 1 for i in draw.support], "query": [int(i) + 1 for i in draw.query]}
        records[draw.task]["draws"].append({**rows, "truth": said[0], "answer": said[1]})
    return records


def _cross_entropies(scores: Sequence[np.ndarray], table: LoadedTable, draws: Sequence[Draw]) -> np.ndarray:
    """Return the mean cross-entropy of each task after each number of steps, `[tasks, k+1]`."""
    count = max(draw.task for draw in draws) + 1
    sums, turns = np.zeros((count, len(scores[0]))), np.zeros(count)
    for score, draw in zip(scores, draws, strict=True):
        logs = torch.from_numpy(score).log_softmax(-1).numpy()
        sums[draw.task] -= logs[:, np.arange(len(draw.query)), table.y.numpy()[draw.query]].mean(-1)
        turns[draw.task] += 1
    return sums / turns[:, None]
