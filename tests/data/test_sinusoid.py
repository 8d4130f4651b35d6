"""The sine-wave families: ranges, moments against the closed form, and which draws depend on what."""

import math

import numpy as np
import pytest
import torch

from fastadapt.data import Sinusoid
from fastadapt.errors import ConfigError
from fastadapt.tasks import draw, task_rng


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
