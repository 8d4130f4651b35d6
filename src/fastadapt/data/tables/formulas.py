"""Formulas of a workbook that hold no value, since no program has computed them: they would be read as missing."""

from collections.abc import Iterable, Sequence
from typing import Any

from fastadapt.data.files import shown
from fastadapt.errors import DataError

_EMPTY_TEXT = "str"  # how openpyxl marks a formula whose stored value is a text, which may be empty


def refuse_unknown(name: str, sheet: Any, written: Any, known: Sequence[tuple[int, Sequence[Any]]]) -> None:
    """Refuse a formula whose value no program has stored.

    Args:
        name: the file.
        sheet: openpyxl's sheet of values.
        written: its sheet of formulas.
        known: line and values of the rows that hold something.

    Raises:
        DataError: if there is one.
    """
    values = dict(known)
    unknown = {
        place: text
        for place, text in _formulas(written.iter_rows(values_only=True))
        if not _has(values.get(place[0], ()), place[1])
    }
    if not unknown:
        return
    for line, row in enumerate(sheet.iter_rows(), start=1):
        for column, cell in enumerate(row):
            if (line, column) in unknown and getattr(cell, "data_type", "") == _EMPTY_TEXT:
                del unknown[line, column]
    if unknown:
        (line, _), text = min(unknown.items())
        others = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        told = f"{name}, line {line}: the formula {shown(text)!r} has no stored value{others}"
        raise DataError(f"{told}; open and save the workbook in a spreadsheet, or save the table as CSV")


def _has(row: Sequence[Any], column: int) -> bool:
    return column < len(row) and row[column] is not None


def _formulas(rows: Iterable[Sequence[Any]]) -> Iterable[tuple[tuple[int, int], str]]:
    """Yield line, column and text of each cell that a formula fills; one of an array fills a range."""
    from openpyxl.worksheet.cell_range import CellRange  # type: ignore[import-not-found,import-untyped]

    for line, row in enumerate(rows, start=1):
        for column, value in enumerate(row):
            if isinstance(value, str) and value.startswith("="):
                yield (line, column), value
            elif (filled := getattr(value, "ref", None)) is not None:  # an array formula, or a data table
                text = getattr(value, "text", None) or f"table {filled}"
                for one, place in CellRange(filled).cells:
                    yield (one, place - 1), text
