"""The sine-wave families: ranges, moments against the closed form, and which draws depend on what."""

import math

import numpy as np
import pytest
import torch

from fastadapt.data import Sinusoid
from fastadapt.errors import ConfigError
from fastadapt.tasks import draw, draw_batch, group_by_shape, task_rng


def rng(index: int = 0) -> np.random.Generator:
    return task_rng(0, "train", index)


def test_shapes_types_and_ranges():
    for x, y in (part for i in range(200) for part in vars(Sinusoid(shots=3, queries=7).sample(rng(i))).values()):
        assert x.dtype == y.dtype == torch.float32
        assert x.shape == y.shape and x.shape[1] == 1
        assert x.abs().max() <= 5 and y.abs().max() <= 5


@pytest.mark.parametrize("family, sign, limit", [("maml", -1, math.pi), ("reptile", 1, 2 * math.pi)])
def test_targets_follow_the_formula(family, sign, limit):
    phases = []
    for i in range(200):
        x, y = Sinusoid(family=family, oracle=True).sample(rng(i)).query
        amplitude, phase = x[0, 1], x[0, 2]
        assert (x[:, 1:] == x[0, 1:]).all()
        assert 0.1 <= amplitude <= 5
        torch.testing.assert_close(y[:, 0], amplitude * torch.sin(x[:, 0] + sign * phase), atol=1e-5, rtol=0)
        phases.append(float(phase))
    assert 0 <= min(phases) < 0.1 * limit and 0.9 * limit < max(phases) <= limit


@pytest.mark.parametrize("family, best", [("maml", -1.6234), ("reptile", 0.0)])
def test_moments(family, best):
    tasks = draw(Sinusoid(family=family, queries=20), seed=0, split="moments", indices=range(6000))
    x = torch.cat([t.query[0] for t in tasks]).double()
    y = torch.cat([t.query[1] for t in tasks]).double()
    assert y.square().mean() == pytest.approx(4.2517, abs=0.15)  # the standard error is .05
    assert (y * x.cos()).mean() / x.cos().square().mean() == pytest.approx(best, abs=0.1)


def test_settings_leave_the_other_draws_alone():
    x, y = Sinusoid(shots=5).sample(rng()).support
    for other in (Sinusoid(shots=5, queries=100, grid=True), Sinusoid(shots=5, queries=3)):
        assert torch.equal(other.sample(rng()).support[1], y)
    longer = Sinusoid(shots=10).sample(rng()).support
    assert torch.equal(longer[0][:5], x) and torch.equal(longer[1][:5], y)
    oracle = Sinusoid(shots=5, oracle=True).sample(rng()).support
    assert oracle[0].shape == (5, 3)
    assert torch.equal(oracle[0][:, :1], x) and torch.equal(oracle[1], y)


def test_grid_query_is_evenly_spaced():
    x, _ = Sinusoid(queries=101, grid=True).sample(rng()).query
    torch.testing.assert_close(x[:, 0], torch.linspace(-5, 5, 101))


@pytest.mark.parametrize("half, low, high", [("left", -5, 0), ("right", 0, 5)])
def test_half_restricts_the_support_only(half, low, high):
    task = Sinusoid(shots=200, queries=200, half=half).sample(rng())
    assert task.support[0].min() >= low and task.support[0].max() <= high
    assert task.support[0].max() - task.support[0].min() > 4
    assert task.query[0].min() < -3 and task.query[0].max() > 3


def test_tasks_depend_on_seed_and_index_only():
    source = Sinusoid()
    together = draw(source, seed=1, split="val", indices=range(4))
    alone = draw(source, seed=1, split="val", indices=[3])[0]
    assert torch.equal(together[3].query[1], alone.query[1])
    assert not torch.equal(together[2].query[1], alone.query[1])


def test_no_query():
    assert Sinusoid(queries=0).sample(rng()).query[0].shape == (0, 1)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"family": "cosine"}, "'cosine'"),
        ({"shots": 0}, "shots .* at least 1, got 0"),
        ({"shots": 1.5}, "whole number"),
        ({"queries": -1}, "queries .* at least 0"),
        ({"queries": 1, "grid": True}, "at least 2 for a grid"),
        ({"half": "top"}, "'left', 'right' or None"),
    ],
)
def test_settings_are_checked(settings, words):
    with pytest.raises(ConfigError, match=words):
        Sinusoid(**settings)


@pytest.mark.parametrize("family", ["maml", "reptile"])
@pytest.mark.parametrize("half", [None, "left", "right"])
@pytest.mark.parametrize("oracle", [False, True])
@pytest.mark.parametrize("grid", [False, True])
def test_a_batch_is_its_tasks_and_each_is_what_its_own_numbers_say(family, half, oracle, grid):
    source = Sinusoid(family, shots=3, queries=5, oracle=oracle, grid=grid, half=half)
    [group] = draw_batch(source, seed=0, split="train", indices=range(4, 10))
    [stacked] = group_by_shape(draw(source, seed=0, split="train", indices=range(4, 10)))
    assert len(group) == 6
    for got, want in zip((*group.support, *group.query), (*stacked.support, *stacked.query), strict=True):
        assert torch.equal(got, want) and got.is_contiguous()
    for i, task in enumerate(group):
        amplitude, phase, *points = rng(4 + i).random(2 + 3 + (0 if grid else 5)).tolist()
        amplitude, phase = 0.1 + 4.9 * amplitude, phase * (math.pi if family == "maml" else 2 * math.pi)
        x = [10 * u - 5 for u in points]
        x[:3] = [p if half is None else (p / 2 - 2.5 if half == "left" else p / 2 + 2.5) for p in x[:3]]
        x += torch.linspace(-5, 5, 5).tolist() if grid else []
        y = [amplitude * math.sin(p - phase if family == "maml" else p + phase) for p in x]
        inputs, targets = (torch.cat((s, q)) for s, q in zip(task.support, task.query, strict=True))
        torch.testing.assert_close(inputs[:, 0], torch.tensor(x))
        torch.testing.assert_close(targets[:, 0], torch.tensor(y))
        if oracle:
            torch.testing.assert_close(inputs[:, 1:], torch.tensor([[amplitude, phase]] * 8))


def test_a_batch_without_queries():
    [group] = draw_batch(Sinusoid(queries=0), seed=0, split="train", indices=range(3))
    assert group.query[0].shape == group.query[1].shape == (3, 0, 1)
