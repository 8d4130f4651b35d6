"""How the columns of a table become numbers: fitted on some rows once, then applied to any.

A column of numbers is standardised and, where values were missing, joined by an indicator. A column of categories is
one-hot with a place for all that is unknown. A numeric target is standardised, a target of labels is numbered.
Whatever is fitted is fitted on the rows of training tasks alone.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from fastadapt.data.files import complain, shown
from fastadapt.data.tables.csv_rows import Rows
from fastadapt.errors import DataError

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
"""What a missing value is written as, in any case."""
_LARGEST = 1e30  # standardised values beyond it do not fit 32-bit arithmetic


@dataclass(frozen=True)
class Column:
    """Say how one column becomes numbers.

    Args:
        name: the name in the header.
        holds: "number" or "category".
        mean: subtracted from a number; what stands for a missing one.
        std: what a number is divided by.
        categories: the known categories; all others share one further place.
        missing: whether an indicator of missing values follows.
    """

    name: str
    holds: Literal["number", "category"] = "number"
    mean: float = 0.0
    std: float = 1.0
    categories: tuple[str, ...] = ()
    missing: bool = False

    @property
    def width(self) -> int:
        """How many inputs the column becomes."""
        return (1 if self.holds == "number" else len(self.categories) + 1) + self.missing

    def encode(self, rows: Rows) -> tuple[np.ndarray, list[str]]:
        """Return `[n, width]` in float64, and a sentence for each value that can't be used."""
        cells = rows.column(self.name)
        out = np.zeros((len(cells), self.width))
        absent = np.array([is_missing(cell) for cell in cells], dtype=bool)
        if self.missing:
            out[absent, -1] = 1.0
        if self.holds == "number":
            values, problems = read_numbers(rows, self.name)
            scaled = (values - self.mean) / self.std
            for row in np.flatnonzero(np.abs(np.nan_to_num(scaled)) > _LARGEST).tolist():
                problems.append(f"{rows.where(row)}: {cells[row]!r} in column {shown(self.name)!r} is far too large")
            out[:, 0] = np.where(absent, 0.0, scaled)
            return out, problems
        places = {category: place for place, category in enumerate(self.categories)}
        chosen = np.array([places.get(cell, len(places)) for cell in cells])
        # a missing category has its own indicator, or is one of the unknown
        kept = ~absent if self.missing else np.ones_like(absent)
        out[np.flatnonzero(kept), chosen[kept]] = 1.0
        return out, []


