"""How the columns of a table become numbers: fitted on some rows once, then applied to any.

A column of numbers is standardised and, where values were missing, joined by an indicator; a date is several of them. A
column of categories is one-hot with a place for all that is unknown. A numeric target is standardised, a target of
labels is numbered. Whatever is fitted is fitted on the rows of training tasks alone.
"""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastadapt.arguments import added
from fastadapt.data.files import complain, shown
from fastadapt.data.names import composed
from fastadapt.data.tables.column import Column
from fastadapt.data.tables.evidence import Decimal, Settled, look, settle_again
from fastadapt.data.tables.missing import is_missing
from fastadapt.data.tables.notation import PLAIN
from fastadapt.data.tables.rows import Rows
from fastadapt.data.tables.spelling import known_as
from fastadapt.data.tables.values import Say, read_numbers, told_at_once
from fastadapt.errors import DataError


def _unsaid(sentence: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Preparation:
    """Say how a table becomes inputs and targets; it is stored with the model.

    Args:
        task: the column whose values are the tasks.
        target: the column to predict.
        columns: the columns that are inputs; a date is several.
        labels: the classes, in the order of the outputs; empty for a numeric target.
        mean: of the numeric target over the rows of the training tasks.
        std: its standard deviation there.
        written: how the numeric target is written, a key of `NOTATIONS`.
        unit: the currency, per cent or unit beside it.
        words: what says that a value is missing, in lower case; None for `MISSING`.
        stored: whether the training file stored the target's numbers as such.
        low: the smallest target of the training rows.
        high: the largest.
    """

    task: str = ""
    target: str = ""
    columns: tuple[Column, ...] = ()
    labels: tuple[str, ...] = ()
    mean: float = 0.0
    std: float = 1.0
    written: str = added(PLAIN)
    unit: str = added("")
    words: tuple[str, ...] | None = added(None)
    stored: bool = added(False)
    low: float | None = added(None, remark=True)
    high: float | None = added(None, remark=True)

    @property
    def inputs(self) -> int:
        """Inputs of the network, d."""
        return sum(column.width for column in self.columns)

    @property
    def outputs(self) -> int:
        """Outputs of the network: one, or one for each class."""
        return len(self.labels) or 1

    @property
    def target_settled(self) -> Settled:
        """Notation and unit of the numeric target in the training."""
        return Settled(self.written, self.unit, self.stored)

    def settled(
        self, rows: Rows, decimal: Decimal = "auto", *, target: bool = False, say: Say = _unsaid
    ) -> dict[str, Settled]:
        """Return how the numbers of each column are written in a table.

        Args:
            rows: the table.
            decimal: the decimal mark, where the cells leave it open.
            target: whether the target is read too.
            say: takes a sentence about a notation that is not that of the training.

        Raises:
            DataError: if a column is missing, or a number can be read in two ways.
        """
        wanted = [column.name for column in self.columns] + [self.target] * target
        raise_problems(missing_columns(rows, wanted), rows)
        usual = {column.name: column.settled for column in self.columns if column.holds == "number"}
        if target and not self.labels:
            usual[self.target] = self.target_settled
        evidence = [look(rows, name, self.words) for name in usual]
        settled, problems, notes = settle_again(evidence, rows, usual, decimal)
        raise_problems(problems, rows)
        for note in notes:
            say(note)
        return settled

    def features(self, rows: Rows, decimal: Decimal = "auto", say: Say = _unsaid) -> Tensor:
        """Return `x: [n, d]` in float32.

        Args:
            rows: the table.
            decimal: the decimal mark, where the cells leave it open.
            say: takes a sentence about how the table is read.

        Raises:
            DataError: if a column is missing or a value can't be used; all of them are named.
        """
        x, problems = self._features(rows, self.settled(rows, decimal, say=say))
        raise_problems(problems, rows)
        return x

    def samples(self, rows: Rows, decimal: Decimal = "auto", say: Say = _unsaid) -> tuple[Tensor, Tensor]:
        """Return `x: [n, d]`, and `y: [n, 1]`, standardised, or `y: [n]` of class numbers.

        Args:
            rows: the table.
            decimal: the decimal mark, where the cells leave it open.
            say: takes a sentence about how the table is read.

        Raises:
            DataError: if a column is missing or a value can't be used; all of them are named.
        """
        settled = self.settled(rows, decimal, target=True, say=say)
        x, wrong_inputs = self._features(rows, settled)
        y, wrong_targets = self._labels(rows) if self.labels else self._numbers(rows, settled[self.target])
        raise_problems(wrong_targets + wrong_inputs, rows)
        return x, y

    def _features(self, rows: Rows, settled: Mapping[str, Settled]) -> tuple[Tensor, list[str]]:
        problems: list[str] = []
        x = np.empty((len(rows), self.inputs), dtype=np.float32)
        at = 0
        for column in self.columns:
            values, found = column.encode(rows, self.words, settled.get(column.name))
            problems += [sentence for sentence in found if sentence not in problems]  # a date is several columns
            x[:, at : at + column.width] = values if not found else 0.0
            at += column.width
        return torch.from_numpy(x), problems

    def _absent(self, rows: Rows, values: np.ndarray | None = None) -> list[str]:
        """Return a sentence for each of a few rows without a target, and one for many."""
        cells = rows.column(self.target)
        absent = [row for row, cell in enumerate(cells) if is_missing(cell, self.words) and cell not in self.labels]
        if values is not None:
            absent = np.flatnonzero(np.isnan(values)).tolist()
        return without_value(rows, absent, f"the target {shown(self.target)!r}", cells)

    def _labels(self, rows: Rows) -> tuple[Tensor, list[str]]:
        places = {label: place for place, label in enumerate(self.labels)}
        known = ", ".join(map(shown, self.labels[:10])) + (" and more" if len(self.labels) > 10 else "")
        cells = rows.column(self.target)
        for cell in set(cells) - set(places):
            if (other := known_as(cell, self.labels)) is not None:
                places[cell] = places[other]
        odd = [(i, cell) for i, cell in enumerate(cells) if not is_missing(cell, self.words) and cell not in places]
        wanted = f"is none of the labels of {shown(self.target)!r} ({known}); correct the line"
        problems = told_at_once(odd, rows, self.target, wanted)
        return torch.tensor([places.get(cell, 0) for cell in cells], dtype=torch.int64), self._absent(rows) + problems

    def _numbers(self, rows: Rows, settled: Settled) -> tuple[Tensor, list[str]]:
        values, problems = read_numbers(rows, self.target, settled, self.words)
        scaled = ((values - self.mean) / self.std).astype(np.float32)
        return torch.from_numpy(scaled).unsqueeze(1), self._absent(rows, None if problems else values) + problems

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
            words = plain.get("words")
            rest = {
                field.name: plain[field.name]
                for field in dataclasses.fields(Preparation)
                if field.name in plain or not field.metadata.get("added")
            }
            made = {"columns": columns, "labels": tuple(plain["labels"])}
            return Preparation(**{**rest, **made, "words": None if words is None else tuple(words)})
        except (KeyError, TypeError) as error:
            raise DataError(f"this is not the preparation of a table ({error}); adapt again") from None


def without_value(rows: Rows, absent: Sequence[int], what: str, cells: Sequence[str]) -> list[str]:
    """Return a sentence for each way in which a value that is needed is missing.

    Args:
        rows: the table.
        absent: the rows without it.
        what: it is, with its column.
        cells: the texts of that column.
    """
    ways: dict[str, list[int]] = {}
    for row in absent:
        ways.setdefault(cells[row], []).append(row)
    problems = []
    for word, found in ways.items():
        others = f" (and in {len(found) - 1} further lines)" if len(found) > 1 else ""
        if not word:
            problems.append(f"{rows.where(found[0])}: {what} is missing{others}; fill it in or remove the line")
            continue
        told = f"{rows.where(found[0])}: {what} is missing, as {shown(word)!r} says{others}"
        problems.append(f"{told}; fill it in, remove the line, or train with --missing to take words for what they are")
    return problems


def missing_columns(rows: Rows, names: Sequence[str]) -> list[str]:
    """Return a sentence for each name that the header lacks."""
    listed = ", ".join(map(shown, rows.header[:10])) + (" and more" if len(rows.header) > 10 else "")
    hint = "; columns are separated by commas, semicolons, tabs or bars" if len(rows.header) == 1 else ""
    absent = [name for name in dict.fromkeys(names) if composed(name) not in rows.header]
    lower = {name.casefold().strip(): name for name in rows.header}
    found = []
    for name in absent:
        near = difflib.get_close_matches(name.casefold().strip(), lower, n=1, cutoff=0.8)
        meant = f"; is {shown(lower[near[0]])!r} meant?" if near else ""
        found.append(f"{rows.name} has no column {shown(name)!r}; it has {listed}{hint}{meant}")
    return found


def raise_problems(problems: Sequence[str], rows: Rows) -> None:
    """Raise a `DataError` that says what is wrong, if anything is."""
    if problems:
        raise complain(problems, rows.name)
