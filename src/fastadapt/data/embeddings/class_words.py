"""The classes of samples as words: a missing one is no class, and two spellings of one class are told."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from fastadapt.data.files import shown
from fastadapt.data.names import bare, composed
from fastadapt.data.tables.missing import LABELS, is_missing
from fastadapt.data.tables.notation import read_number
from fastadapt.data.tables.spelling import spellings
from fastadapt.errors import DataError

_TOLD = 3  # pairs of spellings, of each kind


def class_words(name: str, classes: Sequence[Any], where: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the class of each row in one spelling, and what is to be said of them.

    Whole numbers lose the ".0" that a program added, and words that say that there is no value are refused, as in the
    target of a table: "none" is a class beside other text.

    Args:
        name: of the file, for the messages.
        classes: words or whole numbers, one for each row.
        where: each row, for the messages.

    Raises:
        DataError: if a row has no class, or the classes are numbers with fractions.

    Example:
        >>> class_words("f.csv", ["1", 1.0, "2"], ["row 1", "row 2", "row 3"])[0]
        ['1', '1', '2']
    """
    cells = [composed(_cell(value)) for value in classes]
    counts = Counter(cells)
    there = {cell for cell in counts if not is_missing(cell)}
    numbers = {cell: read_number(cell) for cell in there}
    text = any(number is None for number in numbers.values())
    taken = sorted(cell for cell in counts if cell and text and is_missing(cell) and cell.lower() in LABELS)
    _refuse_missing(name, cells, where, taken)
    fraction = next((cell for cell, number in numbers.items() if number is not None and number % 1 != 0), None)
    if fraction is not None and not text:
        raise DataError(
            f"{name}: the classes are numbers such as {shown(fraction)}, and words or whole numbers are needed; name "
            "the column of classes with --class-column, or write words"
        )
    notes = [
        f"{name}: {shown(cell)!r} ({counts[cell]} rows) is taken for a class; if it says that there is none, leave "
        "these rows out"
        for cell in taken
    ]
    if not text and "-1" in there and min(value for cell, value in numbers.items() if cell != "-1") >= 0:  # type: ignore[type-var]
        notes.append(
            f"{name}: -1 ({counts['-1']} rows) counts as a class; if it says that there is none, leave these rows out"
        )
    other = spellings(there)
    notes += [f"{name}: the class {shown(a)!r} is taken for {shown(b)!r}" for a, b in list(other.items())[:_TOLD]]
    pairs = [
        f"{shown(a)!r} and {shown(b)!r}" for a, b in _one_number({other.get(cell, cell) for cell in counts})[:_TOLD]
    ]
    notes += [f"{name} has {', '.join(pairs)} as different classes; write them alike if they are one"] if pairs else []
    return [other.get(cell, cell) for cell in cells], notes


def _cell(value: Any) -> str:
    """Return a value as the text that a table would have."""
    if value is None:
        return ""
    if isinstance(value, float | np.floating):
        return str(int(value)) if value % 1 == 0 else str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace").strip()
    return str(value).strip()


def _refuse_missing(name: str, cells: Sequence[str], where: Sequence[str], taken: Collection[str]) -> None:
    absent = [row for row, cell in enumerate(cells) if is_missing(cell) and cell not in taken]
    if not absent:
        return
    word = cells[absent[0]]
    told = f"{name}: {where[absent[0]]} has no class{f', as {shown(word)!r} says' if word else ''}"
    others = f" (and {len(absent) - 1} further rows)" if len(absent) > 1 else ""
    rename = "; if it is the name of a class, write it in another way" if word else ""
    raise DataError(f"{told}{others}; name one for each row, or leave the row out{rename}")


def _one_number(words: Collection[str]) -> list[tuple[str, str]]:
    """Return the pairs of words that are one number and don't look alike: "7" and "7.00e0"."""
    first: dict[float, str] = {}
    numbers = {word: read_number(word) for word in sorted(words, key=lambda word: (len(word), word))}
    of_one = [
        (first.setdefault(number, word), word)
        for word, number in numbers.items()
        if number == number and number is not None
    ]
    return [(a, b) for a, b in of_one if a != b and bare(a) != bare(b)]
