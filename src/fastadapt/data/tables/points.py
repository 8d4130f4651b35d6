"""Your own points: a small CSV file of numbers, for regression.

    x,y              x1,x2,y
    -1.5,0.2         0.1,2,7.5

A value that is missing or not finite is refused, with its line.
"""

import csv
import io
import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fastadapt.data.files import read_file, shown
from fastadapt.data.row_columns import named_for_rows
from fastadapt.data.tables.rows import is_plain_number
from fastadapt.errors import DataError

MOST_BYTES = 10_000_000
_TARGETS = ("y", "target", "targets", "output", "outputs")
_INPUT = re.compile(r"x[\W_]*\d*|inputs?|features?", re.IGNORECASE)
"""What is no name of a target."""
_LARGEST = float(np.finfo(np.float32).max)
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Points:
    """Hold points and what their columns are called.

    Args:
        x: `[n, d]`, the inputs.
        y: `[n, 1]`, the target.
        columns: the name of each input.
        target: that of the target.
    """

    x: Tensor
    y: Tensor
    columns: tuple[str, ...]
    target: str


@dataclass(frozen=True)
class _Table:
    name: str
    header: list[str]
    rows: list[list[float]]

    def columns(self, names: Sequence[str]) -> Tensor:
        places = [self.header.index(name) for name in names]
        return torch.tensor([[row[i] for i in places] for row in self.rows], dtype=torch.float32)


def read_points(path: str | Path, *, inputs: int | None = None) -> tuple[Tensor, Tensor]:
    r"""Read points `(x, y)` from a CSV file with a header.

    The target is the column named "y" or "target", in any case, or else the last one; every other column is an input,
    but for an index of the rows. What the columns are taken for is said, unless they are one input and y.

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
    points = read_named_points(path, inputs=inputs)
    return points.x, points.y


def read_named_points(path: str | Path, *, inputs: int | None = None) -> Points:
    """Read points as `read_points` does, with the names of their columns, by which `read_inputs` finds them.

    Args:
        path: the file.
        inputs: how many inputs the model takes, `d`; None takes what there is.

    Raises:
        DataError: if the file can't be used; the message names its line and value.
    """
    table = _read(path)
    if len(table.header) == 1:
        raise DataError(f"{table.name} has one column, {table.header[0]!r}; give inputs and a target, as in x,y")
    target = _target(table)
    chosen = _without_rows(table, [name for name in table.header if name != target])
    _check_inputs(table, chosen, inputs)
    if len(chosen) > 1 or target.lower() != "y":
        told = ", ".join(map(repr, chosen))
        logger.info("%s: %s %s, the target %r", table.name, "inputs" if len(chosen) > 1 else "input", told, target)
    return Points(table.columns(chosen), table.columns([target]), tuple(chosen), target)


def read_inputs(path: str | Path, *, inputs: int, columns: Sequence[str] = (), target: str = "") -> Tensor:
    """Read inputs `x: [n, d]` from a CSV file with a header.

    Where their names are known they are found by these, in whatever order. One input may be called otherwise if it is
    the only column, which is said.

    Args:
        path: the file, as for `read_points`.
        inputs: how many inputs the model takes, `d`.
        columns: what they are called; empty takes the columns in their order, without a target and an index of rows.
        target: what the target is called, which is left out beside them.

    Raises:
        DataError: if the file can't be used; the message names its line and value.
    """
    table = _read(path)
    if columns and all(name in table.header for name in columns):
        rest = [name for name in table.header if name not in (*columns, target)]
        if rest:
            logger.warning("note: %s: %s not used", table.name, ", ".join(map(repr, rest)))
        return table.columns(columns)
    found = [name for name in table.header if name != target and (name in columns or name.lower() not in _TARGETS)]
    chosen = _without_rows(table, found)
    if columns and (len(chosen) > 1 or any(name in table.header for name in columns)):
        wanted, there = (", ".join(map(repr, names)) for names in (columns, table.header))
        missing = ", ".join(repr(name) for name in columns if name not in table.header)
        raise DataError(
            f"{table.name} has no column {missing}: the model was adapted to points with the inputs {wanted}, and here "
            f"are {there}; name them alike"
        )
    _check_inputs(table, chosen, inputs)
    if columns:
        logger.warning("note: %s: %r is taken for the input %r", table.name, chosen[0], columns[0])
    elif len(chosen) > 1:
        logger.warning("note: %s: the inputs are taken in their order, %s", table.name, ", ".join(map(repr, chosen)))
    return table.columns(chosen)


def _target(table: _Table) -> str:
    """Return the column that is the target.

    Raises:
        DataError: if several may be, or the last one is called as an input is.
    """
    named = [name for name in table.header if name.lower() in _TARGETS]
    if len(named) > 1:
        told = " and ".join(map(repr, named))
        raise DataError(f"{table.name} has the columns {told}, and each may be the target; rename those that are not")
    last = table.header[-1]
    if not named and _INPUT.fullmatch(last):
        raise DataError(
            f"{table.name}: no column is called y, and the last one, {last!r}, is called as an input is; call the "
            "target y"
        )
    return named[0] if named else last


def _without_rows(table: _Table, names: list[str]) -> list[str]:
    """Return the names but for those that say which row it is, which is told; all of them if no other is left."""
    out = {name: reason for name in names if (reason := named_for_rows(name))}
    if len(out) in (0, len(names)):
        return names
    for name, reason in out.items():
        logger.warning("note: %s: the column %r is left out, as it %s", table.name, name, reason)
    return [name for name in names if name not in out]


def _check_inputs(table: _Table, chosen: Sequence[str], inputs: int | None) -> None:
    if inputs is not None and len(chosen) != inputs:
        names = ", ".join(chosen) or "none"
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
    if not cells[0] and len(cells) > 2:  # how pandas writes an index
        cells = ["Unnamed: 0", *cells[1:]]
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
