"""What a practitioner would try before meta-learning, on the same support and query rows.

Each baseline gives scores for the query rows of a task: standardised values, or one number for each class. A setting
such as a penalty is chosen on the validation tasks, for each number of support rows.

With `a = [x, 1]`, the rows of all training tasks `A0, Y0`, and those of the task `A, Y`:

    pooled ridge             w0 = (A0' A0 + alpha I)^-1 A0' Y0
    ridge towards pooled     w0 + argmin_v |Y - A (w0 + v)|^2 + alpha |v|^2 = w0 + A' (A A' + alpha I)^-1 (Y - A w0)
    pooled ridge + task      (A0' A0 + c A' A + alpha I)^-1 (A0' Y0 + c A' Y)

The second is the posterior mean for weights `w ~ N(w0, tau^2 I)` and noise of variance sigma^2 at alpha = sigma^2 /
tau^2, so no method does better where that holds.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastadapt.compare.deadline import Deadline
from fastadapt.compare.held_out import Draw, Judged, draw_rows, judge
from fastadapt.data.tables.table import LoadedTable
from fastadapt.data.tables.table_settings import TableData

Setting = Mapping[str, float]
Predict = Callable[..., np.ndarray]
PENALTIES = tuple(float(10.0**p) for p in np.arange(-2, 5, 0.5))


@dataclass(frozen=True, eq=False)
class Arrays:
    """Hold a table for baselines, in float64.

    Args:
        x: `[n, d]`, the inputs.
        y: `[n, o]`, standardised values, or classes one-hot.
        train: the rows of all training tasks.
        tasks: the rows of each training task.
    """

    x: np.ndarray = field(repr=False)
    y: np.ndarray = field(repr=False)
    train: np.ndarray = field(repr=False)
    tasks: tuple[np.ndarray, ...] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Baseline:
    """Hold a way to predict and the settings to choose from.

    Args:
        name: for people.
        predict: `predict(x, y, query, **setting)` gives `[q, o]`.
        settings: the candidates.
        costly: whether every prediction fits a model on all rows; such a setting is chosen on one draw of each task.
        x: `[n, e]`, what it takes in place of the inputs, such as the scores of a model for all rows.
    """

    name: str
    predict: Predict
    settings: Sequence[Setting] = ({},)
    costly: bool = False
    x: np.ndarray | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Measured:
    """Hold what a method achieved with the setting that the validation tasks chose."""

    name: str
    judged: Judged
    setting: dict[str, float]


def arrays_of(table: LoadedTable, data: TableData) -> Arrays:
    """Return a table as the baselines take it."""
    y = table.y.numpy()
    targets = np.eye(len(data.preparation.labels))[y] if data.preparation.labels else y.astype(np.float64)
    return Arrays(
        table.x.numpy().astype(np.float64), targets, table.all_rows("train"), tuple(table.tasks("train").values())
    )


def measure_baseline(
    baseline: Baseline,
    arrays: Arrays,
    table: LoadedTable,
    data: TableData,
    shots: int,
    draws: int,
    seed: int = 1,
    deadline: Deadline | None = None,
) -> Measured:
    """Choose a baseline's setting on the validation tasks and judge it on the test tasks.

    Raises:
        OutOfTime: if the deadline passes meanwhile.
    """
    deadline = deadline if deadline is not None else Deadline()

    def judged(setting: Setting, some: Sequence[Draw]) -> Judged:
        x, y = arrays.x if baseline.x is None else baseline.x, arrays.y
        scores = []
        for d in some:
            deadline.check()
            scores.append(baseline.predict(x[d.support], y[d.support], x[d.query], **setting))
        return judge(scores, table, data, some)

    chosen = baseline.settings[0]
    if len(baseline.settings) > 1:
        turns = 1 if baseline.costly else draws
        validation = draw_rows(table, data, "val", shots, turns, seed)
        chosen = max(baseline.settings, key=lambda setting: judged(setting, validation).score)
    test = draw_rows(table, data, "test", shots, draws, seed)
    return Measured(baseline.name, judged(chosen, test), dict(chosen))


def simple_baselines(arrays: Arrays) -> Iterator[Baseline]:
    """Return the baselines that need nothing but linear algebra."""
    pooled = Pooled(arrays)
    penalties = [{"alpha": alpha} for alpha in PENALTIES]
    towards = [{"alpha": alpha, "intercept": c} for alpha in PENALTIES for c in (0.1, 1.0, 3.0, 10.0)]
    joined = [{"alpha": alpha, "weight": c} for alpha in (0.1, 1.0, 10.0, 100.0) for c in (1.0, 10.0, 100.0, 1000.0)]
    neighbours = [{"neighbours": float(k)} for k in (1, 2, 3, 5, 10)]
    everywhere = arrays.y[arrays.train].mean(0)
    yield Baseline("mean of all training rows", lambda x, y, query: np.tile(everywhere, (len(query), 1)))
    yield Baseline("mean of the task's rows", lambda x, y, query: np.tile(y.mean(0), (len(query), 1)))
    yield Baseline("nearest neighbours in the task", nearest, neighbours)
    yield Baseline("ridge per task", ridge, penalties)
    yield Baseline("pooled ridge, no adaptation", pooled.alone)
    yield Baseline("pooled ridge with the task's rows", pooled.joined, joined)
    yield Baseline("ridge towards the pooled one", pooled.towards, towards)


def ridge(x: np.ndarray, y: np.ndarray, query: np.ndarray, alpha: float) -> np.ndarray:
    """Return the predictions of a ridge regression on the task's rows alone, its intercept not penalised."""
    mean, level = x.mean(0), y.mean(0)
    centred = x - mean
    dual = np.linalg.solve(centred @ centred.T + alpha * np.eye(len(x)), y - level)
    return level + (query - mean) @ (centred.T @ dual)


