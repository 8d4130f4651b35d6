"""What is unusual about the rows that are asked about: every row has an answer, and some have a note."""

from collections.abc import Mapping

import numpy as np

from fastadapt.data.files import shown
from fastadapt.data.names import bare, composed
from fastadapt.data.tables.column import Column
from fastadapt.data.tables.columns import Preparation
from fastadapt.data.tables.evidence import Settled
from fastadapt.data.tables.far_notes import no_value
from fastadapt.data.tables.rows import Rows
from fastadapt.data.tables.spelling import known_as
from fastadapt.data.tables.spread import as_range

_LISTED = 5


def row_notes(preparation: Preparation, rows: Rows, settled: Mapping[str, Settled]) -> list[list[str]]:
    """Return for each row what is to be said of it: nothing, if it is like those of the training.

    Args:
        preparation: how the table becomes inputs.
        rows: the rows.
        settled: how numbers are written in them.
    """
    notes: list[list[str]] = [[] for _ in range(len(rows))]
    empty = [all(column.absent(cells[rows.header.index(composed(column.name))], preparation.words)
                 for column in preparation.columns) for cells in rows.cells]  # fmt: skip
    for column in preparation.columns:
        for row, note in _notes_of(column, preparation, rows, settled):
            if not empty[row]:
                notes[row].append(note)
    for row, nothing in enumerate(empty):
        if nothing:
            notes[row] = ["every value is missing: this is the answer for a row of which nothing is known"]
    return notes


def _notes_of(
    column: Column, preparation: Preparation, rows: Rows, settled: Mapping[str, Settled]
) -> list[tuple[int, str]]:
    word, words = shown(column.name), preparation.words
    cells = rows.column(column.name)
    values = None if column.holds == "category" else column.values(rows, words, settled.get(column.name))[0]
    absent = [row for row, cell in enumerate(cells) if column.absent(cell, words)]
    if values is not None:
        absent = np.flatnonzero(np.isnan(values)).tolist()
    notes: list[tuple[int, str]] = []
    first = next(c for c in preparation.columns if c.name == column.name) is column  # a date is several columns
    if not column.missing and first:
        stands = "it counts as unknown" if column.holds == "category" else "the mean stands for it"
        notes += [(row, f"{word} is missing, which it never was in the training; {stands}") for row in absent]
    if values is None:
        return notes + _unknown(column, cells, set(absent))
    if column.low is None or column.high is None or column.part not in ("", "elapsed"):
        return notes
    beyond = (values < column.low) | (values > column.high)
    span = " to ".join(_told(column, column.low, column.high))
    for row in np.flatnonzero(beyond).tolist():
        hint = no_value(float(values[row]), column.low, column.high, dates=column.holds == "date")
        notes.append((row, f"{word} {shown(cells[row])} is outside the range of the training, {span}{hint}"))
    return notes


def _unknown(column: Column, cells: list[str], absent: set[int]) -> list[tuple[int, str]]:
    word = shown(column.name)
    known = ", ".join(map(shown, column.categories[:_LISTED]))
    known += f" and {len(column.categories) - _LISTED} more" if len(column.categories) > _LISTED else ""
    said: dict[str, str] = {}
    for cell in set(cells) - set(column.categories):
        other = known_as(cell, column.categories)
        near = next((c for c in column.categories if bare(c) == bare(cell)), None)
        meant = f"; is {shown(near)!r} meant?" if near is not None else ""
        said[cell] = (
            f"{word} {shown(cell)!r} is taken for {shown(other)!r}"
            if other is not None
            else f"{word} {shown(cell)!r} is not known from the training ({known}) and counts as unknown{meant}"
        )
    return [(row, said[cell]) for row, cell in enumerate(cells) if cell in said and row not in absent]


def _told(column: Column, low: float, high: float) -> tuple[str, str]:
    if column.part != "elapsed":
        return as_range(low, high)
    first, last = (str(np.datetime64("1970-01-01") + np.timedelta64(int(v // 1), "D")) for v in (low, high))
    return first, last
