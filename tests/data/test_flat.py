"""Flat batches of all classes, against the images they are drawn from."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fastadapt.data import AllClasses, ClassImages
from fastadapt.data.images.flat import flat_for_training
from fastadapt.data.settings import OmniglotData, SinusoidData
from fastadapt.errors import ConfigError, DataError
from fastadapt.tasks import draw, draw_batch

SIZES = (4, 7, 5)


def images(channels=None, **settings):
    """Return 16 different images of three classes, and three more of none, in a jumbled order."""
    count = sum(SIZES) + 3
    shape = (count, 4, 4) if channels is None else (count, 4, 4, channels)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = np.append(np.repeat(np.arange(3), SIZES), [-1, -1, -1])[np.random.default_rng(5).permutation(count)]
    return ClassImages(pixels, labels, ("a", "b", "c"), ways=2, queries=1, **settings)


def found_in(source, x, c):
    """Return the rows of `source` that a batch holds, having checked values and labels."""
    rows = []
    for value, number in zip(x, c.tolist(), strict=True):
        turned = [
            (row, quarter)
            for row in range(len(source.labels))
            for quarter in range(4 if source.rotated_classes else 1)
            if torch.equal(torch.rot90(as_value(source, row), quarter, (1, 2)), value)
        ]
        assert len(turned) == 1
        (row, quarter), factor = turned[0], 4 if source.rotated_classes else 1
        assert number == source.labels[row] * factor + quarter and source.labels[row] >= 0
        rows.append((row, quarter))
    return rows


def as_value(source, row):
    pixels = source.images[row]
    value = (pixels[None] if pixels.dim() == 2 else pixels.permute(2, 0, 1)).float() / 255
    return 1 - value if source.invert else value


@pytest.mark.parametrize("rotated_classes", [False, True])
@pytest.mark.parametrize("channels", [None, 3])
@pytest.mark.parametrize("invert", [False, True])
def test_a_batch_holds_different_images_with_the_numbers_of_their_classes(rotated_classes, channels, invert):
    source = images(channels, rotated_classes=rotated_classes, invert=invert)
    flat = AllClasses(source, batch=12)
    assert len(flat) == (12 if rotated_classes else 3)
    [group] = draw_batch(flat, seed=1, split="train", indices=range(6))
    every = set()
    for task in group:
        rows = found_in(source, *task.support)
        assert len(set(rows)) == len(rows) == 12
        every |= set(rows)
        x, c = task.query
        assert x.shape == (0, *task.support[0].shape[1:]) and c.shape == (0,)
    assert len(every) > 12
    assert group.support[1].dtype == torch.int64 and group.support[0].is_contiguous()


def test_a_batch_of_all_images_holds_each_once():
    source = images()
    x, c = AllClasses(source, batch=sum(SIZES)).sample(np.random.default_rng(0)).support
    assert sorted(row for row, _ in found_in(source, x, c)) == np.flatnonzero(source.labels >= 0).tolist()
    assert torch.bincount(c).tolist() == list(SIZES)


def test_a_batch_depends_on_its_number_alone():
    flat = AllClasses(images(rotated_classes=True), batch=5)
    together = draw_batch(flat, seed=2, split="train", indices=range(4))[0]
    for i in range(4):
        [alone] = draw(flat, seed=2, split="train", indices=[i])
        for one, other in zip((*alone.support, *alone.query), (*together[i].support, *together[i].query), strict=True):
            assert torch.equal(one, other)
    [first], [other] = (draw(flat, seed=seed, split="train", indices=[0]) for seed in (2, 3))
    assert not torch.equal(first.support[0], other.support[0])


def test_a_random_turn_of_tasks_is_left_out():
    plain, turned = (AllClasses(images(rotation=rotation), 8) for rotation in ("none", "per_class"))
    a, b = (flat.sample(np.random.default_rng(4)).support for flat in (plain, turned))
    assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])


def test_batches_are_made_where_the_images_are():
    source = images()
    source = replace(source, images=source.images.to("meta"))
    task = AllClasses(source, 4).sample(np.random.default_rng(0))
    assert {leaf.device.type for leaf in (*task.support, *task.query)} == {"meta"}


@pytest.mark.parametrize(("batch", "error"), [(0, ConfigError), (-3, ConfigError), (17, DataError)])
def test_a_batch_that_can_not_be_drawn_is_refused(batch, error):
    with pytest.raises(error, match=str(batch)):
        AllClasses(images(), batch)


def test_only_training_is_flat_and_only_if_asked():
    source = images()
    assert isinstance(flat_for_training(source, "train", 8), AllClasses)
    assert flat_for_training(source, "val", 8) is source is flat_for_training(source, "train", 0)


@pytest.mark.parametrize(("rotated", "split", "count"), [(False, "1100/100/423", 1100), (True, "1200/423", 4800)])
def test_omniglot_says_how_many_classes_train(rotated, split, count):
    assert OmniglotData(rotated_classes=rotated, split=split).classes == count
    assert SinusoidData().classes is None and SinusoidData.flat_batch == 0


def test_a_negative_batch_is_refused():
    with pytest.raises(ConfigError, match=r"data.flat_batch must be a number of images, .* got -1"):
        OmniglotData(flat_batch=-1)
