"""Your own points: a small CSV file of numbers, for regression.

    x,y              x1,x2,y
    -1.5,0.2         0.1,2,7.5

A value that is missing or not finite is refused, with its line.
"""

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fastadapt.data.files import read_file, shown
from fastadapt.data.tables.rows import is_plain_number
from fastadapt.errors import DataError

MOST_BYTES = 10_000_000
_TARGET = "y"
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class _Table:
    name: str
    header: list[str]
    rows: list[list[float]]

    def columns(self, numbers: list[int]) -> Tensor:
        return torch.tensor([[row[i] for i in numbers] for row in self.rows], dtype=torch.float32)


def read_points(path: str | Path, *, inputs: int | None = None) -> tuple[Tensor, Tensor]:
    r"""Read points `(x, y)` from a CSV file with a header.

    The target is the column named "y", or else the last one; every other column is an input.

    Args:
        path: the file, at most 10 MB: comma-separated, UTF-8, every value a finite number.
        inputs: how many inputs the model takes, `d`; None takes what there is.

    Returns:
        `x: [n, d]` and `y: [n, 1]`.

    Raises:
        DataError: if the file can't be used; the message names its line and value.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        ...     _ = file.write("x,y\n0,1\n2,3.5\n"), file.flush()
        ...     x, y = read_points(file.name)
        >>> x.tolist(), y.tolist()
        ([[0.0], [2.0]], [[1.0], [3.5]])
    """
    table = _read(path)
    target = table.header.index(_TARGET) if _TARGET in table.header else len(table.header) - 1
    others = [i for i in range(len(table.header)) if i != target]
    if not others:
        raise DataError(f"{table.name} has one column, {table.header[0]!r}; give inputs and a target, as in x,y")
    _check_inputs(table, others, inputs)
    return table.columns(others), table.columns([target])


def read_inputs(path: str | Path, *, inputs: int) -> Tensor:
    """Read inputs `x: [n, d]` from a CSV file with a header; a column named "y" beside them is left out.

    Args:
        path: the file, as for `read_points`.
        inputs: how many inputs the model takes, `d`.

    Raises:
        DataError: if the file can't be used; the message names its line and value.
    """
    table = _read(path)
    chosen = [i for i, name in enumerate(table.header) if name != _TARGET]
    _check_inputs(table, chosen, inputs)
    return table.columns(chosen)


def _check_inputs(table: _Table, chosen: list[int], inputs: int | None) -> None:
    if inputs is not None and len(chosen) != inputs:
        names = ", ".join(table.header[i] for i in chosen) or "none"
        found = f"{table.name} has {len(chosen)} input columns ({names})"
        raise DataError(f"{found}, the model takes {inputs}; change the columns")


def _read(path: str | Path) -> _Table:
    content, name = read_file(path, limit=MOST_BYTES, kind="a table"), shown(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not UTF-8 text (byte {error.start}); save the table as CSV in UTF-8") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    header: list[str] = []
    rows: list[list[float]] = []
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            where = f"{name}, line {reader.line_num}"
            if not any(cells) and len(cells) <= 1:  # a blank line
                continue
            if not header:
                header = _checked_header(cells, where)
            elif len(cells) != len(header):
                raise DataError(f"{where} has {len(cells)} values, the header has {len(header)}; correct the line")
            else:
                rows.append([_number(cell, column, where) for cell, column in zip(cells, header, strict=True)])
    except csv.Error as error:
        raise DataError(f"{name}, line {reader.line_num} is not valid CSV ({error}); correct the line") from error
    if not rows:
        raise DataError(f"{name} has no values below its header; add at least one line")
    return _Table(name, header, rows)


def _checked_header(cells: list[str], where: str) -> list[str]:
    if len(cells) == 1 and any(mark in cells[0] for mark in ";\t"):
        raise DataError(f"{where}: the columns are not separated by commas; save the table as comma-separated CSV")
    if any(is_plain_number(cell) for cell in cells):
        raise DataError(f"{where} holds numbers where the header should be; add a first line such as x,y")
    twice = next((cell for cell in cells if cells.count(cell) > 1), None)
    if twice:
        raise DataError(f"{where}: the column {shown(twice)!r} is named twice; name every column differently")
    if "" in cells:
        raise DataError(f"{where}: column {cells.index('') + 1} has no name; name every column")
    return [shown(cell) for cell in cells]


def _number(cell: str, column: str, where: str) -> float:
    if not cell:
        raise DataError(f"{where}: the value of {column!r} is missing; fill it in or remove the line")
    if not is_plain_number(cell) or "_" in cell:
        raise DataError(f"{where}: {shown(cell)!r} in column {column!r} is not a number; write it as 12.5")
    value = float(cell)
    if not math.isfinite(value):
        raise DataError(f"{where}: {cell!r} in column {column!r} is not finite; correct it or remove the line")
    if abs(value) > _LARGEST:
        raise DataError(f"{where}: {cell!r} in column {column!r} is beyond 32-bit numbers; rescale the column")
    return value
