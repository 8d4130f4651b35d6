"""The division of a folder's classes."""

import pytest

from fastadapt.data import omniglot_classes, omniglot_split
from fastadapt.data.images.folder_split import folder_split, most_ways
from fastadapt.errors import ConfigError, DataError

NAMES = [f"class{i}" for i in range(50)]


def test_parts_are_disjoint_whole_and_in_their_shares():
    split = folder_split(NAMES, ways=5)
    assert sorted(split.train + split.val + split.test) == sorted(NAMES)
    assert (len(split.train), len(split.val), len(split.test)) == (32, 8, 10)


def test_the_order_of_the_listing_has_no_influence_and_the_seed_has():
    split = folder_split(NAMES, ways=5)
    assert folder_split(reversed(NAMES), ways=5) == split
    assert folder_split(NAMES, ways=5, seed=2) != split


def test_every_part_has_enough_for_a_task():
    split = folder_split(NAMES, ways=16)
    assert (len(split.train), len(split.val), len(split.test)) == (18, 16, 16)
    split = folder_split(NAMES[:10], ways=5, val=0)
    assert (len(split.train), len(split.val), len(split.test)) == (5, 0, 5)


def test_the_whole_of_omniglot_is_divided_as_its_own_source_divides_it():
    split, theirs = folder_split(omniglot_classes(), ways=5, val=100 / 1623, test=423 / 1623), omniglot_split()
    assert (split.train, split.val, split.test) == (theirs.train, theirs.val, theirs.test)


@pytest.mark.parametrize(
    ("count", "ways", "val", "sentence"),
    [
        (
            12,
            5,
            0.16,
            "5-way tasks take 5 classes in each of train, val, test, 15 in all, and there are 12: "
            "use --ways 4, or 3 more classes, or --val 0 to train without validation",
        ),
        (
            1,
            2,
            0,
            "2-way tasks take 2 classes in each of train, test, 4 in all, and there is 1: use 3 more classes",
        ),
    ],
)
def test_too_few_classes_are_told_with_numbers(count, ways, val, sentence):
    with pytest.raises(DataError) as caught:
        folder_split(NAMES[:count], ways=ways, val=val)
    assert str(caught.value) == sentence


def test_shares_that_leave_nothing_to_train_on_are_told():
    with pytest.raises(DataError, match="or smaller shares: the test has 40 of them"):
        folder_split(NAMES, ways=5, test=0.8)
    for val, test in ((0.5, 0.5), (-0.1, 0.2), (0.1, 0.0)):
        with pytest.raises(ConfigError, match="val \\+ test < 1; got"):
            folder_split(NAMES, ways=2, val=val, test=test)


@pytest.mark.parametrize(("count", "ways"), [(0, 0), (5, 1), (6, 2), (50, 16), (100, 33)])
def test_the_most_ways_are_those_that_can_be_split(count, ways):
    assert most_ways(count) == ways
    if ways >= 2:
        folder_split(map(str, range(count)), ways=ways)
        with pytest.raises(DataError):
            folder_split(map(str, range(count)), ways=ways + 1)
