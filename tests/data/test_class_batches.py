"""A meta-batch of image tasks, drawn at once, against the definition: one task, one class, one image at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fastadapt.data import ClassImages
from fastadapt.tasks import draw, draw_batch, group_by_shape, task_rng

CLASSES, SIDE, TASKS = 9, 6, 7
EVEN, UNEVEN = [8] * CLASSES, [4, 9, 5, 11, 4, 8, 6, 5, 13]


def source(sizes=EVEN, channels=None, **settings):
    generator = torch.Generator().manual_seed(len(sizes))
    shape = (sum(sizes) + 3, SIDE, SIDE) if channels is None else (sum(sizes) + 3, SIDE, SIDE, channels)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    labels = np.append(np.repeat(np.arange(len(sizes)), sizes), [-1, -1, -1])
    labels = labels[torch.randperm(len(labels), generator=generator).numpy()]
    names = tuple(f"class{i}" for i in range(len(sizes)))
    return ClassImages(images, labels, names, ways=4, **{"shots": 2, "queries": 2, **settings})


def by_definition(images, rng):
    """Return `(x, y)` of support and query, written without any array over classes or images."""
    drawn = rng.choice(len(images), images.ways, replace=False)
    classes = [int(c) // 4 if images.rotated_classes else int(c) for c in drawn]
    quarters = [int(c) % 4 if images.rotated_classes else 0 for c in drawn]
    if images.rotation != "none":
        extra = rng.integers(4, size=images.ways if images.rotation == "per_class" else 1)
        quarters = [(q + int(extra[i if len(extra) > 1 else 0])) % 4 for i, q in enumerate(quarters)]
    rows = [np.flatnonzero(images.labels == c) for c in classes]
    keys = rng.random((images.ways, max(map(len, rows))))
    parts = ([], []), ([], [])
    for label, (members, quarter) in enumerate(zip(rows, quarters, strict=True)):
        order = sorted(range(len(members)), key=lambda j, label=label: keys[label, j])
        for place, j in enumerate(order[: images.shots + images.queries]):
            pixels = torch.rot90(images.images[members[j]], quarter, (0, 1))
            value = (pixels[None] if pixels.dim() == 2 else pixels.permute(2, 0, 1)).float() / 255
            value = 1.0 - value if images.invert else value
            for constant, change in ((images.mean, torch.sub), (images.std, torch.div)):
                value = value if constant is None else change(value, torch.tensor(constant).view(-1, 1, 1))
            x, y = parts[place >= images.shots]
            x.append(value)
            y.append(label)
    nothing = torch.empty(0, *(parts[0][0][0].shape))
    return [(torch.stack(x) if x else nothing, torch.tensor(y, dtype=torch.int64)) for x, y in parts]


def check(images):
    [group] = draw_batch(images, seed=2, split="b", indices=range(3, 3 + TASKS))
    [stacked] = group_by_shape(draw(images, seed=2, split="b", indices=range(3, 3 + TASKS)))
    assert len(group) == TASKS and group.positions == tuple(range(TASKS))
    for i in range(TASKS):
        wanted = by_definition(images, task_rng(2, "b", 3 + i))
        for part, one_by_one, want in zip(vars(group[i]).values(), vars(stacked[i]).values(), wanted, strict=True):
            for value, alone, expected in zip(part, one_by_one, want, strict=True):
                assert value.dtype == expected.dtype and torch.equal(value, expected)
                assert torch.equal(alone, expected)
    assert all(tensor.is_contiguous() for tensor in (*group.support, *group.query))


@pytest.mark.parametrize("rotation", ["none", "per_class", "per_task"])
@pytest.mark.parametrize("rotated_classes", [False, True])
@pytest.mark.parametrize("channels", [None, 1, 3])
def test_every_turn_of_grey_and_colour_images(rotation, rotated_classes, channels):
    check(source(rotation=rotation, rotated_classes=rotated_classes, channels=channels))


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize(
    "mean, std", [(None, None), ((0.3,), None), (None, (0.7,)), ((0.1, 0.2, 0.3), (0.4, 0.5, 2.0))]
)
def test_values(invert, mean, std):
    check(source(channels=3, rotation="per_class", invert=invert, mean=mean, std=std))


@pytest.mark.parametrize("shots, queries", [(1, 0), (4, 0), (1, 1), (1, 3), (3, 1)])
@pytest.mark.parametrize("sizes", [EVEN, UNEVEN])
def test_sizes_of_tasks_and_classes(shots, queries, sizes):
    check(source(sizes, shots=shots, queries=queries, rotation="per_task"))


def test_images_that_do_not_fit_a_square_are_drawn_as_they_are():
    images = torch.arange(5 * 4 * 7).to(torch.uint8).view(5, 4, 7)
    check(ClassImages(images, np.arange(5), tuple("abcde"), ways=3, queries=0))


def test_a_batch_leaves_the_images_alone():
    images = source(rotation="per_class", invert=True, mean=(0.5,))
    before = images.images.clone()
    [group] = draw_batch(images, seed=0, split="b", indices=range(4))
    group.support[0].zero_()
    assert torch.equal(images.images, before)


def test_tasks_are_made_where_the_images_are():
    images = source(rotation="per_class", invert=True, mean=(0.5,), std=(0.5,))
    [group] = draw_batch(replace(images, images=images.images.to("meta")), seed=0, split="b", indices=range(4))
    assert {tensor.device.type for tensor in (*group.support, *group.query)} == {"meta"}
