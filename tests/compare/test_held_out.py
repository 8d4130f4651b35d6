"""Held-out tasks: the same rows for all, errors in the target's units, intervals over tasks."""

import numpy as np
import pytest
import torch

from fastadapt import MAML, MLP, SGD
from fastadapt.compare.held_out import (
    Judged,
    draw_rows,
    evaluate_held_out,
    explained_variance,
    interval,
    judge,
    learner_scores,
    student95,
)
from fastadapt.data.tables.table_settings import prepare_table
from fastadapt.errors import ConfigError
from tables import classification, regression


@pytest.fixture
def prepared(tmp_path):
    return prepare_table(regression(tmp_path / "t.csv"), task="group", target="y", shots=(3, 5), queries=9)


def a_learner(prepared, **settings):
    net = MLP(prepared.data.preparation.inputs, (8,), prepared.data.preparation.outputs, init_std=None)
    return MAML(net, prepared.data.loss, rule=SGD(0.05), steps=2, **settings)


def test_draws_are_of_one_task_and_share_their_query(prepared):
    table, data = prepared.loaded, prepared.data
    few, many = (draw_rows(table, data, "test", k, draws=4) for k in (3, 5))
    groups = list(table.tasks("test").values())
    assert len(few) == len(many) == 4 * len(groups)
    for a, b in zip(few, many, strict=True):
        rows = set(groups[a.task].tolist())
        assert set(b.support.tolist()) | set(b.query.tolist()) <= rows and not set(b.support) & set(b.query)
        assert np.array_equal(a.support, b.support[:3]) and np.array_equal(a.query, b.query)
        assert len(b.query) == 9
    assert not np.array_equal(few[0].support, few[1].support)
    with pytest.raises(ConfigError, match="at most 5 support rows, 6 were asked for"):
        draw_rows(table, data, "test", 6, draws=1)
    with pytest.raises(ConfigError, match="draws must be at least 1, got 0"):
        draw_rows(table, data, "test", 5, draws=0)


def test_scores_are_those_of_the_adapted_learner_whatever_the_length_of_the_query(tmp_path):
    prepared = prepare_table(regression(tmp_path / "t.csv", size=12), task="group", target="y", shots=(4,))
    rows = dict(prepared.loaded.rows)
    first = prepared.loaded.split.test[0]
    rows[first] = rows[first][:10]  # one task is smaller than the others
    object.__setattr__(prepared.loaded, "rows", rows)
    learner = a_learner(prepared)
    table, data = prepared.loaded, prepared.data
    draws = draw_rows(table, data, "test", 4, draws=2)
    scores = learner_scores(learner, table, draws, steps=3)
    assert {score.shape[1] for score in scores} == {6, 8}
    for score, draw in zip(scores, draws, strict=True):
        predict = learner.adapt((table.x[draw.support], table.y[draw.support]), steps=3)
        with torch.no_grad():
            wanted = predict(table.x[draw.query]).numpy()
        np.testing.assert_allclose(score[-1], wanted, rtol=1e-4, atol=1e-5)
        assert score.shape == (4, len(draw.query), 1)


def test_errors_are_in_the_units_of_the_target(prepared):
    table, data = prepared.loaded, prepared.data
    draws = draw_rows(table, data, "test", 3, draws=2)
    preparation = data.preparation
    y = table.y.double().numpy()[:, 0] * preparation.std + preparation.mean
    guess = 103.0
    scores = [np.full((len(d.query), 1), (guess - preparation.mean) / preparation.std) for d in draws]
    judged = judge(scores, table, data, draws)
    wanted = [np.mean([((y[d.query] - guess) ** 2).mean() for d in draws if d.task == task]) for task in range(3)]
    np.testing.assert_allclose(judged.per_task, wanted, rtol=1e-5)
    value, _ = explained_variance(judged)
    every = np.concatenate([y[d.query] for d in draws])
    assert value == pytest.approx(1 - ((every - guess) ** 2).sum() / ((every - every.mean()) ** 2).sum(), rel=1e-4)
    assert judged.score == -judged.per_task.mean()


def test_accuracies_are_shares_and_a_score_that_is_not_finite_is_no_answer(tmp_path):
    prepared = prepare_table(classification(tmp_path / "c.csv"), task="group", target="label", shots=(6,))
    table, data = prepared.loaded, prepared.data
    draws = draw_rows(table, data, "test", 6, draws=3)
    right = [np.eye(3)[table.y.numpy()[d.query]] for d in draws]
    assert judge(right, table, data, draws).per_task.tolist() == [1.0] * len(table.split.test)
    wrong = [np.roll(score, 1, axis=1) for score in right]
    assert judge(wrong, table, data, draws).score == 0.0
    wrong[0] = wrong[0] * np.nan
    assert judge(wrong, table, data, draws).score == -np.inf


@pytest.mark.parametrize(("degrees", "wanted"), [(1, 12.7062), (2, 4.30265), (3, 3.18245), (5, 2.57058), (29, 2.04523)])
def test_student(degrees, wanted):  # from a printed table
    assert student95(degrees) == pytest.approx(wanted, rel=3e-3)
    assert student95(0) == np.inf


def test_the_interval_covers_the_mean_of_few_tasks():
    rng = np.random.default_rng(0)
    covered = [abs(mean) <= half for mean, half in (interval(rng.standard_normal(6)) for _ in range(2000))]
    assert 0.935 < np.mean(covered) < 0.965


def test_the_jackknife_agrees_with_a_bootstrap():
    rng = np.random.default_rng(0)
    spread = rng.uniform(50, 150, 60)
    judged = Judged("mse", spread, spread * rng.uniform(0.4, 0.9, 60), spread)
    value, half = explained_variance(judged)
    picks = rng.integers(60, size=(4000, 60))
    samples = 1 - judged.squares[picks].sum(1) / spread[picks].sum(1)
    assert value == pytest.approx(samples.mean(), abs=0.005)
    assert half == pytest.approx(student95(59) * samples.std(), rel=0.1)


def test_an_evaluation_counts_tasks_not_draws(prepared):
    learner = a_learner(prepared)
    result = evaluate_held_out(learner, prepared.data, prepared.loaded, draws=4)
    assert len(result.per_task) == 3 and len(result.mean) == 3 and result.metric == "mse"
    assert result.ci95[1] == pytest.approx(interval(np.array(result.per_task)[:, 1])[1])
    assert result.protocol.name == "held-out tasks, K=3, 4 draws each, v1"
    again = evaluate_held_out(learner, prepared.data, prepared.loaded, draws=4)
    assert again.per_task == result.per_task
    assert evaluate_held_out(learner, prepared.data, prepared.loaded, shots=5, steps=1).protocol.steps == 1


def test_labels_are_evaluated_by_accuracy_and_cross_entropy(tmp_path):
    prepared = prepare_table(classification(tmp_path / "c.csv"), task="group", target="label", shots=(6,))
    result = evaluate_held_out(a_learner(prepared), prepared.data, prepared.loaded, draws=2)
    assert result.metric == "accuracy" and result.higher_is_better and all(0 <= m <= 1 for m in result.mean)
    assert result.losses[0] == pytest.approx(np.log(3), abs=0.4)


def test_batch_norm_is_refused(prepared):
    net = MLP(prepared.data.preparation.inputs, (8,), 1, norm=True)
    draws = draw_rows(prepared.loaded, prepared.data, "test", 3, draws=1)
    with pytest.raises(ConfigError, match="without batch norm"):
        learner_scores(MAML(net, prepared.data.loss), prepared.loaded, draws)
