"""A Gaussian prior over tasks, against one joint Gaussian in numpy, ridge, and the truth it was drawn from."""

import numpy as np
import pytest
import torch
from torch import nn

from fastadapt import Task, draw, load_predictor, save_predictor
from fastadapt.errors import ConfigError, TaskError
from fastadapt.methods import GaussianPrior
from fastadapt.methods.task_prior import TaskPrior, fit_prior, prior_of_values

pytestmark = pytest.mark.usefixtures("double")


def covariance_of(size, seed=0):
    root = np.random.default_rng(seed).standard_normal((size, size))
    return root @ root.T


def conditioned(mean, covariance, noise, a, y, aq):
    """Return the mean of the queries given the samples, from the joint Gaussian of all their values."""
    both = np.concatenate((a, aq))
    joint = both @ covariance @ both.T
    n = len(a)
    seen = joint[:n, :n] + noise * np.eye(n)
    return aq @ mean + joint[n:, :n] @ np.linalg.inv(seen) @ (y - a @ mean)


@pytest.mark.parametrize("samples, numbers", [(3, 6), (6, 6), (40, 6)])
@pytest.mark.parametrize("noise", [0.01, 2.0])
def test_answers_are_those_of_a_conditioned_gaussian(samples, numbers, noise):
    rng = np.random.default_rng(samples)
    x, y, xq = (rng.standard_normal(size) for size in ((samples, numbers - 1), samples, (5, numbers - 1)))
    mean, covariance = rng.standard_normal(numbers), covariance_of(numbers)
    a, aq = (np.concatenate((part, np.ones((len(part), 1))), 1) for part in (x, xq))
    want = conditioned(mean, covariance, noise, a, y, aq)
    given = {"mean": torch.tensor(mean)[:, None], "covariance": torch.tensor(covariance), "noise": noise}
    learner = GaussianPrior(nn.Identity(), **given)
    task = Task((torch.tensor(x), torch.tensor(y)[:, None]), (torch.tensor(xq), torch.zeros(5, 1)))
    np.testing.assert_allclose(learner.adapt(task.support)(task.query[0])[:, 0], want, rtol=1e-9)
    np.testing.assert_allclose(float(learner(task).loss), (want**2).mean(), rtol=1e-9)


def test_several_outputs_share_what_they_say_of_each_other():
    rng = np.random.default_rng(3)
    mean, covariance = rng.standard_normal((2, 2)), covariance_of(4)
    x, y, xq = rng.standard_normal((3, 2)), rng.standard_normal((3, 2)), rng.standard_normal((4, 2))

    def rows(inputs):  # y_k = sum_j x_j W_jk, with W row by row
        return np.array([[x[j] * (k == c) for j in range(2) for c in range(2)] for x in inputs for k in range(2)])

    want = conditioned(mean.ravel(), covariance, 0.3, rows(x), y.ravel(), rows(xq)).reshape(4, 2)
    learner = GaussianPrior(
        nn.Identity(), mean=torch.tensor(mean), covariance=torch.tensor(covariance), noise=0.3, constant=False
    )
    np.testing.assert_allclose(learner.adapt((torch.tensor(x), torch.tensor(y)))(torch.tensor(xq)), want, rtol=1e-9)


@pytest.mark.parametrize("samples", [3, 20])
def test_with_one_variance_it_is_ridge_towards_the_mean(samples):
    rng = np.random.default_rng(0)
    x, y, w0 = rng.standard_normal((samples, 4)), rng.standard_normal(samples), rng.standard_normal(4)
    tau2, noise = 0.5, 0.2
    want = np.linalg.solve(x.T @ x + noise / tau2 * np.eye(4), x.T @ y + noise / tau2 * w0)
    prior = TaskPrior(torch.tensor(w0), tau2 * torch.eye(4), noise)
    np.testing.assert_allclose(prior.posterior_mean(torch.tensor(x), torch.tensor(y)), want, rtol=1e-9)


def test_without_noise_samples_are_met_exactly_and_what_never_varies_stays():
    values = torch.randn(50, 3) @ torch.randn(3, 8) + torch.randn(8)
    prior = prior_of_values(values)  # of rank 3
    np.testing.assert_allclose(prior.covariance, np.cov(values.numpy(), rowvar=False), atol=1e-12)
    unseen = prior.mean + square_rows(prior) @ torch.randn(3)
    seen = torch.eye(8)[:5]
    torch.testing.assert_close(prior.posterior_mean(seen, seen @ unseen), unseen, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        prior.posterior_mean(seen, torch.stack([seen @ unseen] * 2))[1], unseen, atol=1e-6, rtol=1e-6
    )


def square_rows(prior):
    values, vectors = torch.linalg.eigh(prior.covariance)
    return vectors[:, -3:] * values[-3:].sqrt()


def linear_tasks(count, rows, seed=0, noise=0.3):
    rng = torch.Generator().manual_seed(seed)
    mean, root = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([[1.0, 0, 0], [0.8, 0.3, 0], [0, 0, 0.05]])
    tasks = []
    for number in range(count):
        w = mean + root @ torch.randn(3, generator=rng)
        x = torch.randn(rows + number % 3, 2, generator=rng)
        y = x @ w[:2] + w[2] + noise * torch.randn(len(x), generator=rng)
        tasks.append(Task((x[:2], y[:2, None]), (x[2:], y[2:, None])))
    return tasks, mean, root @ root.T