def nearest(x: np.ndarray, y: np.ndarray, query: np.ndarray, neighbours: float) -> np.ndarray:
    """Return the mean target of the nearest support rows."""
    distances = ((query[:, None] - x[None]) ** 2).sum(-1)
    order = np.argsort(distances, axis=1, kind="stable")[:, : int(neighbours)]
    return y[order].mean(1)


def with_constant(x: np.ndarray, constant: float = 1.0) -> np.ndarray:
    """Return `[x, constant]`."""
    return np.concatenate((x, np.full((len(x), 1), constant)), axis=1)


def ridge_towards(
    w0: np.ndarray, x: np.ndarray, y: np.ndarray, query: np.ndarray, alpha: float, intercept: float = 1.0
) -> np.ndarray:
    """Return the predictions of a ridge regression whose penalty is the distance from the weights `w0`.

    Args:
        w0: `[d + 1, o]`, the last row the intercept.
        x: `[K, d]`.
        y: `[K, o]`.
        query: `[q, d]`.
        alpha: the penalty, > 0.
        intercept: how free the intercept is: its penalty is `alpha / intercept^2`.
    """
    a = with_constant(x, intercept)
    dual = np.linalg.solve(a @ a.T + alpha * np.eye(len(x)), y - with_constant(x) @ w0)
    return with_constant(query) @ w0 + with_constant(query, intercept) @ (a.T @ dual)


class Pooled:
    """Hold what the linear baselines need of the rows of all training tasks.

    Args:
        arrays: the table.
        alpha: penalty of the pooled regression, small against the number of rows.
    """

    def __init__(self, arrays: Arrays, alpha: float = 1.0) -> None:
        a, y = with_constant(arrays.x[arrays.train]), arrays.y[arrays.train]
        self.gram, self.cross = a.T @ a, a.T @ y
        self.w0 = np.linalg.solve(self.gram + alpha * np.eye(len(self.gram)), self.cross)

    def alone(self, x: np.ndarray, y: np.ndarray, query: np.ndarray) -> np.ndarray:
        """Return the pooled predictions."""
        return with_constant(query) @ self.w0

    def joined(self, x: np.ndarray, y: np.ndarray, query: np.ndarray, alpha: float, weight: float) -> np.ndarray:
        """Return the predictions of one regression on all rows, the task's `weight` times as heavy."""
        a = with_constant(x)
        gram = self.gram + weight * a.T @ a + alpha * np.eye(len(self.gram))
        return with_constant(query) @ np.linalg.solve(gram, self.cross + weight * a.T @ y)

    def towards(self, x: np.ndarray, y: np.ndarray, query: np.ndarray, **setting: Any) -> np.ndarray:
        """Return `ridge_towards` the pooled weights."""
        return ridge_towards(self.w0, x, y, query, **setting)
