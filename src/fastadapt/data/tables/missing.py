"""What a missing value is written as: words, and numbers by their value."""

import functools
import math
import re
from collections.abc import Collection, Iterable

from fastadapt.data.files import shown
from fastadapt.data.tables.notation import read_number, readings, take_apart, value_of

MISSING = frozenset((
    *("", "na", "n/a", "n.a.", "nan", "null", "none", "nil", "?", "-", "--", "–", "—", ".", "missing", "<na>", "nat"),
    *("#n/a", "#na", "#null!", "#value!", "#ref!", "#div/0!", "#num!", "#name?"),
))  # fmt: skip
"""In any case; an empty cell always is."""
LABELS = frozenset({"none", "nil", "-", "--", "–", "—", "null", "missing"})
"""Of these the words that are taken for a label where the other labels are text: "none" beside "some"."""


_CODE = re.compile(r"[^\d.,]{0,4}0\d")  # 007 is a code, and not the number 7


def is_missing(cell: str, words: Collection[str] | None = None) -> bool:
    """Return whether a cell says that there is no value.

    Args:
        cell: the text.
        words: what says so, in lower case; None takes `MISSING`. A number among them is meant however it is written.

    Example:
        >>> is_missing("N/A"), is_missing("N/A", ("-999",)), is_missing("", ()), is_missing("-999,00", ("-999",))
        (True, False, True, True)
    """
    if not cell or cell.lower() in (MISSING if words is None else words):
        return True
    numbers = missing_numbers(words)
    return bool(numbers) and _number(cell) in numbers


def missing_numbers(words: Collection[str] | None) -> frozenset[float]:
    """Return the numbers among the words that say that a value is missing.

    Example:
        >>> sorted(missing_numbers(("na", "-999", "9e3")))
        [-999.0, 9000.0]
    """
    return frozenset() if not words else _numbers_of(tuple(words))


@functools.lru_cache(maxsize=100)
def _numbers_of(words: tuple[str, ...]) -> frozenset[float]:
    plain = {word: read_number(word) for word in words}
    found = {_number(word) if value is None else value for word, value in plain.items() if not _CODE.match(word)}
    return frozenset(value for value in found if value is not None and math.isfinite(value))


def _number(cell: str) -> float | None:
    """Return the number in a cell, if it is the same in every notation that reads it."""
    values = _readings(cell)
    return next(iter(values)) if len(values) == 1 else None


@functools.lru_cache(maxsize=50_000)
def _readings(cell: str) -> frozenset[float | None]:
    """Return all numbers that a cell may be."""
    parts = None if _CODE.match(cell) else take_apart(cell)
    return frozenset() if parts is None else frozenset(value_of(parts, written) for written in readings(parts))


def unused_words(name: str, columns: Iterable[Iterable[str]], words: Collection[str] | None) -> list[str]:
    """Return a sentence for the words of `--missing` that no cell of a table is.

    Args:
        name: the file.
        columns: the cells of each column.
        words: what was named.

    Example:
        >>> unused_words("t.csv", [["1", "-999.0"]], ("-999", "-888"))
        ["no cell of t.csv is '-888', which --missing names; write it as the table does"]
    """
    left = {word for word in words or () if word}
    for cells in columns:
        if not left:
            break
        there = set(cells)
        left -= {cell.lower() for cell in there}
        numbers = frozenset().union(*map(_readings, there))
        left = {word for word in left if not missing_numbers((word,)) & numbers}
    if not left:
        return []
    unused = " or ".join(repr(shown(word)) for word in sorted(left)[:5])
    return [f"no cell of {name} is {unused}, which --missing names; write it as the table does"]
