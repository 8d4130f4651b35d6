"""Signals as tasks: where points lie, which are drawn, and what they depend on."""

import numpy as np
import pytest
import torch

from fastadapt import MAML, SGD, Training, check_tasks, meta_train
from fastadapt.data import Fields
from fastadapt.data.fields.positions import positions
from fastadapt.errors import ConfigError, DataError
from fastadapt.nets import Siren
from fastadapt.tasks import draw, draw_batch, task_rng

PICTURES = np.random.default_rng(0).integers(0, 256, (7, 6, 5, 3), np.uint8)


def rng(index: int = 0) -> np.random.Generator:
    return task_rng(0, "train", index)


def rows_of(x: torch.Tensor, sizes: tuple[int, ...]) -> list[int]:
    """Return the numbers of points from their positions, computed from the middles of cells alone."""
    number = torch.zeros(len(x), dtype=torch.long)
    for axis, n in enumerate(sizes):
        number = number * n + ((x[:, axis] + 1) * n / 2).floor().long()
    return number.tolist()


@pytest.mark.parametrize("sizes", [(9,), (6, 5), (3, 4, 2)])
def test_positions_are_the_middles_of_cells_in_the_order_of_the_array(sizes):
    x = positions(sizes)
    assert rows_of(x, sizes) == list(range(len(x)))
    assert float(x.abs().max()) < 1 and torch.allclose(x.mean(0), torch.zeros(len(sizes)), atol=1e-6)
    for axis, n in enumerate(sizes):
        steps = x[:, axis].unique().diff()
        torch.testing.assert_close(steps, torch.full((n - 1,), 2 / n))


@pytest.mark.parametrize("query", ["fresh", "same", "all"])
def test_points_are_distinct_and_have_the_values_of_the_picture(query):
    source = Fields(PICTURES, points=11, query=query)
    for i in range(20):
        task = source.sample(rng(i))
        (x, y), (xq, yq) = task.support, task.query
        rows, judged = rows_of(x, (6, 5)), rows_of(xq, (6, 5))
        assert len(set(rows)) == len(rows) == 11
        if query == "fresh":
            assert len(set(judged)) == 11 and not set(judged) & set(rows)
        else:
            assert judged == (rows if query == "same" else list(range(30)))
        flat = torch.from_numpy(PICTURES).float().div(255).view(7, 30, 3)
        owner = [m for m in range(7) if torch.equal(flat[m, rows], y)]
        assert len(owner) == 1 and torch.equal(flat[owner[0], judged], yq)


def test_seed_split_and_number_fix_photo_and_points():
    source = Fields(PICTURES, points=8)
    again = draw(Fields(PICTURES, points=8), seed=3, split="test", indices=[5, 1])
    first = draw(source, seed=3, split="test", indices=[1, 5])
    assert all(torch.equal(a, b) for a, b in zip(first[1].support, again[0].support, strict=True))
    other = draw(source, seed=4, split="test", indices=[5])[0]
    assert not torch.equal(first[1].support[0], other.support[0])
    [group] = draw_batch(source, seed=3, split="test", indices=[1, 5])
    for i, task in enumerate(first):
        for half, alone in ((group.support, task.support), (group.query, task.query)):
            assert all(torch.equal(a[i], b) for a, b in zip(half, alone, strict=True))


def test_the_query_leaves_the_support_alone():
    a, b = (Fields(PICTURES, points=8, query=query).sample(rng(2)) for query in ("fresh", "all"))
    assert all(torch.equal(x, y) for x, y in zip(a.support, b.support, strict=True))


@pytest.mark.parametrize("shape", [(4, 20, 1), (4, 3, 4, 5, 2)])
def test_sounds_and_volumes_are_signals_too(shape):
    values = torch.randn(shape, dtype=torch.float64)
    source = Fields(values, points=None, query="same")
    task = source.sample(rng())
    assert task.support[0].shape == (source.total, len(shape) - 2)
    assert any(torch.equal(task.support[1], v.reshape(source.total, -1)) for v in values)
    whole = source.whole([2, 0])
    assert torch.equal(whole.query[1], values[[2, 0]].reshape(2, source.total, -1))


def test_what_is_no_signal_is_said():
    for signals, message in (
        (np.zeros((3, 8), np.float32), r"shape \(3, 8\)"),
        (np.zeros((3, 8, 9), np.uint8), r"has 9, more than 4.*signals\[\.\.\., None\]"),
        (np.zeros((3, 8, 1), np.int16), "torch.int16; divide"),
        (np.array([[[0.0], [0.0]], [[np.nan], [0.0]]]), "signal 1 of 2"),
        ([[[0.0]]], "got list"),
    ):
        with pytest.raises(DataError, match=message):
            Fields(signals, points=1)
    with pytest.raises(DataError, match="has 3, and channels=1"):
        Fields(PICTURES, channels=1)
    assert len(Fields(np.zeros((3, 8, 9), np.uint8), points=2, channels=9)) == 3
    with pytest.raises(ConfigError, match=r"30 points, and points=16 with query='fresh' takes 32"):
        Fields(PICTURES, points=16)
    with pytest.raises(ConfigError, match="takes 60"):
        Fields(PICTURES, points=None)
    with pytest.raises(ConfigError, match="query must be"):
        Fields(PICTURES, points=3, query="other")
    with pytest.raises(ConfigError, match="points must be"):
        Fields(PICTURES, points=0)


def test_an_array_that_nobody_may_write_to_is_copied():
    kept = PICTURES.copy()
    kept.flags.writeable = False
    assert torch.equal(Fields(kept, points=3).signals, torch.from_numpy(PICTURES))


@pytest.mark.parametrize(("query", "notes"), [("same", 0), ("all", 0)])
def test_a_signal_that_is_fitted_is_judged_on_what_was_seen_without_a_note(query, notes):
    assert len(check_tasks(Fields(PICTURES, points=5, query=query))) == notes


def test_a_learner_trains_on_them():
    learner = MAML(Siren(2, 8, 2, 3), rule=SGD(0.01), steps=2, batch=6)
    trained = meta_train(learner, Fields(PICTURES, points=12), Training(steps=3, meta_batch=2), quiet=True)
    assert (trained.stopped, trained.skipped) == ("finished", 0)
