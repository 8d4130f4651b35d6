"""The outer optimizer that the settings describe."""

import dataclasses

import pytest
import torch

from fastadapt import Training
from fastadapt.errors import ConfigError


def test_momentum_and_weight_decay_are_those_of_torch():
    net = torch.nn.Linear(3, 2)
    [group] = Training(optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=5e-4).build_optimizer(net).param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.1, 0.9, 5e-4)
    made = Training(weight_decay=0.01).build_optimizer(net)
    assert isinstance(made, torch.optim.Adam) and made.param_groups[0]["weight_decay"] == 0.01
    assert Training(optimizer="sgd").build_optimizer(net).param_groups[0]["momentum"] == 0


def test_another_momentum_is_another_run_and_none_is_the_run_of_before():
    old = dataclasses.asdict(Training(optimizer="sgd"))
    for name in ("momentum", "weight_decay"):
        del old[name]  # as a checkpoint of before has it
    assert Training(optimizer="sgd").conflicts(old) == []
    assert Training(optimizer="sgd", momentum=0.9).conflicts(old) == ["momentum: 0.0 -> 0.9"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"momentum": 0.9}, "of optimizer sgd alone, got 0.9 for adam"),
        ({"optimizer": "sgd", "momentum": 1.0}, "got 1.0 for sgd"),
        ({"weight_decay": -1.0}, ">= 0, got -1.0"),
    ],
)
def test_settings_outside_their_range_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        Training(**settings)
