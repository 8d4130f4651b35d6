"""How one column becomes numbers: standardised, one-hot, or a part of a date."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fastadapt.arguments import added
from fastadapt.data.files import shown
from fastadapt.data.tables.evidence import Settled
from fastadapt.data.tables.missing import is_missing
from fastadapt.data.tables.notation import PLAIN
from fastadapt.data.tables.rows import Rows
from fastadapt.data.tables.spelling import known_as
from fastadapt.data.tables.values import read_dates, read_numbers

_LARGEST = 1e30  # standardised values beyond it do not fit 32-bit arithmetic


@dataclass(frozen=True)
class Column:
    """Say how one column becomes numbers.

    Args:
        name: the name in the header.
        holds: "number", "category" or "date".
        mean: subtracted from a number; what stands for a missing one.
        std: what a number is divided by.
        categories: the known categories; all others share one further place.
        missing: whether an indicator of missing values follows.
        written: how its numbers or dates are written, by an example: a key of `NOTATIONS` or of `FORMS`.
        unit: the currency, per cent or unit beside its numbers.
        part: which part of a date this is.
        low: the smallest number of the training rows.
        high: the largest.
        zones: the zones of its times, as `zones_of` tells them; "" where it was not looked for them.
        stored: whether the training file stored its numbers as such, so that `written` is how no one writes them.
    """

    name: str
    holds: Literal["number", "category", "date"] = "number"
    mean: float = 0.0
    std: float = 1.0
    categories: tuple[str, ...] = ()
    missing: bool = False
    written: str = added(PLAIN)
    unit: str = added("")
    part: str = added("")
    low: float | None = added(None, remark=True)
    high: float | None = added(None, remark=True)
    zones: str = added("", remark=True)
    stored: bool = added(False)

    @property
    def width(self) -> int:
        """How many inputs the column becomes."""
        return (len(self.categories) + 1 if self.holds == "category" else 1) + self.missing

    @property
    def settled(self) -> Settled:
        """Notation and unit of the training rows."""
        return Settled(self.written, self.unit, self.stored)

    def absent(self, cell: str, words: Collection[str] | None = None) -> bool:
        """Return whether a cell is missing; a word that is a known category is not."""
        return is_missing(cell, words) and cell not in self.categories

    def values(
        self, rows: Rows, words: Collection[str] | None = None, settled: Settled | None = None
    ) -> tuple[np.ndarray, list[str]]:
        """Return the numbers of the column, NaN for what is missing, and what is wrong."""
        if self.holds == "date":
            return read_dates(rows, self.name, self.written, self.part, words, self.zones)
        return read_numbers(rows, self.name, settled or self.settled, words)

    def encode(
        self, rows: Rows, words: Collection[str] | None = None, settled: Settled | None = None
    ) -> tuple[np.ndarray, list[str]]:
        """Return `[n, width]` in float64, and a sentence for each value that can't be used.

        Args:
            rows: the table.
            words: what says that a value is missing.
            settled: how numbers are written in this table; None as in the training.
        """
        cells = rows.column(self.name)
        out = np.zeros((len(cells), self.width))
        if self.holds != "category":
            values, problems = self.values(rows, words, settled)
            absent = np.isnan(values)
            scaled = (values - self.mean) / self.std
            for row in np.flatnonzero(np.abs(np.nan_to_num(scaled)) > _LARGEST).tolist():
                problems.append(f"{rows.where(row)}: {cells[row]!r} in column {shown(self.name)!r} is far too large")
            out[:, 0] = np.where(absent, 0.0, scaled)
            if self.missing:
                out[absent, -1] = 1.0
            return out, problems
        absent = np.array([self.absent(cell, words) for cell in cells], dtype=bool)
        if self.missing:
            out[absent, -1] = 1.0
        places = {category: place for place, category in enumerate(self.categories)}
        for cell in set(cells) - set(places):
            places[cell] = places.get(known_as(cell, self.categories) or "", len(self.categories))
        chosen = np.array([places[cell] for cell in cells], dtype=np.intp)
        # a missing category has its own indicator, or is one of the unknown
        kept = ~absent if self.missing else np.ones_like(absent)
        out[np.flatnonzero(kept), chosen[kept]] = 1.0
        return out, []
