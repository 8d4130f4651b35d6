"""A table as text: what every kind of file is read into."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from fastadapt.data.files import complain, shown
from fastadapt.data.names import composed

MOST_COLUMNS = 2_000
_YEAR = re.compile(r"(?:1[6-9]|20|21)\d\d")
"""A number that may well be the name of a column."""


@dataclass(frozen=True)
class Rows:
    """Hold a table as text.

    Args:
        name: the file, as it may be printed.
        header: the names of the columns; one without a name is called "column 3", by its place.
        cells: one list of texts for each row, as long as the header.
        lines: the line of the file on which each row ends.
        sha256: of the file's bytes.
        notes: a sentence for each thing that was taken one way and could have been taken another.
    """

    name: str
    header: tuple[str, ...]
    cells: list[list[str]]
    lines: list[int]
    sha256: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.cells)

    def column(self, name: str) -> list[str]:
        """Return the texts of one column."""
        place = self.header.index(composed(name))
        return [row[place] for row in self.cells]

    def columns(self) -> Iterator[list[str]]:
        """Yield the texts of each column."""
        for name in self.header:
            yield self.column(name)

    def where(self, row: int) -> str:
        """Return file and line of a row, for a message."""
        return f"{self.name}, line {self.lines[row]}"

    def only(self, numbers: "list[int] | range") -> "Rows":
        """Return some of the rows."""
        return replace(self, cells=[self.cells[i] for i in numbers], lines=[self.lines[i] for i in numbers])

    def filled(self) -> "Rows":
        """Return the rows that have any value, with a note of those that have none."""
        kept = [i for i, row in enumerate(self.cells) if any(row)]
        empty = len(self) - len(kept)
        if not empty:
            return self
        first = next(line for line, row in zip(self.lines, self.cells, strict=True) if not any(row))
        told = f"{empty} row{'s' * (empty > 1)} without any value (the first in line {first})"
        note = f"{self.name}: {told} {'are' if empty > 1 else 'is'} left out"
        return replace(self.only(kept), notes=(*self.notes, note))


def make_rows(
    name: str, header: list[str], cells: list[list[str]], lines: list[int], at: int, sha256: str, notes: list[str]
) -> Rows:
    """Return a table whose header was looked at: every column has a name of its own.

    A column without a name and without a value is dropped. One without a name and with values is called by its place
    and left to whoever fits the columns.

    Args:
        name: the file.
        header: the names, "" for a column that has none.
        cells: the rows.
        lines: their lines.
        at: the line of the header.
        sha256: of the file.
        notes: what is to be said already.

    Raises:
        DataError: if the header can't be used, or there is no row.
    """
    header = [composed(word) for word in header]
    where = f"{name}, line {at}"
    problems = header_problems(header, where)
    if not cells and not problems:
        problems.append(f"{name} has no rows below its header; add some")
    words = len(header[0].split()) if len(header) == 1 else 0
    if words > 1 and all(len(row[0].split()) == words for row in cells):
        told = f"{name} has one column, and {words} words in each of its lines"
        problems = [f"{told}; separate columns by commas, semicolons, tabs or bars, and not by spaces"]
    if problems:
        raise complain(problems, name)
    empty = {i for i, word in enumerate(header) if not word and not any(row[i] for row in cells)}
    if empty:
        cells = [[cell for i, cell in enumerate(row) if i not in empty] for row in cells]
    numbers = [word for word in header if is_plain_number(word) and not _YEAR.fullmatch(word)]
    if numbers:
        told = f"{where} is taken for the header, and names columns {', '.join(map(repr, numbers[:3]))}"
        notes = [*notes, f"{told}; if it is none, put one with the columns' names above it"]
    named = [word or f"column {i + 1}" for i, word in enumerate(header) if i not in empty]
    return Rows(name, tuple(named), cells, lines, sha256, tuple(notes))


def header_problems(header: list[str], where: str) -> list[str]:
    """Return a sentence for each thing that is wrong with the names of the columns."""
    if len(header) > MOST_COLUMNS:
        return [f"{where} names {len(header):,} columns, at most {MOST_COLUMNS:,} are read; leave some out"]
    if all(is_plain_number(cell) for cell in header if cell) and any(header):
        return [f"{where} holds numbers where the header should be; add a first line with the columns' names"]
    taken = [name or f"column {i + 1}" for i, name in enumerate(header)]
    twice = sorted({name for name in taken if taken.count(name) > 1})
    return [f"{where}: the column {shown(name)!r} is named twice; name every column differently" for name in twice]


def is_plain_number(cell: str) -> bool:
    """Return whether a cell is a number as Python writes it.

    Example:
        >>> is_plain_number("-1.5"), is_plain_number("1,5"), is_plain_number("")
        (True, False, False)
    """
    try:
        float(cell)
    except ValueError:
        return False
    return True


def words_of(name: str) -> list[str]:
    """Return the words in the name of a column, in lower case.

    Example:
        >>> words_of("student_id"), words_of("StudentID")
        (['student', 'id'], ['student', 'id'])
    """
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+", name)]
