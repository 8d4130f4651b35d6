"""The baseline that learns how tasks differ: a Gaussian over their linear weights, see `GaussianPrior`.

With `a = [x, 1]` a training task is `y = A w + e`, `w ~ N(mu, Sigma)`, `e ~ N(0, s2 I)`; `mu`, `Sigma` and `s2` are
those under which the rows of the training tasks are most likely. The validation tasks choose whether `Sigma` is a whole
matrix or a diagonal one, and how many times `s2` the noise of a new task's rows is taken to be.
"""

from collections.abc import Iterator
from functools import cache

import numpy as np
import torch

from fastadapt.compare.baselines import Arrays, Baseline, with_constant
from fastadapt.compare.deadline import Deadline
from fastadapt.methods.task_prior import Shape, TaskPrior, fit_prior

NAME = "Gaussian prior over tasks"
_NUMBERS = 1 << 23
"""Numbers in the tasks' Gram matrices: of a table of many inputs fewer tasks are looked at, at least two."""
_SETTINGS = [{"full": full, "noise": factor} for full in (1.0, 0.0) for factor in (0.5, 1.0, 2.0, 4.0)]


def gaussian_baseline(arrays: Arrays, deadline: Deadline | None = None) -> Iterator[Baseline]:
    """Yield the baseline; it is fitted when it first predicts.

    Args:
        arrays: the table; with fewer than two training tasks there is no such baseline.
        deadline: until when it may be fitted.
    """
    if len(arrays.tasks) >= 2:
        yield Baseline(NAME, Gaussian(arrays, deadline if deadline is not None else Deadline()).predict, _SETTINGS)


class Gaussian:
    """Predict with the posterior mean of a task's weights; a class is a number of its own, 0 or 1.

    Args:
        arrays: the table.
        deadline: until when a prior may be fitted.
    """

    def __init__(self, arrays: Arrays, deadline: Deadline) -> None:
        self.arrays, self.deadline = arrays, deadline
        self.priors = cache(self._priors)

    def predict(self, x: np.ndarray, y: np.ndarray, query: np.ndarray, full: float, noise: float) -> np.ndarray:
        """Return the posterior means for the query rows, `[q, o]`.

        Args:
            x: `[K, d]`.
            y: `[K, o]`.
            query: `[q, d]`.
            full: 1 for a whole covariance, 0 for a diagonal one.
            noise: how many times the fitted variance the noise of the task's rows is.
        """
        a, aq = torch.from_numpy(with_constant(x)), torch.from_numpy(with_constant(query))
        columns = []
        for prior, target in zip(self.priors("full" if full else "diagonal"), y.T, strict=True):
            eased = TaskPrior(prior.mean, prior.covariance, noise * prior.noise)
            columns.append(aq @ eased.posterior_mean(a, torch.from_numpy(np.ascontiguousarray(target))))
        return torch.stack(columns, 1).numpy()

    def _priors(self, shape: Shape) -> list[TaskPrior]:
        """Return a prior for each output."""
        width = self.arrays.x.shape[1] + 1
        tasks = self.arrays.tasks[: max(2, _NUMBERS // width**2)]
        inputs = [torch.from_numpy(with_constant(self.arrays.x[rows])) for rows in tasks]
        fitted = []
        for output in range(self.arrays.y.shape[1]):
            targets = [torch.from_numpy(np.ascontiguousarray(self.arrays.y[rows, output])) for rows in tasks]
            fitted.append(fit_prior(list(zip(inputs, targets, strict=True)), shape=shape, each=self.deadline.check))
        return fitted
