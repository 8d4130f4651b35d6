"""The classes of a folder divided into training, validation and test."""

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fastadapt.data.images.class_settings import Part
from fastadapt.data.images.omniglot_splits import ClassSplit
from fastadapt.errors import ConfigError, DataError


def folder_split(names: Iterable[str], *, ways: int, val: float = 0.16, test: float = 0.2, seed: int = 1) -> ClassSplit:
    """Divide classes, so that what is tested on was never seen in training.

    The names are sorted, then shuffled with `random.Random(seed)`; the last `test` of them are tested on, the `val`
    before these validate, and the others train. Each part gets at least as many classes as a task has. The shares are
    those of mini-ImageNet (64, 16, 20); with the whole of Omniglot and its counts the split is Omniglot's.

    Args:
        names: the classes.
        ways: classes of a task, `N`.
        val: share of the classes that validate, 0..1; 0 for no validation.
        test: share of the classes that are tested on, 0..1.
        seed: chooses the shuffle.

    Raises:
        ConfigError: if a share is outside its range.
        DataError: if there are too few classes for a task in each part.

    Example:
        >>> split = folder_split("abcdefghij", ways=2)
        >>> len(split.train), len(split.val), len(split.test)
        (6, 2, 2)
    """
    _check_shares(val, test)
    shuffled = sorted(names)
    count = len(shuffled)
    tested, validated = max(ways, round(test * count)), max(ways, round(val * count)) if val else 0
    trained = count - tested - validated
    if trained < ways:
        parts = ["train", "val", "test"] if val else ["train", "test"]
        need, most = ways * len(parts), count // len(parts)
        shares = f"; or smaller shares: the test has {tested} of them" if count >= need else ""
        mend = f"--ways {most}, or " if 2 <= most < ways else ""
        mend += f"{need - count} more classes" if count < need else "more classes"
        mend += ", or --val 0 to train without validation" if val else ""
        raise DataError(
            f"{ways}-way tasks take {ways} classes in each of {', '.join(parts)}, {need} in all, and there "
            f"{'is 1' if count == 1 else f'are {count}'}: use {mend}{shares}"
        )
    random.Random(seed).shuffle(shuffled)
    return ClassSplit(
        "folder",
        tuple(shuffled[:trained]),
        tuple(shuffled[trained : trained + validated]),
        tuple(shuffled[trained + validated :]),
    )


def divide(
    names: Iterable[str],
    parts: Mapping[str, Part],
    *,
    ways: int,
    val: float = 0.16,
    test: float = 0.2,
    seed: int = 1,
) -> ClassSplit:
    """Divide classes as the user did, or at random.

    A part in which the user has no class is taken from the classes that train, at random.

    Args:
        names: the classes.
        parts: the part of each class, where the user has divided them; those without one are left out. Empty for none.
        ways: classes of a task, `N`.
        val: share of the classes that validate, 0..1; 0 for no validation.
        test: share of the classes that are tested on, 0..1.
        seed: chooses the shuffle.

    Raises:
        ConfigError: if a share is outside its range.
        DataError: if a part has too few classes for a task.

    Example:
        >>> parts = {"cat": "train", "dog": "train", "owl": "test", "elk": "test"}
        >>> divide(parts, parts, ways=2, val=0).test
        ('elk', 'owl')
    """
    if not parts:
        return folder_split(names, ways=ways, val=val, test=test, seed=seed)
    _check_shares(val, test)
    every = sorted(names)
    chosen = {part: [name for name in every if parts.get(name) == part] for part in ("train", "val", "test")}
    trained = len(chosen["train"])
    random.Random(seed).shuffle(chosen["train"])
    for part, share in (("test", test), ("val", val)):
        if not share:
            chosen[part] = []
        elif part not in parts.values():
            count = max(ways, round(share * trained))
            chosen[part], chosen["train"] = chosen["train"][-count:], chosen["train"][:-count]
    wanted = ["train", "val", "test"] if val else ["train", "test"]
    if few := [part for part in wanted if len(chosen[part]) < ways]:
        found = ", ".join(f"{len(chosen[part])} {part}" for part in wanted)
        least = min(len(chosen[part]) for part in wanted)
        mend = f"--ways {least}, or " if least >= 2 else ""
        raise DataError(
            f"{ways}-way tasks take {ways} classes in each of {', '.join(wanted)}, and the split has {found}: use "
            f"{mend}more classes for {' and '.join(few)}, "
            f"{'or --val 0 to train without validation, ' if 'val' in few else ''}or --split random"
        )
    return ClassSplit("folder", *(tuple(chosen[part]) for part in ("train", "val", "test")))


def _check_shares(val: float, test: float) -> None:
    if not (0 <= val < 1 and 0 < test < 1 and val + test < 1):
        raise ConfigError(
            f"the shares of val and test classes must be 0 <= val, 0 < test, val + test < 1; got {val} and {test}"
        )


def most_ways(count: int, divide: Callable[[int], Any] | None = None) -> int:
    """Return the most ways for which `count` classes are enough; below 2 for none.

    Args:
        count: the classes.
        divide: raises `DataError` for more ways than can be had; None is `folder_split` with its shares.

    Example:
        >>> most_ways(20)
        6
    """
    enough, few = 1, count // 2 + 1
    while few - enough > 1:  # what is enough for N ways is enough for fewer
        ways = (enough + few) // 2
        try:
            divide(ways) if divide else folder_split(map(str, range(count)), ways=ways)
            enough = ways
        except DataError:
            few = ways
    return min(enough, count // 2)
