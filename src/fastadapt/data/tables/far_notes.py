"""What is said of values that stand far outside all others of their column."""

from collections.abc import Sequence

import numpy as np

from fastadapt.data.files import shown
from fastadapt.data.tables.columns import Preparation
from fastadapt.data.tables.evidence import Settled
from fastadapt.data.tables.far_values import far_values, is_code
from fastadapt.data.tables.notation import read_number
from fastadapt.data.tables.rows import Rows
from fastadapt.data.tables.spread import as_range
from fastadapt.data.tables.values import read_dates, read_numbers

_FAR = 10.0  # ranges of the training
_LISTED = 3
_CLOCK = "12:30"  # the form of times of day, which have no far end


def far_notes(rows: Rows, preparation: Preparation) -> list[str]:
    """Return a sentence for each column of a table with values far outside all others.

    Args:
        rows: the table, all of it: a note changes nothing that is fitted.
        preparation: which columns it has, and how they are written.
    """
    words, owners = preparation.words, rows.column(preparation.task)
    notes: list[str] = []
    for column in {column.name: column for column in preparation.columns}.values():
        if column.holds == "date" and column.written != _CLOCK:
            values, _ = read_dates(rows, column.name, column.written, "elapsed", words)
            notes += in_column(rows, column.name, values, owners, dates=True)
        elif column.holds == "number":
            notes += in_column(rows, column.name, column.values(rows, words)[0], owners)
    if preparation.labels:
        numbers = {label: read_number(label) for label in preparation.labels}
        if any(number is None for number in numbers.values()):
            return notes
        values = np.array([numbers.get(cell) for cell in rows.column(preparation.target)], dtype=np.float64)
    else:
        values, _ = read_numbers(rows, preparation.target, preparation.target_settled, words)
    return notes + in_column(rows, preparation.target, values, owners, target=True)


def in_column(
    rows: Rows,
    name: str,
    values: np.ndarray,
    owners: Sequence[str] | None = None,
    *,
    dates: bool = False,
    target: bool = False,
) -> list[str]:
    """Return the sentence for one column, or none.

    Args:
        rows: the table.
        name: the column.
        values: `[n]`, NaN where there is none; of dates the days since 1970.
        owners: the task of each row.
        dates: whether the values are dates.
        target: whether this is the target, which no row may lack.
    """
    found = far_values(values, owners, dates=dates)
    if not found:
        return []
    cells = rows.column(name)
    told = " and ".join(
        f"{shown(cells[far.row])!r} stands {f'{far.count} times' if far.count > 1 else 'once'}" for far in found
    )
    ends = found[0].low, found[0].high
    low, high = map(_day, ends) if dates else as_range(*ends)
    named = " ".join(shown(cells[far.row]) for far in found)
    mend = "remove these lines" if target else f"give --missing {named}, and with it all other words that say so"
    what = "the target" if target else "column"
    rest = f"far outside the rest ({low} to {high}); if that means there is no value, {mend}"
    return [f"{what} {shown(name)!r}: {told}, {rest}"]


def far_targets(preparation: Preparation, rows: Rows, settled: Settled) -> list[str]:
    """Return what is to be said of targets that are far from those of the training.

    Args:
        preparation: of the run.
        rows: labelled rows of a new task.
        settled: how its target is written.
    """
    if preparation.labels:
        return []
    values, _ = read_numbers(rows, preparation.target, settled, preparation.words)
    low, high = preparation.low, preparation.high
    if low is None or high is None:  # a run of before: what is beyond is seldom so by chance
        low, high = (preparation.mean + sign * _FAR * preparation.std for sign in (-1, 1))
    beyond = np.flatnonzero((values < low) | (values > high)).tolist()
    cells, word = rows.column(preparation.target), shown(preparation.target)
    span = f"outside the range of the training, {' to '.join(as_range(low, high))}"
    notes = [
        f"line {rows.lines[row]}: the target {word} {shown(cells[row])} is {span}{no_value(values[row], low, high)}"
        for row in beyond[:_LISTED]
    ]
    more = len(beyond) - _LISTED
    return [*notes, f"and the targets of {more} more rows are {span}"] if more > 0 else notes


def no_value(value: float, low: float, high: float, *, dates: bool = False) -> str:
    """Return what to do about a value that is so far outside that it may say that there is none; or nothing.

    Example:
        >>> no_value(12.0, 0.0, 10.0), no_value(-999.0, 0.0, 10.0)
        ('', '; if that means there is no value, leave it out')
    """
    gap = max(low - value, value - high) / ((high - low) or 1.0)
    far = gap > _FAR or (gap > 0 and is_code(value, dates=dates))
    return "; if that means there is no value, leave it out" if far else ""


def _day(days: float) -> str:
    return str(np.datetime64("1970-01-01") + np.timedelta64(int(days // 1), "D"))
