"""The classes of a folder divided into training, validation and test."""

import random
from collections.abc import Iterable

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
    if not (0 <= val < 1 and 0 < test < 1 and val + test < 1):
        raise ConfigError(
            f"the shares of val and test classes must be 0 <= val, 0 < test, val + test < 1; got {val} and {test}"
        )
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


def most_ways(count: int) -> int:
    """Return the most ways for which `count` classes are enough with the default shares; below 2 for none.

    Example:
        >>> most_ways(20)
        6
    """
    ways = count // 3
    while ways >= 2:
        try:
            folder_split(map(str, range(count)), ways=ways)
            return ways
        except DataError:
            ways -= 1
    return ways
