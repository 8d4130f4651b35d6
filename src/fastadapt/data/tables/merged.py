"""Merged cells of a workbook: the file has their value in the first of them alone, people see it beside every row."""

import re
from collections.abc import Sequence
from typing import Any

_MERGED = re.compile(rb"<(?:\w+:)?mergeCell\s[^>]*?\bref=[\"']([A-Z]+\d+:[A-Z]+\d+)[\"']")


Range = tuple[str, int, int, int, int]
"""Name, first column (from 0), first line, last column and last line."""


def ranges(sheet: bytes) -> list[Range]:
    """Return each merged range of a sheet.

    Args:
        sheet: its XML.

    Example:
        >>> ranges(b'<mergeCells count="1"><mergeCell ref="B2:B4"/></mergeCells>')
        [('B2:B4', 1, 2, 1, 4)]
    """
    from openpyxl.worksheet.cell_range import CellRange  # type: ignore[import-not-found,import-untyped]

    found = [CellRange(ref.decode()) for ref in dict.fromkeys(_MERGED.findall(sheet))]
    made = [(str(one.coord), one.min_col - 1, one.min_row, one.max_col - 1, one.max_row) for one in found]
    return sorted(made, key=lambda one: one[1:3])


def fill_down(name: str, rows: Sequence[tuple[int, list[Any]]], merged: Sequence[Range]) -> list[str]:
    """Give every row the value of the merged cells it is part of, and return what is to be said.

    Args:
        name: the file.
        rows: line and values of each, the header first; changed in place.
        merged: what `ranges` found.
    """
    by_line = dict(rows)
    header = rows[0][0]
    down: list[str] = []
    across: list[str] = []
    for ref, left, top, right, bottom in merged:
        held = by_line.get(top, [])
        value = held[left] if left < len(held) else None
        if value is None or bottom < header:
            continue
        if right > left:
            across.append(ref)
        if top > header:
            lines = [line for line in range(top + 1, bottom + 1) if line in by_line]
            for line in lines:
                row = by_line[line]
                row += [None] * (left + 1 - len(row))
                row[left] = value
            down += [ref] * bool(lines)
    told = []
    if down:
        told.append(f"{name}: the cells {_listed(down)} are merged, and their value is taken for each of their rows")
    if across:
        first = "their value is taken for the first of their columns, and the others are empty"
        told.append(f"{name}: the cells {_listed(across)} are merged across columns, and {first}")
    return told


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
