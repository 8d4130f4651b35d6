"""Tasks of many shapes: none pays for a look at the routes unless it comes often, and the numbers are the loop's."""

from contextlib import contextmanager

import pytest
import torch
from torch import nn

import fastadapt as fa
from fastadapt import MAML, MLP, SGD, Task, Training, meta_train
from fastadapt.engine.shapes import RARE, RETURNS
from fastadapt.engine.vmapped import Vmapped
from reference import difference, grads_of


def waves(lengths, seed=0):
    """Return a task for each support length."""
    rng = torch.Generator().manual_seed(seed)
    draw = [torch.randn(length + 5, 1, generator=rng) for length in lengths]
    return [Task((x[:-5], x[:-5].sin()), (x[-5:], x[-5:].sin())) for x in draw]


@contextmanager
def counting(monkeypatch):
    """Count the looks at vmap."""
    looks, real = [], Vmapped.run

    def seen(self, f, state, tasks, extra):
        looks.append(tasks.support[0].shape[1])
        return real(self, f, state, tasks, extra)

    with monkeypatch.context() as patch:
        patch.setattr(Vmapped, "run", seen)
        yield looks


def test_a_meta_batch_of_many_shapes_is_not_looked_at_and_gives_the_loop_s_numbers(monkeypatch):
    net, tasks = MLP(1, (8,), 1, init_std=None), waves([3, 4, 5, 6, 7, 3, 4])
    results = []
    with counting(monkeypatch) as looks:
        for route in ("auto", "loop"):
            learner = MAML(net, rule=SGD(0.1), steps=2, route=route)
            outcome = learner(tasks)
            outcome.loss.backward()
            results.append((outcome.losses.detach(), {n: g.clone() for n, g in grads_of(learner).items()}))
            learner.zero_grad()
    assert looks == []
    assert torch.equal(results[0][0], results[1][0])
    assert difference(results[0][1], results[1][1]) == 0.0


def test_two_shapes_with_many_tasks_each_are_looked_at(monkeypatch):
    learner = MAML(MLP(1, (8,), 1), rule=SGD(0.1), steps=1)
    with counting(monkeypatch) as looks:
        learner(waves([3, 6] * 5))
    assert set(looks) == {3, 6}


def test_many_tasks_at_once_are_looked_at_whatever_else_has_come(monkeypatch):
    learner = MAML(MLP(1, (8,), 1), rule=SGD(0.1), steps=1)
    with counting(monkeypatch) as looks:
        for length in (3, 4, 5, 6):
            learner(waves([length] * 8))
    assert set(looks) == {3, 4, 5, 6}


@pytest.mark.long
@pytest.mark.parametrize("asked", [{"route": "vmap"}, {"compile": "trace"}])
def test_what_was_asked_for_is_done_for_every_shape(monkeypatch, asked):
    learner = MAML(MLP(1, (8,), 1), rule=SGD(0.1), steps=1, route=fa.Execution(**asked))
    with counting(monkeypatch) as looks:
        learner(waves([3, 4, 5]))
    assert set(looks) == {3, 4, 5}


def test_a_third_shape_is_looked_at_when_it_has_come_often(monkeypatch):
    learner = MAML(MLP(1, (8,), 1), rule=SGD(0.1), steps=1)
    with counting(monkeypatch) as looks:
        for length in (3, 4, 5, 6):
            learner(waves([length] * 2))
        assert set(looks) == {3, 4}
        for _ in range(RETURNS - 1):
            learner(waves([5] * 2))
        assert set(looks) == {3, 4}
        learner(waves([5] * 2))
        assert set(looks) == {3, 4, 5}


class Sized(nn.Module):
    """Branch on its numbers, which vmap can't."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(1, 1)

    def forward(self, x):
        return self.inner(x) if float(x.sum()) > -1e9 else x


def test_what_vmap_can_t_run_is_tried_once_and_not_for_every_shape(monkeypatch):
    learner = MAML(Sized(), rule=SGD(0.1), steps=1)
    with counting(monkeypatch) as looks:
        for length in (3, 4):
            learner(waves([length] * 2))
    assert looks == [3]


@pytest.mark.long
def test_a_training_of_many_shapes_that_was_stopped_goes_on_with_the_same_bits(tmp_path):
    def sample(rng):
        return waves([int(rng.integers(3, 9))], seed=int(rng.integers(1_000_000)))[0]

    def train(folder, steps):
        torch.manual_seed(0)
        learner = MAML(MLP(1, (8,), 1), rule=SGD(0.1), steps=1)
        whole = Training(steps=steps, meta_batch=1, schedule="constant", checkpoint_every=7)
        meta_train(learner, sample, whole, folder=folder, quiet=True)
        return learner

    straight = train(tmp_path / "straight", 90)
    train(tmp_path / "stopped", 45)
    resumed = train(tmp_path / "stopped", 90)
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    plans = resumed.engine.plans.values()
    assert any(plan.why == RARE for plan in plans) and any(plan.why != RARE for plan in plans)
