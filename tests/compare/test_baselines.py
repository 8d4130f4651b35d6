"""Baselines against closed forms, and the oracle of linear tasks that no method beats."""

import numpy as np
import pytest
from torch import nn

from fastadapt import MAML, SGD, Reptile, Training, meta_train
from fastadapt.compare.baselines import (
    Baseline,
    Pooled,
    arrays_of,
    measure_baseline,
    nearest,
    ridge,
    ridge_towards,
    simple_baselines,
    with_constant,
)
from fastadapt.compare.held_out import draw_rows, interval, judge, learner_scores
from fastadapt.data.tables.table_settings import prepare_table
from tables import classification, linear, regression

RNG = np.random.default_rng(0)


def test_ridge_is_the_minimum_of_its_objective():
    x, y, query = RNG.standard_normal((5, 8)), RNG.standard_normal((5, 2)), RNG.standard_normal((3, 8))
    a = with_constant(x)
    penalty = np.diag([0.7] * 8 + [0.0])  # the intercept is free
    weights = np.linalg.solve(a.T @ a + penalty, a.T @ y)
    np.testing.assert_allclose(ridge(x, y, query, 0.7), with_constant(query) @ weights, rtol=1e-8)


@pytest.mark.parametrize("intercept", [1.0, 3.0])
def test_ridge_towards_is_the_posterior_mean(intercept):
    d, k, sigma, tau = 4, 6, 0.5, 0.3
    x, w0 = RNG.standard_normal((k, d)), RNG.standard_normal((d + 1, 1))
    y, query = RNG.standard_normal((k, 1)), RNG.standard_normal((3, d))
    prior = np.diag([tau**2] * d + [(intercept * tau) ** 2])
    a = with_constant(x)
    # conditioning of the joint Gaussian of weights and targets
    gain = prior @ a.T @ np.linalg.inv(a @ prior @ a.T + sigma**2 * np.eye(k))
    posterior = w0 + gain @ (y - a @ w0)
    found = ridge_towards(w0, x, y, query, alpha=sigma**2 / tau**2, intercept=intercept)
    np.testing.assert_allclose(found, with_constant(query) @ posterior, rtol=1e-8)


def test_nearest_neighbours_by_hand():
    x, y = np.array([[0.0], [1.0], [5.0]]), np.array([[1.0], [2.0], [9.0]])
    query = np.array([[0.4], [4.0]])
    assert nearest(x, y, query, 1.0).tolist() == [[1.0], [9.0]]
    assert nearest(x, y, query, 2.0).tolist() == [[1.5], [5.5]]
    assert nearest(x, y, query, 10.0).tolist() == [[4.0], [4.0]]  # no more than there are


@pytest.fixture
def table(tmp_path):
    return prepare_table(regression(tmp_path / "t.csv"), task="group", target="y", shots=(5,))


def test_pooled_ridge_joins_rows_by_their_weight(table):
    arrays = arrays_of(table.loaded, table.data)
    x, y = arrays.x[arrays.train], arrays.y[arrays.train]
    support, query = draw_rows(table.loaded, table.data, "test", 5, draws=1)[0].support, arrays.x[:4]
    a = with_constant(np.concatenate((x, *[arrays.x[support]] * 7)))
    b = np.concatenate((y, *[arrays.y[support]] * 7))
    weights = np.linalg.lstsq(a.T @ a + 2.0 * np.eye(a.shape[1]), a.T @ b, rcond=None)[0]
    found = Pooled(arrays).joined(arrays.x[support], arrays.y[support], query, alpha=2.0, weight=7.0)
    np.testing.assert_allclose(found, with_constant(query) @ weights, rtol=1e-6)


def test_baselines_know_the_training_rows_alone(table):
    arrays = arrays_of(table.loaded, table.data)
    rows = set(arrays.train.tolist())
    assert rows == set(np.concatenate(arrays.tasks).tolist())
    assert not rows & {int(r) for part in ("val", "test") for r in table.loaded.all_rows(part)}


def test_a_setting_is_chosen_on_validation_tasks_never_on_test_tasks(table):
    arrays = arrays_of(table.loaded, table.data)
    seen = []

    def predict(x, y, query, value):
        seen.append((value, len(query)))
        return np.full((len(query), 1), value)

    settings = [{"value": value} for value in (-9.0, 0.0, 9.0)]
    measured = measure_baseline(Baseline("constant", predict, settings), arrays, table.loaded, table.data, 5, 2)
    assert measured.setting == {"value": 0.0}
    validation, test = 2 * table.data.val_tasks, 2 * table.data.test_tasks
    assert len(seen) == 3 * validation + test and {value for value, _ in seen[-test:]} == {0.0}


