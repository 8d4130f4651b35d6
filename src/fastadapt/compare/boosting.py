"""Gradient boosting on the rows of all training tasks, and three ways to tell it of the new task.

Needs `pip install 'fastadapt[tables]'`: trees are the usual first choice for tables, and not worth writing again.
"""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fastadapt.compare.baselines import Arrays, Baseline
from fastadapt.compare.deadline import Deadline
from fastadapt.errors import MissingExtraError
from fastadapt.tasks import task_rng

ROUNDS = (15, 30, 60, 120)
"""Numbers of trees to choose from."""
SHRINKAGES = (0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
_TURNS = 3  # supports that are drawn of each training task to learn what their mean says


def need_boosting() -> None:
    """Check that scikit-learn is there.

    Raises:
        MissingExtraError: if it is not; the message holds the install command.
    """
    try:
        import sklearn.ensemble  # type: ignore[import-not-found]  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("gradient boosting needs scikit-learn: pip install 'fastadapt[tables]'") from error


class Trees:
    """Fit gradient-boosted trees and give their scores, `[q, o]`.

    Args:
        x: `[n, d]`.
        y: `[n, o]`; with more than one column, classes one-hot.
        rounds: how many trees are added one after another.
        weights: `[n]`; None is 1 for each row.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, rounds: int, weights: np.ndarray | None = None) -> None:
        need_boosting()
        from sklearn.ensemble import (  # type: ignore[import-not-found]
            HistGradientBoostingClassifier,
            HistGradientBoostingRegressor,
        )

        settings: dict[str, Any] = {"max_iter": rounds, "early_stopping": False, "random_state": 0}
        self.outputs = y.shape[1]
        kind = HistGradientBoostingRegressor if self.outputs == 1 else HistGradientBoostingClassifier
        target = y[:, 0] if self.outputs == 1 else y.argmax(1)
        self.model: Any = kind(**settings).fit(x, target, sample_weight=weights)

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Return predictions `[q, 1]`, or the probability of every class `[q, o]`."""
        return self._spread(self.model.predict(x) if self.outputs == 1 else self.model.predict_proba(x))

    def _spread(self, found: np.ndarray) -> np.ndarray:
        if self.outputs == 1:
            return found[:, None]
        out = np.zeros((len(found), self.outputs))
        out[:, self.model.classes_] = found  # a class without a training row has no column of its own
        return out


def boosting_baselines(
    arrays: Arrays, shots: int, *, refit: bool = True, deadline: Deadline | None = None
) -> Iterator[Baseline]:
    """Return boosting alone, with the task's mean residual, told the task's mean, and fitted again with its rows.

    Args:
        arrays: the table.
        shots: support rows of a task.
        refit: whether to give the one that fits a model for every task, which takes long.
        deadline: until when to fit.

    Raises:
        OutOfTime: if the deadline passes before the models are fitted.
        MissingExtraError: if scikit-learn is not installed.
    """
    need_boosting()
    x, y = arrays.x[arrays.train], arrays.y[arrays.train]
    outputs = y.shape[1]
    deadline = deadline if deadline is not None else Deadline()

    def fitted(x: np.ndarray, y: np.ndarray, rounds: int) -> Trees:
        deadline.check()
        return Trees(x, y, rounds)

    everywhere = np.concatenate([fitted(x, y, rounds).scores(arrays.x) for rounds in ROUNDS], axis=1)
    told = {rounds: fitted(*told_rows(arrays, shots), rounds) for rounds in ROUNDS}

    def of_rounds(scores: np.ndarray, rounds: float) -> np.ndarray:
        at = ROUNDS.index(int(rounds)) * outputs
        return scores[:, at : at + outputs]

    def shifted(scores: np.ndarray, sy: np.ndarray, query: np.ndarray, rounds: float, shrink: float) -> np.ndarray:
        residual = (sy - of_rounds(scores, rounds)).mean(0) * len(sy) / (len(sy) + shrink)
        return of_rounds(query, rounds) + residual

    def told_mean(sx: np.ndarray, sy: np.ndarray, query: np.ndarray, rounds: float) -> np.ndarray:
        return told[int(rounds)].scores(beside(query, sy.mean(0)))

    def again(sx: np.ndarray, sy: np.ndarray, query: np.ndarray, rounds: float, weight: float) -> np.ndarray:
        weights = np.concatenate((np.ones(len(x)), np.full(len(sx), weight)))
        return Trees(np.concatenate((x, sx)), np.concatenate((y, sy)), int(rounds), weights).scores(query)

    every = [{"rounds": float(rounds)} for rounds in ROUNDS]
    shifts = [{**rounds, "shrink": shrink} for rounds in every for shrink in SHRINKAGES]
    yield Baseline(
        "pooled boosting, no adaptation", lambda _, sy, query, rounds: of_rounds(query, rounds), every, x=everywhere
    )
    yield Baseline("pooled boosting + the task's mean residual", shifted, shifts, x=everywhere)
    yield Baseline("pooled boosting, told the task's mean", told_mean, every)
    if refit:
        heavy: list[Mapping[str, float]] = [{"rounds": r, "weight": w} for r in (30.0, 60.0) for w in (1.0, 30.0)]
        yield Baseline("pooled boosting fitted with the task's rows", again, heavy, costly=True)


def boosting_seconds(arrays: Arrays, *, tuned_on: int, measured_on: int, refit: bool = True) -> float:
    """Return about how long all boosting baselines take for one number of support rows, from the time of one fit.

    Args:
        arrays: the table.
        tuned_on: how many validation tasks there are.
        measured_on: how many test tasks, each draw counted.
        refit: whether one model is fitted for each task.
    """
    since = time.monotonic()
    Trees(arrays.x[arrays.train], arrays.y[arrays.train], ROUNDS[1])
    fits = 2 * sum(ROUNDS) / ROUNDS[1]  # in fits of that many rounds
    fits += 6 * tuned_on + 2 * measured_on if refit else 0  # four settings of 30 or 60 rounds, then the better one
    return fits * (time.monotonic() - since)


def told_rows(arrays: Arrays, shots: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the training tasks, each beside the mean target of `shots` other rows of its task."""
    xs, ys = [], []
    for number, rows in enumerate(arrays.tasks):
        for turn in range(_TURNS):
            order = rows[task_rng(0, "told", number * _TURNS + turn).permutation(len(rows))]
            support, rest = order[:shots], order[shots:]
            xs.append(beside(arrays.x[rest], arrays.y[support].mean(0)))
            ys.append(arrays.y[rest])
    return np.concatenate(xs), np.concatenate(ys)


def beside(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return `[x, values]`, the same values beside every row."""
    return np.concatenate((x, np.tile(values, (len(x), 1))), axis=1)
