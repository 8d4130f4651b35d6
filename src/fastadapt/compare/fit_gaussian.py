"""A Gaussian prior fitted to the training tasks of a table; what is to be chosen, the validation tasks choose."""

import math
from collections.abc import Sequence
from typing import get_args

import torch

from fastadapt.compare.held_out import draw_rows, judge, learner_scores
from fastadapt.data.tables.table import LoadedTable
from fastadapt.data.tables.table_settings import TableData
from fastadapt.methods.gaussian_prior import GaussianPrior
from fastadapt.methods.task_prior import Shape
from fastadapt.tasks import Task

FACTORS = (0.5, 1.0, 2.0, 4.0)
"""Multiples of the fitted noise variance that are tried."""


def fit_to_table(learner: GaussianPrior, table: LoadedTable, data: TableData, *, draws: int = 5) -> str:
    """Fit a learner to all rows of the training tasks and return in words what the validation tasks chose.

    Args:
        learner: fitted in place.
        table: the table.
        data: its settings.
        draws: how often each validation task is taken.
    """
    best, chosen, words = -math.inf, learner.state_dict(), ""
    tasks = [_whole(table, rows) for rows in table.tasks("train").values()]
    for shape in _shapes():
        learner.fit(tasks, shape=shape)
        fitted = {name: value.clone() for name, value in learner.state_dict().items()}
        for factor in FACTORS:
            learner.noise.copy_(factor * fitted["noise"])
            score = 0.0
            for shots in data.every_shots:
                drawn = draw_rows(table, data, "val", shots, draws)
                score += judge([one[-1] for one in learner_scores(learner, table, drawn)], table, data, drawn).score
            if score > best:
                best, words = score, f"a {shape} covariance, {factor:g} times the noise of the training tasks"
                chosen = {**fitted, "noise": factor * fitted["noise"]}
    learner.load_state_dict(chosen)
    return words


def _shapes() -> Sequence[Shape]:
    return get_args(Shape)


def _whole(table: LoadedTable, rows: object) -> Task:
    """Return a task whose support is all of its rows."""
    x, y = table.x[rows], table.y[rows]  # type: ignore[index]
    return Task((x, y), (torch.zeros_like(x[:0]), torch.zeros_like(y[:0])))
