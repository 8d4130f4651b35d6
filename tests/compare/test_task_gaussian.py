"""The Gaussian over tasks as a baseline of tables: against numpy, and where it has to win."""

import numpy as np
import pytest

from fastadapt.compare.baselines import Arrays, with_constant
from fastadapt.compare.deadline import Deadline, OutOfTime
from fastadapt.compare.task_gaussian import Gaussian, gaussian_baseline


def arrays_like(outputs=1, tasks=60, rows=12, seed=0):
    """Tasks whose weights differ along one direction only, which ridge towards the mean does not know."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((tasks * rows, 6))
    y = np.empty((len(x), outputs))
    numbers = np.arange(len(x)).reshape(tasks, rows)
    along = np.array([1.0, 1, 1, -1, -1, -1])
    for part in numbers:
        w = np.full(6, 0.5) + rng.standard_normal() * along
        y[part] = (x[part] @ w + 0.5 * rng.standard_normal(rows))[:, None]
    return Arrays(x, y, numbers.ravel(), tuple(numbers[:-10])), numbers[-10:]


@pytest.mark.parametrize("full, noise", [(1.0, 1.0), (0.0, 2.0)])
def test_it_answers_with_the_posterior_mean_of_its_prior(full, noise):
    arrays, [task, *_] = arrays_like(outputs=2)
    baseline = Gaussian(arrays, Deadline())
    x, y, query = arrays.x[task[:4]], arrays.y[task[:4]], arrays.x[task[4:]]
    found = baseline.predict(x, y, query, full, noise)
    for column, prior in enumerate(baseline.priors("full" if full else "diagonal")):
        mean, covariance = prior.mean.numpy(), prior.covariance.numpy()
        precision = np.linalg.inv(covariance + 1e-12 * np.eye(7))
        a = with_constant(x)
        s2 = noise * prior.noise
        w = np.linalg.solve(precision + a.T @ a / s2, precision @ mean + a.T @ y[:, column] / s2)
        np.testing.assert_allclose(found[:, column], with_constant(query) @ w, rtol=1e-4, atol=1e-4)


def test_it_finds_the_one_direction_in_which_tasks_differ():
    arrays, held_out = arrays_like()
    baseline = Gaussian(arrays, Deadline())
    errors = []
    for task in held_out:
        x, y, query = arrays.x[task[:2]], arrays.y[task[:2]], arrays.x[task[2:]]
        errors.append(np.mean((baseline.predict(x, y, query, 1.0, 1.0) - arrays.y[task[2:]]) ** 2))
    assert np.mean(errors) < 0.5  # two rows tell one number; the noise alone is 0.25, ridge has six to find


def test_a_deadline_ends_its_fitting_and_one_task_is_too_few():
    arrays, [task, *_] = arrays_like()
    [late] = gaussian_baseline(arrays, Deadline(-1.0))
    with pytest.raises(OutOfTime):
        late.predict(arrays.x[task], arrays.y[task], arrays.x[task], **late.settings[0])
    single = Arrays(arrays.x, arrays.y, arrays.train, arrays.tasks[:1])
    assert list(gaussian_baseline(single)) == []
