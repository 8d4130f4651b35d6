"""What is no tensor in a task rides along: each task's loss sees its own."""

import dataclasses
from typing import NamedTuple

import pytest
import torch
from accelerate.utils import send_to_device
from torch import nn
from torch.utils.data import DataLoader

import fastadapt as fa
from foreign.by_hand import Case, apart, every_number, first_order, regression

WEIGHTS = {"low": 0.5, "high": 2.0, "none": 0.0}


def net():
    return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2))


def loss(model, batch):
    value = nn.functional.mse_loss(model(batch["x"]), batch["y"])
    value = value * WEIGHTS[batch["kind"]] if batch.get("kind") else value
    value = value * batch.get("times", 1)
    return value if batch.get("extra") is None else value + 1000


def dressed(tasks, *beside):
    def batch(pair, more):
        return {"x": pair[0], "y": pair[1], **more}

    return [fa.Task(batch(t.support, more), batch(t.query, more)) for t, more in zip(tasks, beside, strict=True)]


BESIDE = {
    "None": [{"extra": None}] * 3,
    "one int": [{"times": 3}] * 3,
    "own ints": [{"times": 1}, {"times": 2}, {"times": 3}],
    "one str": [{"kind": "high"}] * 3,
    "own strs": [{"kind": "low"}, {"kind": "high"}, {"kind": "low"}],
    "float and bool": [{"times": 0.5, "flag": True}] * 3,
    "all": [{"kind": "low", "times": 2, "extra": None}, {"kind": "high", "times": 1, "extra": None}, {"times": 3}],
}


@every_number
@pytest.mark.parametrize("beside", BESIDE)
def test_leaves_that_are_no_tensors(beside, number):
    number(Case(net(), loss, dressed(regression(3), *BESIDE[beside])))


def test_they_pass_through_loader_and_device():
    model, tasks = net(), dressed(regression(3), *BESIDE["own strs"])
    learner = fa.MAML(model, loss, rule=fa.SGD(0.2), steps=2)
    want = learner(tasks).losses
    loader = DataLoader(tasks, 3, collate_fn=list, num_workers=1)
    assert apart([torch.cat([learner(send_to_device(batch, "cpu")).losses for batch in loader])], [want]) < 1e-12
    moved = tasks[0].to("meta")
    assert moved.support["kind"] == "low"
    assert moved.support["x"].device.type == "meta"


class Pair(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor


@dataclasses.dataclass
class Sample:
    x: torch.Tensor
    y: torch.Tensor
    name: str = "a"


@every_number
def test_named_tuple(number):
    tasks = [fa.Task(Pair(*t.support), Pair(*t.query)) for t in regression(2)]
    number(Case(net(), lambda m, b: nn.functional.mse_loss(m(b.x), b.y), tasks))


def test_a_dataclass_of_ones_own_is_handed_to_the_loss_as_it_is():
    tasks = [fa.Task(Sample(*t.support), Sample(*t.query)) for t in regression(2)]
    first_order(Case(net(), lambda m, b: nn.functional.mse_loss(m(b.x), b.y), tasks))