def test_every_simple_baseline_learns_what_it_can(table):
    arrays = arrays_of(table.loaded, table.data)
    results = {
        b.name: measure_baseline(b, arrays, table.loaded, table.data, 5, 3).judged.per_task.mean()
        for b in simple_baselines(arrays)
    }
    assert len(results) == 7
    # tasks have slopes and shifts of their own around common ones
    assert results["ridge towards the pooled one"] < results["pooled ridge, no adaptation"] / 2
    assert results["ridge towards the pooled one"] < results["ridge per task"]
    assert results["pooled ridge, no adaptation"] < results["mean of all training rows"]
    assert min(results, key=results.__getitem__) in (
        "ridge towards the pooled one",
        "pooled ridge with the task's rows",
    )


def test_labels_are_scored_by_class(tmp_path):
    table = prepare_table(classification(tmp_path / "c.csv"), task="group", target="label", shots=(8,))
    arrays = arrays_of(table.loaded, table.data)
    assert arrays.y.sum(1).tolist() == [1.0] * len(arrays.y)
    for baseline in simple_baselines(arrays):
        accuracy = measure_baseline(baseline, arrays, table.loaded, table.data, 8, 2).judged.per_task.mean()
        assert 0.2 < accuracy <= 1, baseline.name
        if baseline.name.startswith("ridge towards"):
            assert accuracy > 0.6


@pytest.mark.long
@pytest.mark.parametrize("method", ["maml", "reptile"])
def test_no_learner_beats_the_oracle_of_linear_tasks(tmp_path, method):
    # w ~ N(w0, tau^2 I), y = w'x + sigma e: ridge towards w0 with sigma^2 / tau^2 is the best there is
    d, k, tau, sigma = 4, 5, 0.6, 0.5
    w0 = np.array([2.0, -1.0, 0.5, 1.5])
    path = linear(tmp_path / "l.csv", tasks=150, size=40, inputs=d, w0=w0, tau=tau, sigma=sigma, seed=0)
    prepared = prepare_table(
        path, task="group", target="y", shots=(k,), test=60, val=20, with_queries=method == "maml", problem="regression"
    )
    data, table = prepared.data, prepared.loaded
    net = nn.Linear(d, 1)
    nn.init.zeros_(net.weight)
    nn.init.zeros_(net.bias)
    learner = (
        MAML(net, data.loss, rule=SGD(0.2), steps=1)
        if method == "maml"
        else Reptile(net, data.loss, rule=SGD(0.05), steps=5, batch=10, test_steps=3)
    )
    training = (
        Training(steps=200, meta_batch=16, lr=0.03, schedule="cosine")
        if method == "maml"
        else Training(steps=250, meta_batch=5, optimizer="sgd", lr=0.5, schedule="linear")
    )
    meta_train(learner, data.source("train", table), training, quiet=True)
    draws = draw_rows(table, data, "test", k, draws=4)
    learned = judge([score[-1] for score in learner_scores(learner, table, draws)], table, data, draws).per_task

    # the oracle, in the units of the file
    preparation = data.preparation
    scale, shift = (np.array([getattr(c, name) for c in preparation.columns]) for name in ("std", "mean"))
    x = table.x.double().numpy() * scale + shift
    y = table.y.double().numpy() * preparation.std + preparation.mean
    truth = np.append(w0, 0.0)[:, None]
    alpha = (sigma / tau) ** 2
    scores = []
    for draw in draws:
        answer = ridge_towards(truth, x[draw.support], y[draw.support], x[draw.query], alpha, intercept=1e-6)
        scores.append((answer - preparation.mean) / preparation.std)
    oracle = judge(scores, table, data, draws).per_task
    prior = judge(
        [(with_constant(x[d.query]) @ truth - preparation.mean) / preparation.std for d in draws], table, data, draws
    ).per_task
    gain, half = interval(oracle - learned)
    assert gain < half, "a learner was better than the best there is"
    assert oracle.mean() < learned.mean() < prior.mean()  # it adapts, and comes between
    best = next(b for b in simple_baselines(arrays_of(table, data)) if b.name == "ridge towards the pooled one")
    estimated = measure_baseline(best, arrays_of(table, data), table, data, k, 4).judged.per_task
    assert estimated.mean() == pytest.approx(oracle.mean(), rel=0.1)
    assert oracle.mean() == pytest.approx(sigma**2 + expected_excess(d, k, tau, sigma), rel=0.12)


def expected_excess(d, k, tau, sigma):
    """Return the expected squared error of the posterior mean, `trace E[(X'X / sigma^2 + I / tau^2)^-1]`."""
    rng = np.random.default_rng(0)
    traces = []
    for _ in range(2000):
        x = rng.standard_normal((k, d))
        traces.append(np.trace(np.linalg.inv(x.T @ x / sigma**2 + np.eye(d) / tau**2)))
    return float(np.mean(traces))
