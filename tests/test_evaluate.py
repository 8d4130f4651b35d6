"""Evaluation: the interval, what is counted, what is recorded, and that it repeats."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from fastadapt import (
    MAML,
    MLP,
    MSE,
    SGD,
    Conv4,
    CrossEntropy,
    Protocol,
    Sinusoid,
    Task,
    cross_entropy,
    evaluate,
)
from fastadapt.errors import ConfigError, TaskError
from fastadapt.evaluation import confidence, summarise
from fastadapt.methods.nearest import NearestNeighbour
from fastadapt.results.evaluation_json import column_of


def test_the_interval_equals_a_hand_computed_one() -> None:
    values = [0.2, 0.4, 0.4, 0.6, 0.9]
    mean, half = confidence(values, ddof=0)
    assert mean == pytest.approx(0.5)
    assert half == pytest.approx(1.96 * math.sqrt(0.28 / 5) / math.sqrt(5), rel=1e-4)
    assert confidence(values, ddof=1)[1] == pytest.approx(1.96 * math.sqrt(0.28 / 4) / math.sqrt(5), rel=1e-4)


def test_the_interval_covers_the_truth_about_95_times_of_100() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        mean, half = confidence(rng.normal(1.0, 2.0, 200))
        hits += abs(mean - 1.0) < half
    assert 930 <= hits <= 970


def small() -> MAML:
    torch.manual_seed(0)
    return MAML(MLP(1, (8,), 1, init_std=None), rule=SGD(0.01), test_steps=2)


def test_batches_do_not_change_the_result_and_a_repeat_is_exact() -> None:
    protocol = Protocol(tasks=17)
    one, again, other = (evaluate(small(), Sinusoid(), protocol, meta_batch=b) for b in (17, 17, 5))
    assert one.per_task == again.per_task
    assert one.mean == pytest.approx(other.mean, rel=1e-5)
    assert evaluate(small(), Sinusoid(), Protocol(tasks=17, seed=2)).mean != one.mean


def test_the_curve_is_what_adapting_by_hand_gives() -> None:
    learner, protocol = small(), Protocol(tasks=3, steps=4)
    result = evaluate(learner, Sinusoid(), protocol)
    from fastadapt import draw

    for i, task in enumerate(draw(Sinusoid(), seed=1, split="test", indices=range(3))):
        for steps in range(5):
            predict = learner.adapt(task.support, steps=steps)
            by_hand = nn.functional.mse_loss(predict(task.query[0]), task.query[1]).item()
            assert result.per_task[i][steps] == pytest.approx(by_hand, rel=1e-4)


@pytest.mark.parametrize("report", [None, 3])
def test_some_steps_are_the_same_numbers_and_the_headline_is_always_among_them(report: int | None) -> None:
    protocol = Protocol(tasks=7, steps=4, report=report)
    whole, some = (evaluate(small(), Sinusoid(), protocol, after=after) for after in (None, (1, 0)))
    assert whole.after == [0, 1, 2, 3, 4]
    assert some.after == [0, 1, whole.step]
    assert (some.step, some.result, some.half, some.score) == pytest.approx(
        (whole.step, whole.result, whole.half, whole.score)
    )
    assert some.mean == pytest.approx([whole.mean[j] for j in some.after])
    assert some.losses == pytest.approx([whole.losses[j] for j in some.after])
    assert str(some) == str(whole)


def test_a_number_of_steps_is_found_in_what_was_written() -> None:
    some = json.loads(evaluate(small(), Sinusoid(), Protocol(tasks=2, steps=4, report=3), after=[0]).to_json())
    assert (column_of(some), column_of(some, 0), column_of(some, 3)) == (1, 0, 1)
    with pytest.raises(ValueError, match="2 is not in"):
        column_of(some, 2)
    del some["after"]  # as it was written before there was a choice
    assert (column_of({**some, "mean": [1.0] * 5}), column_of({**some, "mean": [1.0] * 5}, 2)) == (3, 2)
    level = json.loads(evaluate(NearestNeighbour(MLP(1, (), 2)), two_classes, Protocol(tasks=2, steps=3)).to_json())
    assert (level["after"], column_of(level), column_of(level, 2)) == ([0], 0, 0)


def test_a_result_beyond_the_steps_is_the_last_one_in_memory_and_on_paper() -> None:
    result = evaluate(small(), Sinusoid(), Protocol(tasks=2, report=5))
    assert (result.step, column_of(json.loads(result.to_json()))) == (2, 2)


def test_steps_may_be_any_whole_numbers_and_nothing_else() -> None:
    result = evaluate(small(), Sinusoid(), Protocol(tasks=2), after=np.arange(2))  # type: ignore[arg-type]
    assert json.loads(result.to_json())["after"] == [0, 1, 2]
    for wrong in (2, [0.5]):
        with pytest.raises(ConfigError, match="after must be whole numbers"):
            evaluate(small(), Sinusoid(), Protocol(tasks=2), after=wrong)  # type: ignore[arg-type]


def test_a_learner_that_does_not_know_the_choice_is_told() -> None:
    class Old(MAML):
        def trace(self, tasks, steps=None, norm=None):
            return super().trace(tasks, steps, norm)

    class Deaf(MAML):
        def trace(self, tasks, steps=None, norm=None, after=None):
            return super().trace(tasks, steps, norm)

    for kind, says in ((Old, "needs the argument after"), (Deaf, r"after \[0, 2\] steps and gave 3")):
        learner = kind(MLP(1, (8,), 1, init_std=None), rule=SGD(0.01), test_steps=2)
        assert len(evaluate(learner, Sinusoid(), Protocol(tasks=2)).mean) == 3
        with pytest.raises(ConfigError, match=says):
            evaluate(learner, Sinusoid(), Protocol(tasks=2), after=[0])


def two_classes(rng: np.random.Generator) -> Task:
    x = torch.from_numpy(rng.normal(size=(4, 1))).float()
    y = torch.tensor([0, 1, 0, 1])
    return Task((x, y), (x, y))


def test_tasks_that_are_not_finite_are_counted_named_and_kept() -> None:
    def sample(rng: np.random.Generator) -> Task:
        task = Sinusoid().sample(rng)
        if rng.random() < 0.3:
            task.support[1][:] = float("inf")
        return task

    result = evaluate(small(), sample, Protocol(tasks=40))
    assert result.nonfinite[0] == 0
    assert result.nonfinite[1] == len(result.nonfinite_tasks) > 0
    assert not math.isfinite(result.mean[1])
    assert math.isfinite(result.finite_mean[1])
    assert "non-finite" in str(result)
    json.loads(result.to_json(per_task=True))


@pytest.mark.parametrize(("loss", "metric", "median"), [(MSE(), "mse", 0.3), (CrossEntropy(), "accuracy", 0.1)])
def test_a_task_that_is_not_a_number_is_the_worst_of_the_median(loss, metric, median) -> None:
    column = np.array([[0.1], [0.2], [0.3], [np.nan], [0.9 if metric == "mse" else np.nan]])
    learner = MAML(MLP(1, (2,), 1), loss)
    result = summarise({"loss": np.nan_to_num(column), metric: column}, Protocol(tasks=5, steps=0), learner)
    assert result.median == [median]


@pytest.mark.parametrize(
    ("norm", "transductive"), [("transductive", True), ("support", False), ("support+query", False)]
)
def test_what_the_queries_saw_of_one_another_is_recorded(norm: str, transductive: bool) -> None:
    torch.manual_seed(0)
    learner = MAML(Conv4(1, 4, 2, size=16), cross_entropy, rule=SGD(0.1))

    def sample(rng: np.random.Generator) -> Task:
        x = torch.as_tensor(rng.random((8, 1, 16, 16)), dtype=torch.float32)
        y = torch.tensor([0, 1]).repeat(4)
        return Task((x[:4], y[:4]), (x[4:], y[4:]))

    result = evaluate(learner, sample, Protocol(tasks=4, norm=norm))  # type: ignore[arg-type]
    assert (result.norm, result.transductive, result.metric) == (norm, transductive, "accuracy")
    assert ("not transductive" in str(result)) is not transductive


def test_a_network_without_batch_norm_is_never_transductive() -> None:
    result = evaluate(small(), Sinusoid(), Protocol(tasks=2))
    assert (result.norm, result.transductive) == ("none", False)


def test_the_learner_is_left_as_it_was() -> None:
    learner = small().train()
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    state = torch.get_rng_state()
    evaluate(learner, Sinusoid(), Protocol(tasks=3))
    assert all(torch.equal(before[name], value) for name, value in learner.state_dict().items())
    assert learner.training
    assert torch.equal(state, torch.get_rng_state())


def test_protocols_that_make_no_sense_are_refused() -> None:
    for bad in ({"tasks": 0}, {"steps": -1}, {"steps": 2, "report": 3}):
        with pytest.raises(ConfigError):
            Protocol(**bad)  # type: ignore[arg-type]


class Share:
    """A loss with a metric of its own, larger is better."""

    def __call__(self, model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return nn.functional.mse_loss(model(batch[0]), batch[1])

    def metrics(self, output: torch.Tensor, batch: tuple[torch.Tensor, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"share": ((output - batch[1]).abs() < 1).to(output.dtype).mean()}


def test_checkpoints_are_ranked_in_the_metrics_own_direction() -> None:
    torch.manual_seed(0)
    net = MLP(1, (8,), 1, init_std=None)
    protocol = Protocol(tasks=5, steps=1)
    error = evaluate(MAML(net), Sinusoid(), protocol)
    assert error.score == -error.result
    silent = evaluate(MAML(net, Share()), Sinusoid(), protocol)
    assert silent.metric == "share" and silent.score == -silent.losses[1]  # no direction: the loss decides
    share = Share()
    share.higher_is_better = True  # type: ignore[attr-defined]
    declared = evaluate(MAML(net, share), Sinusoid(), protocol)
    assert declared.score == declared.result


def test_logits_that_are_not_numbers_are_not_counted_as_chance() -> None:
    def sample(rng: np.random.Generator) -> Task:
        x, y = torch.rand(5, 2), torch.arange(5)
        return Task((x * float("nan"), y), (x, y))

    result = evaluate(MAML(nn.Linear(2, 5), cross_entropy), sample, Protocol(tasks=4))
    assert result.nonfinite == [0, 4]
    assert math.isnan(result.mean[1]) and result.score is None


def test_what_evaluate_can_not_do_is_said_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match="at least 1 task at a time, got 0"):
        evaluate(small(), Sinusoid(), meta_batch=0)
    assert math.isfinite(evaluate(small(), Sinusoid(), Protocol(tasks=2, seed=2**62)).result)
    with pytest.raises(TaskError, match="no query samples"):
        evaluate(small(), Sinusoid(queries=0), Protocol(tasks=2))


def test_targets_of_another_shape_are_not_broadcast() -> None:
    def sample(rng: np.random.Generator) -> Task:
        task = Sinusoid().sample(rng)
        return Task((task.support[0], task.support[1].squeeze(1)), task.query)

    with pytest.raises(TaskError, match=r"output has shape \(10, 1\) and the targets have \(10,\)"):
        evaluate(small(), sample, Protocol(tasks=2))
