"""N-way K-shot tasks over images whose pixels tell which image they are and how they were turned."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastadapt.data import ClassImages
from fastadapt.errors import ConfigError, DataError
from fastadapt.tasks import draw, task_rng

CLASSES, EACH = 12, 20
NAMES = tuple(f"class{i}" for i in range(CLASSES))
CORNERS = {(0, 0): 0, (3, 0): 1, (3, 3): 2, (0, 3): 3}  # where a top left mark goes, by quarter turns


def pictures() -> torch.Tensor:
    """Return 4x4 images whose pixels are the image's number, with a mark of 255 at the top left."""
    images = torch.arange(CLASSES * EACH, dtype=torch.uint8).view(-1, 1, 1).repeat(1, 4, 4)
    images[:, 0, 0] = 255
    return images


def source(**kwargs) -> ClassImages:
    return ClassImages(pictures(), np.arange(CLASSES * EACH) // EACH, NAMES, **kwargs)


def numbers(x: torch.Tensor) -> list[int]:
    return (x[:, 0, 1, 1] * 255).round().int().tolist()


def turns(x: torch.Tensor) -> list[int]:
    return [CORNERS[divmod(int(image.flatten().argmax()), 4)] for image in x]


@settings(max_examples=40, deadline=None)
@given(ways=st.integers(2, CLASSES), shots=st.integers(1, 10), queries=st.integers(0, 10), index=st.integers(0, 999))
def test_a_task_is_balanced_relabelled_and_disjoint(ways, shots, queries, index):
    task = source(ways=ways, shots=shots, queries=queries).sample(task_rng(0, "train", index))
    (x, y), (xq, yq) = task.support, task.query
    assert x.shape == (ways * shots, 1, 4, 4) and xq.shape == (ways * queries, 1, 4, 4)
    assert x.dtype == torch.float32 and y.dtype == torch.int64
    assert y.bincount().tolist() == [shots] * ways
    assert yq.bincount(minlength=ways).tolist() == [queries] * ways
    support, query = numbers(x), numbers(xq)
    assert len({*support, *query}) == len(support) + len(query)
    pairs = {(label, n // EACH) for label, n in zip((*y.tolist(), *yq.tolist()), (*support, *query), strict=True)}
    assert len(pairs) == len({label for label, _ in pairs}) == len({c for _, c in pairs}) == ways


def test_every_class_gets_every_label_and_every_image_is_drawn():
    seen, drawn = set(), set()
    for task in draw(source(ways=3, queries=5), seed=0, split="train", indices=range(600)):
        seen |= {(n // EACH, y) for n, y in zip(numbers(task.support[0]), task.support[1].tolist(), strict=True)}
        drawn |= set(numbers(task.query[0]))
    assert len(seen) == 3 * CLASSES
    assert len(drawn) == CLASSES * EACH


def test_shots_and_queries_leave_the_draw_alone():
    one, five = (source(shots=k, queries=q).sample(task_rng(0, "t", 5)) for k, q in ((1, 15), (5, 0)))
    assert numbers(one.support[0]) == numbers(five.support[0])[::5]


def test_tasks_depend_on_seed_split_and_index_only():
    images = source(rotation="per_class")
    together = draw(images, seed=0, split="train", indices=range(8))
    halves = draw(images, seed=0, split="train", indices=range(4, 8)) + draw(images, seed=0, split="train", indices=[0])
    for a, b in zip((*together[4:], together[0]), halves, strict=True):
        assert torch.equal(a.support[0], b.support[0]) and torch.equal(a.query[0], b.query[0])
    assert not torch.equal(together[0].support[0], draw(images, seed=0, split="val", indices=[0])[0].support[0])


@pytest.mark.parametrize("rotation, most", [("none", 1), ("per_class", 4), ("per_task", 1)])
def test_rotation_modes(rotation, most):
    angles, distinct = set(), 0
    for task in draw(source(shots=2, queries=3, rotation=rotation), seed=0, split="r", indices=range(60)):
        by_class: dict[int, set[int]] = {}
        for x, y in (task.support, task.query):
            for label, turn in zip(y.tolist(), turns(x), strict=True):
                by_class.setdefault(label, set()).add(turn)
        assert all(len(found) == 1 for found in by_class.values())
        used = set().union(*by_class.values())
        distinct = max(distinct, len(used))
        angles |= used
    assert distinct == most
    assert angles == ({0} if rotation == "none" else {0, 1, 2, 3})


def test_rotated_classes_are_four_classes_each():
    images = source(ways=10, shots=1, queries=1)
    rotated = images.with_rotated_classes()
    assert len(rotated) == 4 * len(images) and rotated.images is images.images
    kinds, together = set(), False
    for task in draw(rotated, seed=0, split="r", indices=range(200)):
        found = [(n // EACH, t) for n, t in zip(numbers(task.support[0]), turns(task.support[0]), strict=True)]
        assert len(set(found)) == 10
        assert turns(task.query[0]) == [t for _, t in found]
        together |= len({c for c, _ in found}) < 10
        kinds |= set(found)
    assert len(kinds) == 4 * CLASSES
    assert together, "two turns of one class never met in a task"


def test_four_quarter_turns_are_the_identity():
    images = pictures()
    assert torch.equal(torch.rot90(images, 4, (1, 2)), images)


def test_colour_values_channels_and_normalisation():
    images = torch.randint(0, 256, (6, 5, 7, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plain = ClassImages(images, np.arange(6), tuple("abcdef"), ways=6, queries=0)
    x, _ = plain.sample(task_rng(0, "c", 0)).support
    assert x.shape == (6, 3, 5, 7) and x.is_contiguous()
    expected = sorted((image.permute(2, 0, 1).float() / 255).flatten().tolist() for image in images)
    assert sorted(image.flatten().tolist() for image in x) == expected
    inverted, _ = replace(plain, invert=True).sample(task_rng(0, "c", 0)).support
    assert torch.equal(inverted, 1 - x)
    scaled, _ = replace(plain, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.5)).sample(task_rng(0, "c", 0)).support
    torch.testing.assert_close(scaled[:, 1], (x[:, 1] - 0.4) / 0.2)


def test_ink_convention_is_exact_at_both_ends():
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1)
    black_and_white = ClassImages(images, np.arange(2), ("ink", "paper"), ways=2, queries=0)
    assert set(black_and_white.sample(task_rng(0, "c", 0)).support[0].flatten().tolist()) == {0.0, 1.0}
    inverted = replace(black_and_white, invert=True)
    assert set(inverted.sample(task_rng(0, "c", 0)).support[0].flatten().tolist()) == {0.0, 1.0}


def test_subset_takes_the_named_classes_and_shares_the_images():
    images = source(ways=3, queries=2)
    part = images.subset(["class7", "class0", "class4"])
    assert part.images is images.images and part.class_names == ("class7", "class0", "class4")
    assert len(part) == 3
    drawn = {n // EACH for t in draw(part, seed=0, split="s", indices=range(20)) for n in numbers(t.query[0])}
    assert drawn == {0, 4, 7}
    again = replace(part, ways=2).subset(["class4", "class7"])
    assert {n // EACH for n in numbers(again.sample(task_rng(0, "s", 0)).query[0])} == {4, 7}
    with pytest.raises(DataError, match="'class1'"):
        part.subset(["class0", "class1"])
    with pytest.raises(DataError, match="each class once"):
        images.subset(["class0", "class0"])


def test_classes_of_unequal_size():
    labels = np.repeat([0, 1, 2], [2, 3, 9])
    uneven = ClassImages(pictures()[:14], labels, ("a", "b", "c"), ways=3, shots=1, queries=1)
    drawn = {n for t in draw(uneven, seed=0, split="u", indices=range(300)) for n in numbers(t.query[0])}
    assert drawn == set(range(14))


@pytest.mark.parametrize(
    "kwargs, words",
    [
        ({"ways": 1}, "ways .* at least 2, got 1"),
        ({"shots": 0}, "shots .* at least 1, got 0"),
        ({"queries": -1}, "queries .* at least 0"),
        ({"queries": True}, "whole number"),
        ({"rotation": "always"}, "'always'"),
        ({"std": (0.0,)}, "std must be positive"),
        ({"mean": (0.1, 0.2)}, "1 value or one for each of 1 channels"),
    ],
)
def test_settings_are_checked(kwargs, words):
    with pytest.raises(ConfigError, match=words):
        source(**kwargs)


def test_too_few_classes_or_images_are_named():
    with pytest.raises(DataError, match="13-way task needs 13 classes, but there are 12"):
        source(ways=13)
    with pytest.raises(DataError, match="class 'class0' has 20 images, but 5 shots and 16 queries need 21"):
        source(shots=5, queries=16)


@pytest.mark.parametrize(
    "images, labels, names, words",
    [
        (torch.zeros(4, 4, 4), np.zeros(4, int), ("a",), "uint8"),
        (torch.zeros(4, 4, dtype=torch.uint8), np.zeros(4, int), ("a",), "uint8"),
        (pictures()[:4], np.zeros(3, int), ("a",), "one integer for each of the 4 images"),
        (pictures()[:4], np.zeros(4), ("a",), "float64"),
        (pictures()[:4], np.array([0, 0, 1, 2]), ("a", "b"), "labels must be -1..1"),
        (pictures()[:4], np.array([0, 0, 1, 1]), ("a", "a"), "names must differ"),
    ],
)
def test_arrays_are_checked(images, labels, names, words):
    with pytest.raises(DataError, match=words):
        ClassImages(images, labels, names, ways=2, queries=0)


def test_only_square_images_turn():
    images = torch.zeros(4, 4, 5, dtype=torch.uint8)
    with pytest.raises(ConfigError, match="square images, got 4x5"):
        ClassImages(images, np.arange(4), tuple("abcd"), ways=2, queries=0, rotation="per_class")


@pytest.mark.parametrize("shape", [(3, 28, 28), (1, 28, 28), (4, 8, 12), (2, 30, 20), (13, 64, 64), (6, 9, 9)])
def test_channels_first_are_refused_and_the_sentence_mends_them(shape):
    images = torch.zeros(4, *shape, dtype=torch.uint8)
    channels = f"with {shape[0]} channels? first; give images.permute"
    with pytest.raises(DataError, match=rf"{shape[0]}, {shape[1]}, {shape[2]}\] looks like \[M, C, H, W\], {channels}"):
        ClassImages(images, np.arange(4), tuple("abcd"), ways=2, queries=0)
    mended = ClassImages(images.permute(0, 2, 3, 1), np.arange(4), tuple("abcd"), ways=2, queries=0)
    assert mended.sample(task_rng(0, "train", 0)).support[0].shape == (2, *shape)


@pytest.mark.parametrize(
    "shape", [(28, 28, 1), (8, 12, 3), (12, 8, 4), (3, 3, 3), (9, 9, 200), (32, 32, 13), (5, 7, 2)]
)
def test_channels_last_are_taken(shape):
    images = torch.zeros(4, *shape, dtype=torch.uint8)
    x, _ = ClassImages(images, np.arange(4), tuple("abcd"), ways=2, queries=0).sample(task_rng(0, "train", 0)).support
    assert x.shape == (2, shape[2], *shape[:2])


@pytest.mark.parametrize("images", [np.zeros((4, 8, 8), np.uint8), [[[0]]] * 4, None])
def test_what_is_no_tensor_is_named(images):
    with pytest.raises(
        DataError, match=r"images must be a tensor of torch, got (numpy.ndarray|builtins\.\w+); torch.as"
    ):
        ClassImages(images, np.arange(4), tuple("abcd"), ways=2, queries=0)


@pytest.mark.parametrize(
    "labels",
    [[[0], [0, 1], [2], [3]], [0.0, 1.0, 2.0, 3.0], ["a", "b", "c", "d"], [True, False] * 2, [1, 2, 3, 4], None],
)
def test_bad_labels_are_refused(labels):
    with pytest.raises(DataError, match=r"labels must be (one integer for each|-1\.\.3)"):
        ClassImages(torch.zeros(4, 8, 8, dtype=torch.uint8), labels, tuple("abcd"), ways=2, queries=0)


def test_labels_may_be_a_tensor():
    made = ClassImages(torch.zeros(4, 8, 8, dtype=torch.uint8), torch.arange(4), tuple("abcd"), ways=2, queries=0)
    assert made.labels.tolist() == [0, 1, 2, 3] and isinstance(made.labels, np.ndarray)