def test_fit_finds_the_gaussian_that_tasks_were_drawn_from_though_each_has_few_samples():
    tasks, mean, covariance = linear_tasks(800, 3)
    learner = GaussianPrior(nn.Identity(), mean=torch.zeros(3, 1)).fit(tasks)
    np.testing.assert_allclose(learner.mean[:, 0], mean, atol=0.1)
    np.testing.assert_allclose(learner.covariance, covariance, atol=0.15)
    assert float(learner.noise) == pytest.approx(0.09, rel=0.2)


def test_a_round_of_fitting_is_at_the_top_of_the_likelihood():
    """Where fitting ends, no small move of mean, covariance or noise makes the samples more likely."""
    tasks, *_ = linear_tasks(60, 6)
    samples = [
        (
            np.c_[torch.cat((t.support[0], t.query[0])), np.ones(len(t.support[0]) + len(t.query[0]))],
            torch.cat((t.support[1], t.query[1]))[:, 0].numpy(),
        )
        for t in tasks
    ]
    prior = fit_prior([(torch.tensor(a), torch.tensor(y)) for a, y in samples])

    def likelihood(mean, covariance, noise):
        total = 0.0
        for a, y in samples:
            s = a @ covariance @ a.T + noise * np.eye(len(y))
            missed = y - a @ mean
            total -= 0.5 * (np.linalg.slogdet(s)[1] + missed @ np.linalg.solve(s, missed))
        return total

    mean, covariance, noise = prior.mean.numpy(), prior.covariance.numpy(), prior.noise
    best = likelihood(mean, covariance, noise)
    rng = np.random.default_rng(0)
    for _ in range(10):
        shift = 0.05 * rng.standard_normal(3)
        assert likelihood(mean + shift, covariance, noise) < best
        root = np.eye(3) + 0.1 * rng.standard_normal((3, 3))
        assert likelihood(mean, root @ covariance @ root.T, noise) < best + 1e-3
    assert likelihood(mean, covariance, 1.1 * noise) < best
    assert likelihood(mean, covariance, 0.9 * noise) < best


@pytest.mark.parametrize("shape", ["diagonal", "scalar"])
def test_a_covariance_has_the_shape_that_was_asked_for(shape):
    tasks, *_ = linear_tasks(40, 6)
    found = GaussianPrior(nn.Identity(), mean=torch.zeros(3, 1)).fit(tasks, shape=shape).covariance
    assert torch.equal(found, torch.diag(found.diagonal()))
    assert (found.diagonal().unique().numel() == 1) is (shape == "scalar")


def test_a_predictor_on_disk_answers_the_same(tmp_path):
    tasks, *_ = linear_tasks(20, 6)
    predict = GaussianPrior(nn.Identity(), mean=torch.zeros(3, 1)).fit(tasks).adapt(tasks[0].support)
    net = {"name": "Features", "arguments": {"inputs": 2}}
    predict.details["net"] = predict.model.described(net)
    again = load_predictor(save_predictor(predict, tmp_path / "predictor"))
    assert torch.equal(again(tasks[0].query[0]), predict(tasks[0].query[0]))


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"mean": torch.zeros(3)}, "a row for each feature"),
        ({"mean": torch.zeros(3, 1), "noise": 0.0}, "noise must be a variance > 0, got 0.0"),
        ({"mean": torch.zeros(3, 1), "covariance": torch.eye(2)}, r"symmetric matrix \[3, 3\]"),
        ({"mean": torch.zeros(3, 1), "covariance": torch.triu(torch.ones(3, 3))}, "symmetric"),
    ],
)
def test_settings_out_of_range_are_refused(settings, told):
    with pytest.raises(ConfigError, match=told):
        GaussianPrior(nn.Identity(), **settings)


@pytest.mark.parametrize(
    "y, told",
    [
        (torch.tensor([0, 1]), "choose RidgeHead for classes"),
        (torch.zeros(2), r"write y\[:, None\]"),
        (torch.zeros(2, 3), r"must be \[2, 1\]"),
        (torch.tensor([[0.0], [torch.nan]]), "leave them out"),
    ],
)
def test_targets_that_are_no_numbers_for_each_sample_are_refused(y, told):
    with pytest.raises(TaskError, match=told):
        GaussianPrior(nn.Identity(), mean=torch.zeros(3, 1)).adapt((torch.zeros(2, 2), y))


def test_other_numbers_of_features_and_too_few_tasks_are_refused():
    learner = GaussianPrior(nn.Identity(), mean=torch.zeros(3, 1))
    with pytest.raises(TaskError, match="there are 4 features, and mean has rows for 2 beside the constant"):
        learner.adapt((torch.zeros(2, 4), torch.zeros(2, 1)))
    tasks, *_ = linear_tasks(1, 4)
    with pytest.raises(TaskError, match="at least 2 training tasks, got 1"):
        learner.fit(tasks)
    with pytest.raises(ConfigError, match="full, diagonal, scalar, got 'round'"):
        learner.fit(linear_tasks(4, 4)[0], shape="round")


def test_it_is_fitted_to_tasks_of_a_source():
    def sample(rng):
        w, x = rng.normal(2.0, 0.1), rng.standard_normal((8, 1))
        x, y = torch.tensor(x), torch.tensor(w * x)
        return Task((x[:2], y[:2]), (x[2:], y[2:]))

    learner = GaussianPrior(nn.Identity(), mean=torch.zeros(1, 1), constant=False)
    learner.fit(draw(sample, seed=0, split="train", indices=range(50)))
    assert float(learner.mean) == pytest.approx(2.0, abs=0.1)
    [task] = draw(sample, seed=0, split="test", indices=[0])
    assert float(learner(task).loss) < 1e-4
