"""Data that are not finite are named by task, tensor and row, before anything else is blamed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fastadapt as fa
from fastadapt.errors import DivergenceError, TaskError
from fastadapt.judging.not_finite import not_finite, not_finite_in


@dataclass
class Graph:
    x: Any
    edges: Any


def spoiled(value, *place):
    x = torch.ones(4, 3)
    x[place] = value
    return x


# a batch, and what is said of it
FOUND = {
    "inputs": ((spoiled(np.nan, 2, 1), torch.zeros(4)), "support x, row 2: nan"),
    "targets": ((torch.ones(4, 3), torch.tensor([0.0, 1.0, np.inf, 2.0])), "support y, row 2: inf"),
    "minus infinity": ((spoiled(-np.inf, 0, 0), torch.zeros(4)), "support x, row 0: -inf"),
    "several": ((spoiled(np.nan, slice(1, 3), 0), torch.zeros(4)), "support x, row 1: nan (and 1 more of 12 numbers)"),
    "a mapping": ({"image": torch.ones(2), "mask": spoiled(np.nan, 3, 0)}, "support['mask'], row 3: nan"),
    "three tensors": ((torch.ones(2), torch.ones(2), spoiled(np.nan, 1, 1)), "support[2], row 1: nan"),
    "inputs of several parts": (
        ({"text": torch.ones(2), "numbers": spoiled(np.nan, 1, 1)}, torch.zeros(4)),
        "support x['numbers'], row 1: nan",
    ),
    "an object": (Graph(spoiled(np.nan, 3, 2), torch.zeros(2, 5, dtype=torch.long)), "support.x, row 3: nan"),
    "half precision": ((spoiled(np.inf, 1, 0).half(), torch.zeros(4)), "support x, row 1: inf"),
    "complex": ((torch.tensor([complex(0, np.inf), 1j]), torch.zeros(2)), "support x, row 0: infj"),
    "a number": ((torch.tensor(np.nan), torch.zeros(2)), "support x: nan"),
    "whole numbers": ((torch.ones(2, dtype=torch.long), torch.zeros(2)), None),
    "none and text": ((torch.ones(2), None, "a"), None),
    "the largest": ((torch.full((2,), torch.finfo(torch.float32).max), torch.zeros(2)), None),
}


@pytest.mark.parametrize("name", FOUND)
def test_the_first_number_that_is_not_finite_is_named(name):
    batch, said = FOUND[name]
    assert not_finite(batch, "support") == said
    assert (not_finite_in(fa.Task((torch.ones(1),), batch)) or "").replace("query", "support") == (said or "")


def points(every, side="support", part=0, value=np.nan):
    """Return a source with a bad number in about every so many tasks."""

    def sample(rng):
        x = torch.from_numpy(rng.normal(size=(20, 3))).float()
        batches = {"support": [x[:10], x[:10].sum(1, keepdim=True)], "query": [x[10:], x[10:].sum(1, keepdim=True)]}
        if rng.random() < 1 / every:
            batches[side][part][4, 0] = value
        return fa.Task(*(tuple(batch) for batch in batches.values()))

    return sample


KINDS = [("support", 0, np.nan), ("support", 1, np.inf), ("query", 0, -np.inf), ("query", 1, np.nan)]


def learner():
    return fa.MAML(nn.Linear(3, 1), rule=fa.SGD(0.01))


@pytest.mark.parametrize(("side", "part", "value"), KINDS)
def test_a_training_names_them_before_the_rate(side, part, value, caplog):
    training = fa.Training(steps=300, meta_batch=8, max_nonfinite=3)
    with pytest.raises(DivergenceError) as caught:
        fa.meta_train(learner(), points(3, side, part, value), training, quiet=True)
    said = str(caught.value)
    assert f", {side} {'xy'[part]}, row 4: {value!s}" in said and "of the stream (seed 0, 'train')" in said
    assert "leave such samples out, or fill them in" in said and "inner learning rate" not in said
    told = [r.getMessage() for r in caplog.records if "the step is skipped" in r.getMessage()]
    assert len(told) == 1 and f"{side} {'xy'[part]}, row 4" in told[0]


def test_the_named_task_is_the_one_that_holds_it():
    trained = fa.meta_train(
        learner(), points(20), fa.Training(steps=12, meta_batch=2, max_nonfinite=99, log_every=99), quiet=True
    )
    records = [record for record in trained.records if "in the data" in record]
    assert records
    for record in records:
        for fault in record["in the data"]:
            number = int(fault.removeprefix("task ").split(",")[0])
            [task] = fa.draw(points(20), seed=0, split="train", indices=[number])
            assert torch.isnan(task.support[0][4, 0]) and fault.endswith(not_finite_in(task) or "?")


def test_where_the_data_are_finite_the_rate_is_named():
    wild = fa.MAML(nn.Linear(3, 1), rule=fa.SGD(1e30), steps=5)
    with pytest.raises(DivergenceError, match=r"whose data are finite; .* Try a smaller inner learning rate"):
        fa.meta_train(wild, points(1e9), fa.Training(steps=300, meta_batch=4), quiet=True)


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_a_network_that_is_not_finite_itself_is_named(name):
    broken = learner()
    nn.init.constant_(getattr(broken.model, name), torch.nan)
    with pytest.raises(DivergenceError, match=rf"'model.{name}' of the learner is not finite itself"):
        fa.meta_train(broken, points(1e9), fa.Training(steps=20, meta_batch=2, max_nonfinite=2), quiet=True)


def test_an_evaluation_names_them(caplog):
    result = fa.evaluate(learner(), points(5), fa.Protocol(tasks=30))
    assert result.nonfinite_tasks
    [told] = [r.getMessage() for r in caplog.records if "nor is what is measured" in r.getMessage()]
    assert f"task {result.nonfinite_tasks[0]}, support x, row 4: nan" in told and "(seed 1, 'test')" in told


@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize("loss", [None, nn.L1Loss(), fa.mse])
def test_nothing_is_adapted_to_them(part, loss):
    [task] = fa.draw(points(1, "support", part), seed=0, split="test", indices=[0])
    refused = fa.MAML(nn.Linear(3, 1), loss, rule=fa.SGD(0.01))
    for ask in (lambda: refused.adapt(task.support), lambda: list(refused.adapting(task.support))):
        with pytest.raises(TaskError, match=f"support {'xy'[part]}, row 4: nan: the network can't be adapted"):
            ask()


def test_what_takes_missing_values_may_have_them():
    class Filled(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 1)

        def forward(self, x):
            return self.linear(x.nan_to_num(0.0))

    def masked(model, batch):
        error = model(batch[0]) - batch[1]
        return error[~batch[1].isnan()].square().mean()

    [inputs] = fa.draw(points(1), seed=0, split="test", indices=[0])
    [targets] = fa.draw(points(1, part=1), seed=0, split="test", indices=[0])
    for network, loss, task in ((Filled(), None, inputs), (nn.Linear(3, 1), masked, targets)):
        predictor = fa.MAML(network, loss, rule=fa.SGD(0.01), route="loop").adapt(task.support)
        assert predictor(task.query[0]).isfinite().all()