@dataclass(frozen=True)
class Preparation:
    """Say how a table becomes inputs and targets; it is stored with the model.

    Args:
        task: the column whose values are the tasks.
        target: the column to predict.
        columns: the columns that are inputs.
        labels: the classes, in the order of the outputs; empty for a numeric target.
        mean: of the numeric target over the rows of the training tasks.
        std: its standard deviation there.
    """

    task: str = ""
    target: str = ""
    columns: tuple[Column, ...] = ()
    labels: tuple[str, ...] = ()
    mean: float = 0.0
    std: float = 1.0

    @property
    def inputs(self) -> int:
        """Inputs of the network, d."""
        return sum(column.width for column in self.columns)

    @property
    def outputs(self) -> int:
        """Outputs of the network: one, or one for each class."""
        return len(self.labels) or 1

    def features(self, rows: Rows) -> Tensor:
        """Return `x: [n, d]` in float32.

        Raises:
            DataError: if a column is missing or a value can't be used; all of them are named.
        """
        raise_problems(missing_columns(rows, [column.name for column in self.columns]), rows)
        x, problems = self._features(rows)
        raise_problems(problems, rows)
        return x

    def samples(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Return `x: [n, d]`, and `y: [n, 1]`, standardised, or `y: [n]` of class numbers.

        Raises:
            DataError: if a column is missing or a value can't be used; all of them are named.
        """
        raise_problems(missing_columns(rows, [*(column.name for column in self.columns), self.target]), rows)
        x, wrong_inputs = self._features(rows)
        y, wrong_targets = self._labels(rows) if self.labels else self._numbers(rows)
        raise_problems(wrong_targets + wrong_inputs, rows)
        return x, y

    def _features(self, rows: Rows) -> tuple[Tensor, list[str]]:
        problems: list[str] = []
        x = np.empty((len(rows), self.inputs), dtype=np.float32)
        at = 0
        for column in self.columns:
            values, found = column.encode(rows)
            problems += found
            x[:, at : at + column.width] = values if not found else 0.0
            at += column.width
        return torch.from_numpy(x), problems

    def _absent(self, rows: Rows) -> list[str]:
        wanted = f"the target {shown(self.target)!r} is missing; fill it in or remove the line"
        cells = rows.column(self.target)
        return [f"{rows.where(row)}: {wanted}" for row, cell in enumerate(cells) if is_missing(cell)]

    def _labels(self, rows: Rows) -> tuple[Tensor, list[str]]:
        places = {label: place for place, label in enumerate(self.labels)}
        known = ", ".join(map(shown, self.labels[:10])) + (" and more" if len(self.labels) > 10 else "")
        wanted = f"is none of the labels of {shown(self.target)!r} ({known}); correct the line"
        cells = rows.column(self.target)
        problems = self._absent(rows)
        for row, cell in enumerate(cells):
            if not is_missing(cell) and cell not in places:
                problems.append(f"{rows.where(row)}: {shown(cell)!r} {wanted}")
        return torch.tensor([places.get(cell, 0) for cell in cells], dtype=torch.int64), problems

    def _numbers(self, rows: Rows) -> tuple[Tensor, list[str]]:
        values, problems = read_numbers(rows, self.target)
        scaled = ((values - self.mean) / self.std).astype(np.float32)
        return torch.from_numpy(scaled).unsqueeze(1), self._absent(rows) + problems

    def to_plain(self) -> dict[str, Any]:
        """Return the preparation as JSON values, to be stored with a predictor."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_plain(plain: Mapping[str, Any]) -> "Preparation":
        """Return the preparation that `to_plain` gave, before or after a trip through JSON.

        Raises:
            DataError: if it is none.
        """
        try:
            columns = tuple(
                Column(**{**column, "categories": tuple(column["categories"])}) for column in plain["columns"]
            )
            rest = {field.name: plain[field.name] for field in dataclasses.fields(Preparation)}
            return Preparation(**{**rest, "columns": columns, "labels": tuple(plain["labels"])})
        except (KeyError, TypeError) as error:
            raise DataError(f"this is not the preparation of a table ({error}); adapt again") from None


def is_missing(cell: str) -> bool:
    """Return whether a cell says that there is no value."""
    return cell.lower() in MISSING


def read_number(cell: str, decimal_comma: bool = False) -> float | None:
    """Return the number in a cell, infinite ones included; None if there is none.

    Example:
        >>> read_number("1,5"), read_number("1,5", decimal_comma=True), read_number("1_5")
        (None, 1.5, None)
    """
    if decimal_comma and cell.count(",") == 1 and "." not in cell:
        cell = cell.replace(",", ".")
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def read_numbers(rows: Rows, name: str) -> tuple[np.ndarray, list[str]]:
    """Return a column as float64 with NaN for what is missing, and a sentence for each value that is no number."""
    values, problems, word = np.full(len(rows), np.nan), [], shown(name)
    for row, cell in enumerate(rows.column(name)):
        if is_missing(cell):
            continue
        value = read_number(cell, rows.decimal_comma)
        if value is None:
            problems.append(f"{rows.where(row)}: {shown(cell)!r} in column {word!r} is not a number; write it as 12.5")
        elif not math.isfinite(value):
            problems.append(
                f"{rows.where(row)}: {cell!r} in column {word!r} is not finite; correct it or leave it empty"
            )
        else:
            values[row] = value
    return values, problems


def missing_columns(rows: Rows, names: Sequence[str]) -> list[str]:
    """Return a sentence for each name that the header lacks."""
    listed = ", ".join(map(shown, rows.header[:10])) + (" and more" if len(rows.header) > 10 else "")
    hint = "; columns are separated by commas, semicolons or tabs" if len(rows.header) == 1 else ""
    absent = [name for name in dict.fromkeys(names) if name not in rows.header]
    return [f"{rows.name} has no column {shown(name)!r}; it has {listed}{hint}" for name in absent]


def raise_problems(problems: Sequence[str], rows: Rows) -> None:
    """Raise a `DataError` that says what is wrong, if anything is."""
    if problems:
        raise complain(problems, rows.name)
