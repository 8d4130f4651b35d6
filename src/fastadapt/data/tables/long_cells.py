"""Cells that span lines of the file: a stray quotation mark makes one of them, and the rows in it are lost."""

import re
from collections.abc import Mapping, Sequence

from fastadapt.data.files import shown

_BREAK = re.compile(r"\r\n|\r|\n")
_LONG = 10  # lines, which few cells have
_USUAL = 0.1  # of the cells of a column
_LISTED = 3


def long_cells(
    header: Sequence[str], cells: Sequence[Sequence[str]], spans: Mapping[int, tuple[int, int]], by: str, name: str
) -> list[str]:
    r"""Return a sentence for cells of many lines, and for those whose lines look like rows of the table.

    Args:
        header: the names of the columns.
        cells: the rows.
        spans: the first and last line of each row that has more than one.
        by: the delimiter.
        name: the file.

    Example:
        >>> rows = [["a", "1", "begin\nb,2,end"], ["c", "3", "x"]]
        >>> print(*long_cells(["shop", "n", "remark"], rows, {0: (2, 3)}, ",", "t.csv"))
        t.csv, lines 2 to 3 are one row, as a cell in column 'remark' spans 2 lines that look like rows; ...
    """
    texts = {(row, place): cell for row in spans for place, cell in enumerate(cells[row]) if _BREAK.search(cell)}
    usual = [sum(column == place for _, column in texts) > _USUAL * len(cells) for place in range(len(header))]
    notes = []
    for (row, place), cell in texts.items():
        pieces, (first, last) = _BREAK.split(cell), spans[row]
        alone = sum(other == row for other, _ in texts) == 1
        breaks = last - first if alone else len(pieces) - 1  # blank lines at its ends are cut off
        rows = _look_like_rows([piece.count(by) for piece in pieces], len(header) - 1, breaks)
        if place >= len(header) or not (rows or (breaks + 1 >= _LONG and not usual[place])):
            continue
        told = f"{name}, lines {first} to {last} are one row, as a cell in column {shown(header[place])!r}"
        told += f" spans {breaks + 1} lines{' that look like rows' * rows}"
        notes.append(f"{told}; if a quotation mark is stray there, remove it")
    more = len(notes) - _LISTED
    return notes[:_LISTED] + ([f"{name}: {more} more cells span lines in this way"] if more > 0 else [])


def _look_like_rows(counts: list[int], each: int, breaks: int) -> bool:
    """Return whether the lines of a cell have as many delimiters as the rows that they may have been.

    Args:
        counts: the delimiters in each line.
        each: the delimiters of a row.
        breaks: how many lines end in the cell.
    """
    fits = sum(counts) == each * breaks and max(counts) <= each
    return fits and (each > 1 or (each == 1 and breaks >= _LISTED))
