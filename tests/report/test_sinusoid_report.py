import dataclasses
import math

import numpy as np
import pytest
import torch
from PIL import Image

from fastadapt import MAML, MLP, SGD, Pretrain
from fastadapt.compare.tune import at_rate
from fastadapt.data.sinusoid import Sinusoid
from fastadapt.errors import ConfigError
from fastadapt.evaluation import Protocol, evaluate
from fastadapt.report import draw_adaptation, draw_steps, evaluate_shots, tune_step_size

SMALL = Protocol("small-v1", tasks=12, steps=3, ddof=0)


def _net(inputs=1):
    return MLP(inputs, (8,), 1, init_std=None)


def _drawn(path):
    picture = np.asarray(Image.open(path).convert("L"))
    assert min(picture.shape) >= 400
    assert (picture < 160).mean() > 0.002
    return picture


def test_evaluation_by_shots_is_the_plain_evaluation():
    learner = MAML(_net())
    results = evaluate_shots(learner, shots=(5, 10), protocol=SMALL)
    for k, result in results.items():
        plain = evaluate(learner, Sinusoid(shots=k, queries=100, grid=True), SMALL)
        assert result.mean == pytest.approx(plain.mean, rel=1e-5)


def test_rates_hold_for_their_number_of_shots_only():
    learner = Pretrain(_net(), rule=SGD(0.0))
    results = evaluate_shots(learner, shots=(5, 10), protocol=SMALL, rates={10: 0.01})
    assert results[5].mean[0] == results[5].mean[-1]
    assert results[10].mean[0] != results[10].mean[-1]
    assert learner.rule == SGD(0.0)


@pytest.mark.long
def test_the_wave_is_drawn_for_every_method_and_shot(tmp_path):
    learners = {"MAML": MAML(_net()), "pretraining": Pretrain(_net()), "oracle": Pretrain(_net(3))}
    path = draw_adaptation(learners, tmp_path / "a.png", oracles=("oracle",), rates={"pretraining": {5: 0.02}})
    again = draw_adaptation(learners, tmp_path / "b.png", oracles=("oracle",), rates={"pretraining": {5: 0.02}})
    assert path.read_bytes() == again.read_bytes()
    _drawn(path)
    _drawn(draw_adaptation({"MAML": MAML(_net())}, tmp_path / "c.png", shots=(10,), steps=(0, 3), family="reptile"))
    draw_adaptation({}, tmp_path / "none.png")


@pytest.mark.long
def test_learners_with_one_wave_each_are_drawn_side_by_side(tmp_path):
    learners = {"before": MAML(_net()), "MAML": MAML(_net()), "pretraining": Pretrain(_net())}
    wide = _drawn(draw_adaptation(learners, tmp_path / "wide.png", shots=(10,), steps=(0, 3)))
    tall = _drawn(draw_adaptation(learners, tmp_path / "tall.png", shots=(5, 10), steps=(0, 3)))
    assert wide.shape[1] > 2 * wide.shape[0] and tall.shape[0] > wide.shape[0]


@pytest.mark.parametrize("rate", [1e3, 1e30])
def test_functions_that_diverge_are_drawn(tmp_path, rate):
    _drawn(draw_adaptation({"MAML": MAML(_net(), rule=SGD(rate))}, tmp_path / "a.png"))


def test_steps_of_methods_and_the_oracle(tmp_path):
    results = {
        "MAML": evaluate_shots(MAML(_net()), shots=(5, 10), protocol=SMALL),
        "oracle": evaluate_shots(
            Pretrain(_net(3)), shots=(5,), oracle=True, protocol=dataclasses.replace(SMALL, steps=0)
        ),
    }
    path = draw_steps(results, tmp_path / "a.png")
    assert path.read_bytes() == draw_steps(results, tmp_path / "b.png").read_bytes()
    _drawn(path)
    draw_steps({}, tmp_path / "none.png")


@pytest.mark.parametrize("rate", [1.0, 1e3, 1e30])
def test_tasks_that_diverge_are_drawn_and_counted(tmp_path, rate):
    results = evaluate_shots(MAML(_net(), rule=SGD(rate)), shots=(5,), protocol=dataclasses.replace(SMALL, steps=10))
    if rate > 1:
        assert results[5].nonfinite[-1] > 0
    _drawn(draw_steps({"MAML": results}, tmp_path / "a.png"))


def test_all_tasks_not_finite_from_the_start(tmp_path):
    learner = MAML(_net())
    with torch.no_grad():
        next(learner.parameters()).fill_(math.nan)
    broken, sound = (evaluate_shots(one, shots=(5, 10), protocol=SMALL) for one in (learner, MAML(_net())))
    results = {"broken": broken, "MAML": sound}
    _drawn(draw_steps(results, tmp_path / "a.png"))
    _drawn(draw_steps({"broken": results["broken"]}, tmp_path / "b.png"))
    _drawn(draw_adaptation({"broken": learner}, tmp_path / "c.png"))


def test_tuning_takes_the_best_rate_of_the_validation_stream():
    learner = Pretrain(_net(), rule=SGD(0.5))
    source = Sinusoid(shots=10, queries=50, grid=True)
    tuned = tune_step_size(learner, source, (0.0, 0.01, 1e6), SMALL)
    assert learner.rule == SGD(0.5)
    assert tuned.rate == 0.01
    with at_rate(learner, 0.01):
        expected = evaluate(learner, source, dataclasses.replace(SMALL, split="val"))
    assert tuned.results[0.01] == pytest.approx(expected.result, rel=1e-6)
    assert not math.isfinite(tuned.results[1e6])


@pytest.mark.parametrize("rates", [(), (1e30,)])
def test_tuning_without_a_usable_rate(rates):
    with pytest.raises(ConfigError, match="step size"):
        tune_step_size(Pretrain(_net()), Sinusoid(), rates, SMALL)
