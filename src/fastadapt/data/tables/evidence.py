"""In which notation a column's numbers are written, by all of its cells and then by the other columns of the table.

"1,234" alone is 1234 or 1.234. A cell such as "0,5" or "1,234.5" settles it for its column, a settled column for the
others of its table; where nothing does, the column is refused. A number that the file stores as one leaves nothing
open, and says nothing of how the others are written.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fastadapt.data.files import shown
from fastadapt.data.tables.missing import is_missing
from fastadapt.data.tables.notation import (
    EITHER,
    NOTATIONS,
    PLAIN,
    POINT,
    is_money,
    looks_odd,
    plain_numbers,
    read_number,
    readings,
    simple_readings,
    take_apart,
    value_of,
)
from fastadapt.data.tables.rows import Rows
from fastadapt.data.tables.stored import is_stored

Decimal = Literal["auto", "point", "comma"]
_MARKS = {"point": ".", "comma": ","}
_BOTH_MARKS = {"1,234.5", "1.234,5"}
_THREE = re.compile(r"\d+([.,])\d{3}")
_TRIED = 1_000  # cells in which one is looked for that settles the notation
_WORDS = {".": "a decimal point", ",": "a decimal comma"}


@dataclass
class Evidence:
    """Hold what the cells of one column say.

    Args:
        name: the column.
        option: what takes its numbers for words, for messages.
        there: how many cells hold something.
        numbers: how many of them are numbers in some notation.
        text: row, cell and number of repetitions of what is none.
        odd: how many of these look like a number.
        alive: the notations in which all numbers can be read.
        clash: two rows whose numbers have no notation in common, or one twice.
        open: a row whose number depends on the decimal mark, while both are possible.
        units: the first row of each unit.
        enclosed: how many numbers are in parentheses.
        stored: whether all numbers are stored as such, so that the notation is nobody's.
    """

    name: str
    option: str = ""
    there: int = 0
    numbers: int = 0
    text: list[tuple[int, str, int]] = field(default_factory=list)
    odd: int = 0
    alive: frozenset[str] = frozenset(NOTATIONS)
    clash: tuple[int, int] | None = None
    open: int | None = None
    units: dict[str, int] = field(default_factory=dict)
    enclosed: int = 0
    stored: bool = False

    @property
    def decimal(self) -> str | None:
        """The decimal mark, where the cells leave no doubt."""
        marks = {NOTATIONS[name][0] for name in self.alive}
        return marks.pop() if len(marks) == 1 else None

    def written(self, decimal: str | None = None) -> str:
        """Return the simplest notation of a decimal mark, or of any."""
        return next(n for n in NOTATIONS if n in self.alive and decimal in (None, NOTATIONS[n][0]))


@dataclass(frozen=True)
class Settled:
    """Hold notation and unit of a column, and whether its numbers were stored as such, which have no notation."""

    written: str = PLAIN
    unit: str = ""
    stored: bool = False


def look(rows: Rows, name: str, words: Collection[str] | None = None, option: str = "") -> Evidence:
    """Return what the cells of a column say.

    Args:
        rows: the table.
        name: the column.
        words: what says that a value is missing.
        option: what takes its numbers for words; by default `--categorical` with its name.
    """
    cells = rows.column(name)
    found = Evidence(name, option or f"--categorical {shown(name)}")
    stored = {cell: row for row, cell in enumerate(cells) if is_stored(cell)}
    if stored:
        amounts = [cell for cell in cells if is_stored(cell) and not is_missing(cell, words)]
        found.there = found.numbers = len(amounts)
        found.stored = bool(amounts)
        found.units = {"": stored[amounts[0]]} if amounts else {}
    elif (
        not words
        and any(simple_readings(cell) is POINT for cell in cells[:_TRIED])
        and plain_numbers(cells) is not None
    ):
        found.there = found.numbers = len(cells)
        found.alive, found.units = POINT, {"": 0}
        return found  # as most columns of most tables, at once
    first: dict[str, int] = {}
    counts: dict[str, int] = {}
    for row, cell in enumerate(cells):
        if stored and is_stored(cell):
            continue
        if cell in counts:
            counts[cell] += 1
        else:
            first[cell], counts[cell] = row, 1
    narrowed: dict[frozenset[str], int] = {}  # which row brought each set of readings

    def read_in(ways: frozenset[str], row: int) -> None:
        if not ways & found.alive and found.clash is None:
            before = next((r for seen, r in narrowed.items() if not seen & ways), next(iter(narrowed.values()), row))
            found.clash = (before if ways else row, row)
        narrowed.setdefault(ways, row)
        found.alive &= ways

    for cell, row in first.items():
        ways = simple_readings(cell)
        if (ways is None or words) and is_missing(cell, words):
            continue
        count = counts[cell]
        found.there += count
        if ways is not None:  # most cells of most tables
            found.numbers += count
            found.units.setdefault("", row)
            if ways not in narrowed:
                read_in(ways, row)
                if found.open is None and ways == EITHER:
                    found.open = row
            continue
        parts = take_apart(cell)
        if parts is None:
            if read_number(cell) is None:
                found.text.append((row, cell, count))
                found.odd += count * looks_odd(cell)
            else:  # an infinite one
                found.numbers += count
            continue
        found.numbers += count
        found.enclosed += count * parts.enclosed
        found.units.setdefault(parts.unit, row)
        ways = readings(parts)
        read_in(ways, row)
        if found.open is None and len({value_of(parts, way) for way in ways}) > 1:
            found.open = row
    found.stored = found.stored and not narrowed
    if found.clash is None and found.alive <= _BOTH_MARKS:
        found.clash = _mixed(first)
        found.alive = found.alive if found.clash is None else frozenset()
    if found.decimal is not None or not found.alive:
        found.open = None
    return found


def _mixed(first: Mapping[str, int]) -> tuple[int, int] | None:
    """Return two rows if some numbers are 12.345, some 12,345, and none tells which mark is that of the thousands.

    Thousands beside three decimals would have both marks; here two programs wrote three decimals.
    """
    rows: dict[str, int] = {}
    for cell, row in first.items():
        parts = take_apart(cell)
        if parts is None or not ("." in parts.core or "," in parts.core):
            continue
        three = _THREE.fullmatch(parts.core)
        if three is None:
            return None
        rows.setdefault(three[1], row)
    return (min(rows.values()), max(rows.values())) if len(rows) == 2 else None


def settle(
    evidence: Sequence[Evidence], rows: Rows, decimal: Decimal = "auto"
) -> tuple[dict[str, Settled], list[str], list[str]]:
    """Return notation and unit of each column of numbers, a sentence for each that has none, and what is to be said.

    Args:
        evidence: of all columns of numbers.
        rows: the table, for messages.
        decimal: what the user says of the columns whose cells leave it open.
    """
    votes: dict[str, str] = {}
    for column in evidence:
        if column.decimal is not None:
            votes.setdefault(column.decimal, column.name)
    settled: dict[str, Settled] = {}
    problems: list[str] = []
    notes: list[str] = []
    for column in evidence:
        found = _wrong(column, rows)
        mark = _MARKS.get(decimal) or (next(iter(votes)) if len(votes) == 1 else None)
        if not found and column.open is not None and mark is None:
            found = [_undecided(column, rows, votes)]
        if found:
            problems += found
            continue
        written = column.written(mark if column.open is not None else None)
        unit = next((unit for unit in column.units if unit), "")
        settled[column.name] = Settled(written, unit, column.stored)
        if column.open is not None and decimal == "auto" and mark is not None:
            cell = rows.column(column.name)[column.open]
            value = read_number(cell, written, unit)
            told = f"column {shown(column.name)!r}: {shown(cell)!r} is read as {value:.10g}"
            notes.append(f"{told}, since column {shown(votes[mark])!r} has {_WORDS[mark]}")
        if "" in column.units and unit:
            bare = shown(rows.column(column.name)[column.units[""]])
            notes.append(f"column {shown(column.name)!r}: {bare!r} is taken for an amount in {unit} as well")
    return settled, problems, notes


def settle_again(
    evidence: Sequence[Evidence], rows: Rows, recorded: Mapping[str, Settled], decimal: Decimal = "auto"
) -> tuple[dict[str, Settled], list[str], list[str]]:
    """Return the same for a further table, whose numbers are written as in the training unless its cells say otherwise.

    Args:
        evidence: of the columns of numbers that it has.
        rows: the table, for messages.
        recorded: how the training table was written.
        decimal: what the user says of the columns whose cells leave it open.
    """
    certain = [(c.decimal, NOTATIONS[recorded[c.name].written][0], c.name) for c in evidence if c.decimal is not None]
    against = {mark: name for mark, usual, name in certain if mark != usual}
    with_it = {mark: name for mark, usual, name in certain if mark == usual}
    exported = {mark: name for mark, _, name in certain if recorded[name].stored}
    others = {mark: name for mark, _, name in certain if not recorded[name].stored}
    settled: dict[str, Settled] = {}
    problems: list[str] = []
    notes: list[str] = []
    for column in evidence:
        usual = recorded[column.name]
        mark = NOTATIONS[usual.written][0]
        if column.open is not None:
            if decimal != "auto":
                mark = _MARKS[decimal]
            elif usual.stored:  # a program wrote it as text since, in a way that its other stored numbers tell
                told = exported or (others if "," in others else {})
                if len(told) > 1 or (not exported and told) or (not told and PLAIN not in column.alive):
                    problems.append(_undecided(column, rows, told))
                    continue
                mark = next(iter(told), ".")
            elif against and with_it:
                problems.append(_undecided(column, rows, {**against, **with_it}))
                continue
            elif against:
                mark = next(iter(against))
            elif usual.written not in column.alive and not with_it:
                problems.append(_undecided(column, rows, {}))
                continue
        if usual.written in column.alive and mark == NOTATIONS[usual.written][0]:
            written = usual.written
        elif not column.alive:
            written = usual.written  # cell by cell it is told what can't be read
        else:
            same = any(NOTATIONS[name][0] == mark for name in column.alive)
            written = column.written(mark if same else None)
            told = f"{rows.name}: numbers in column {shown(column.name)!r} are read as {written}"
            notes.append(f"{told}, in the training they were written as {usual.written}")
        settled[column.name] = Settled(written, usual.unit)
    return settled, problems, notes


def _undecided(column: Evidence, rows: Rows, votes: Mapping[str, str]) -> str:
    assert column.open is not None
    cell = rows.column(column.name)[column.open]
    parts = take_apart(cell)
    assert parts is not None
    a, b = (value_of(parts, column.written(mark)) for mark in _MARKS.values())
    told = f"{rows.where(column.open)}: {shown(cell)!r} in column {shown(column.name)!r} may be {a:.10g} or {b:.10g}"
    other = " and ".join(f"{shown(name)!r} has {_WORDS[mark]}" for mark, name in votes.items())
    why = f"the other columns disagree ({other})" if votes else "no other number tells"
    return f"{told}, and {why}; say --decimal point or --decimal comma"


def _wrong(column: Evidence, rows: Rows) -> list[str]:
    """Return why a column of numbers has no one notation or unit."""
    cells, word = rows.column(column.name), shown(column.name)
    mend = f"write them alike, or give {column.option} to take them for words"
    if column.clash is not None:
        a, b = column.clash
        if a == b:
            return [f"{rows.where(a)}: {shown(cells[a])!r} in column {word!r} is a number in no known notation; {mend}"]
        found = f"{shown(cells[a])!r} (line {rows.lines[a]}) and {shown(cells[b])!r} (line {rows.lines[b]})"
        return [f"{rows.name}: no one notation reads both {found} in column {word!r}; {mend}"]
    units = [unit for unit in column.units if unit or not all(map(is_money, filter(None, column.units)))]
    if len(units) > 1:
        found = " and ".join(
            f"{shown(cells[column.units[unit]])!r} (line {rows.lines[column.units[unit]]})" for unit in units[:3]
        )
        return [f"{rows.name}: column {word!r} has numbers in different units, {found}; {mend}"]
    if column.enclosed and column.enclosed == column.numbers:
        row = next(i for i, cell in enumerate(cells) if (p := take_apart(cell)) is not None and p.enclosed)
        found = f"{rows.where(row)}: all numbers in column {word!r} are in parentheses, such as {shown(cells[row])!r}"
        return [f"{found}, and whether they are negative can't be told; write them with a minus sign or without"]
    return []
