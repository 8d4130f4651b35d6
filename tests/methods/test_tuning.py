"""The choice of rates for fine-tuning: by validation tasks alone, exact and repeatable."""

import pytest
import torch
from torch import nn

from fastadapt import Task
from fastadapt.errors import ConfigError
from fastadapt.methods import FineTune, tune_transfer
from fastadapt.methods.tuning import DECAYS, RATES
from fastadapt.rules.rules import DecayedSGD
from fastadapt.tasks import draw, task_rng

pytestmark = pytest.mark.usefixtures("double")


def sample(rng):
    means = torch.as_tensor(rng.normal(size=(3, 4)))

    def batch(n):
        y = torch.arange(3).repeat_interleave(n)
        return means[y] + 0.5 * torch.as_tensor(rng.normal(size=(3 * n, 4))), y

    return Task(batch(3), batch(5))


def learner(**settings):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 3))
    return FineTune(net, **{"classes": 5, "test_steps": 4, **settings})


@pytest.mark.long
def test_the_table_holds_the_accuracy_of_every_pair_after_the_last_update():
    tuned = tune_transfer(learner(), sample, rates=(1.0, 1e-4), decays=(0.5, 0.0), tasks=6, seed=3)
    tasks = draw(sample, seed=3, split="val", indices=range(6))
    for pair, accuracy in tuned.accuracy.items():
        one = learner()
        one.rule = DecayedSGD(*pair)
        assert accuracy == pytest.approx(float(one.trace(tasks).metrics["accuracy"][:, -1].mean()))
    assert list(tuned.accuracy) == [(1.0, 0.5), (1.0, 0.0), (1e-4, 0.5), (1e-4, 0.0)]
    assert tuned.accuracy[tuned.lr, tuned.decay] == max(tuned.accuracy.values())
    assert tuned.lr == 1.0 and tuned.rule == DecayedSGD(1.0, tuned.decay)
    assert tuned == tune_transfer(learner(), sample, rates=(1.0, 1e-4), decays=(0.5, 0.0), tasks=6, seed=3)


def test_nothing_but_the_validation_stream_is_drawn():
    seen = []

    def watched(rng):
        seen.append(rng.random())
        return sample(rng)

    tune_transfer(learner(), watched, rates=(0.1,), decays=(0.0,), tasks=4, seed=9)
    assert seen == [task_rng(9, "val", i).random() for i in range(4)]


def test_the_learner_is_left_as_it_was():
    one = learner(lr=0.7, decay=0.2)
    one.train()
    before = {name: value.clone() for name, value in one.state_dict().items()}
    state = torch.get_rng_state()
    tune_transfer(one, sample, rates=(1.0,), decays=(0.0,), tasks=2)
    assert one.rule == DecayedSGD(0.7, 0.2) and one.training
    assert all(torch.equal(value, before[name]) for name, value in one.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_answers_that_are_not_finite_count_as_wrong_and_the_first_of_equals_wins():
    tuned = tune_transfer(learner(), sample, rates=(1e300, 0.0, 0.0 + 1e-300), decays=(0.0,), tasks=3)
    assert tuned.accuracy[1e300, 0.0] == 0.0
    assert tuned.lr == 0.0  # a rate of nothing answers as well as a rate of next to nothing


def test_the_default_grid_is_the_published_one():
    assert (len(RATES), len(DECAYS)) == (6, 7)
    assert (max(RATES), min(RATES), max(DECAYS), min(DECAYS)) == (0.5, 1e-5, 1.0, 0.0)


@pytest.mark.parametrize("settings", [{"rates": ()}, {"decays": ()}, {"tasks": 0}])
def test_nothing_to_try_is_refused(settings):
    with pytest.raises(ConfigError, match="at least one pair"):
        tune_transfer(learner(), sample, **settings)
