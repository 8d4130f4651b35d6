"""The cells of a column as numbers, and a sentence for what is none."""

import math
from collections.abc import Callable, Collection

import numpy as np

from fastadapt.data.files import shown
from fastadapt.data.tables.dates import Moment, by_the_clock, read_date
from fastadapt.data.tables.evidence import Settled
from fastadapt.data.tables.missing import is_missing, missing_numbers
from fastadapt.data.tables.notation import PLAIN, plain_numbers, read_number, shown_notation
from fastadapt.data.tables.rows import Rows

_EACH = 3  # so many cells of a column are told one by one
_PLAIN = Settled()


def read_numbers(
    rows: Rows, name: str, settled: Settled = _PLAIN, words: Collection[str] | None = None
) -> tuple[np.ndarray, list[str]]:
    """Return a column as float64 with NaN for what is missing, and a sentence for each value that is no number.

    Args:
        rows: the table.
        name: the column.
        settled: its notation and unit.
        words: what says that a value is missing.
    """
    plain = settled.written == PLAIN and not settled.unit
    at_once = plain_numbers(rows.column(name)) if plain and not words else None
    if at_once is not None:
        return at_once, []
    values, word = np.full(len(rows), np.nan), shown(name)
    absent = missing_numbers(words)  # 9,999 is one of them, or 9.999, as the column is written
    strange: list[tuple[int, str]] = []
    infinite: list[str] = []
    for row, cell in enumerate(rows.column(name)):
        if is_missing(cell, words):
            continue
        value = read_number(cell, settled.written, settled.unit)
        if value is None:
            strange.append((row, cell))
        elif not math.isfinite(value):
            infinite.append(
                f"{rows.where(row)}: {cell!r} in column {word!r} is not finite; correct it or leave it empty"
            )
        elif value not in absent:
            values[row] = value
    mend = "write it as 12.5" if plain else f"the others are written as {shown_notation(settled.written, settled.unit)}"
    return values, told_at_once(strange, rows, name, f"in column {word!r} is not a number; {mend}") + infinite


def read_dates(
    rows: Rows, name: str, written: str, part: str, words: Collection[str] | None = None, zones: str = ""
) -> tuple[np.ndarray, list[str]]:
    """Return a part of the dates of a column as float64 with NaN for what is missing, and what is wrong.

    Args:
        rows: the table.
        name: the column.
        written: the form of its dates, a key of `FORMS`.
        part: one of `PARTS`.
        words: what says that a value is missing.
        zones: those of the training; "" where they are not known.
    """
    values = np.full(len(rows), np.nan)
    strange: dict[str, list[tuple[int, str]]] = {}
    for row, cell in enumerate(rows.column(name)):
        if is_missing(cell, words):
            continue
        found = read_date(cell, written)
        moment = f"is no date such as {written}; correct the line" if found is None else found
        if isinstance(moment, Moment):
            moment = by_the_clock(moment, zones, written)
        if isinstance(moment, str):
            strange.setdefault(moment, []).append((row, cell))
        else:
            values[row] = moment.part(part)
    told = [told_at_once(cells, rows, name, f"in column {shown(name)!r} {wrong}") for wrong, cells in strange.items()]
    return values, [sentence for some in told for sentence in some]


def told_at_once(strange: list[tuple[int, str]], rows: Rows, name: str, what: str) -> list[str]:
    """Return a sentence for each of a few cells, and one for many.

    Args:
        strange: row and cell.
        rows: the table.
        name: the column.
        what: is wrong with each.
    """
    if len(strange) <= _EACH:
        return [f"{rows.where(row)}: {shown(cell)!r} {what}" for row, cell in strange]
    row, cell = strange[0]
    others = (
        f"and as much is wrong with column {shown(name)!r} in {len(strange) - 1} further rows; is the header right?"
    )
    return [f"{rows.where(row)}: {shown(cell)!r} {what}, {others}"]


Say = Callable[[str], object]
"""Takes a sentence that is to be told."""
