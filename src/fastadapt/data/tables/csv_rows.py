r"""The rows of a CSV file, as text: read within limits, and all that is wrong with the file said at once.

school,hours,score        school;hours;score        (commas, semicolons or tabs)
a,1.5,17                  a;1,5;17                  (a decimal comma where semicolons separate)
"""

import csv
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fastadapt.data.files import complain, read_file, shown
from fastadapt.errors import DataError

Encoding = Literal["auto", "utf-8", "utf-16", "cp1252", "latin-1"]
MOST_BYTES = 50_000_000
MOST_COLUMNS = 2_000
_DELIMITERS = ",;\t"
_HEAD = 1_000_000  # characters in which the header has to end


@dataclass(frozen=True)
class Rows:
    """Hold a table as text.

    Args:
        name: the file, as it may be printed.
        header: the names of the columns.
        cells: one list of texts for each row, as long as the header.
        lines: the line of the file on which each row ends.
        decimal_comma: whether "1,5" may be a number here.
        sha256: of the file's bytes.
    """

    name: str
    header: tuple[str, ...]
    cells: list[list[str]]
    lines: list[int]
    decimal_comma: bool
    sha256: str

    def __len__(self) -> int:
        return len(self.cells)

    def column(self, name: str) -> list[str]:
        """Return the texts of one column."""
        place = self.header.index(name)
        return [row[place] for row in self.cells]

    def where(self, row: int) -> str:
        """Return file and line of a row, for a message."""
        return f"{self.name}, line {self.lines[row]}"


def read_rows(path: str | Path, encoding: Encoding = "auto") -> Rows:
    r"""Read a CSV file with a header.

    Args:
        path: the file, at most 50 MB and 2,000 columns. Blank lines are skipped.
        encoding: how the characters are written; "auto" is UTF-8, or UTF-16 where the file begins with its mark.

    Raises:
        DataError: if it can't be used; every bad line is named, ten of them in words.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        ...     _ = file.write("shop;price\na;1,5\n\nb;2\n"), file.flush()
        ...     rows = read_rows(file.name)
        >>> rows.header, rows.cells, rows.lines
        (('shop', 'price'), [['a', '1,5'], ['b', '2']], [2, 4])
    """
    content, name = read_file(path, limit=MOST_BYTES, kind="a table"), shown(path)
    text = _decoded(content, encoding, name)
    delimiter = _delimiter(text)
    header: tuple[str, ...] = ()
    cells: list[list[str]] = []
    lines: list[int] = []
    problems: list[str] = []
    reader = _reader(text, delimiter)
    try:
        for row in reader:
            row = [cell.strip() for cell in row]
            if not any(row):
                continue
            if not header:
                header = tuple(row)
                problems += _header_problems(header, f"{name}, line {reader.line_num}")
            elif len(row) != len(header):
                found = f"{name}, line {reader.line_num} has {len(row)} values, the header has {len(header)}"
                problems.append(f"{found}; correct the line")
            else:
                cells.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        problems.append(f"{name}, line {reader.line_num} is not valid CSV ({error}); correct the line")
    if not cells and not problems:
        problems.append(f"{name} has no rows below its header; add some")
    if problems:
        raise complain(problems, name)
    return Rows(name, header, cells, lines, delimiter == ";", hashlib.sha256(content).hexdigest())


def _decoded(content: bytes, encoding: Encoding, name: str) -> str:
    if content.startswith(b"PK\x03\x04"):
        raise DataError(f"{name} is an archive (a workbook of a spreadsheet?); save the table as CSV")
    marked = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    codec = {"auto": "utf-16" if marked else "utf-8-sig", "utf-8": "utf-8-sig"}.get(encoding, encoding)
    try:
        text = content.decode(codec)
    except UnicodeDecodeError as error:
        known = codec.removesuffix("-sig").upper()
        hint = "save the table as CSV in UTF-8, or name its --encoding, for example cp1252"
        raise DataError(f"{name} is not {known} text (byte {error.start}); {hint}") from error
    if "\0" in text:
        raise DataError(f"{name} holds NUL characters, so it is not CSV; save the table as CSV in UTF-8")
    return text


def _reader(text: str, delimiter: str):
    return csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=delimiter != "\t"
    )


def _delimiter(text: str) -> str:
    """Return the delimiter that splits the header into the most columns, the comma where they tie."""
    counts = {}
    for delimiter in _DELIMITERS:
        try:
            counts[delimiter] = next((len(row) for row in _reader(text[:_HEAD], delimiter) if any(row)), 0)
        except csv.Error:
            counts[delimiter] = 0
    return max(_DELIMITERS, key=lambda delimiter: counts[delimiter])


def _header_problems(header: tuple[str, ...], where: str) -> list[str]:
    if len(header) > MOST_COLUMNS:
        return [f"{where} names {len(header):,} columns, at most {MOST_COLUMNS:,} are read; leave some out"]
    if all(_is_number(cell) for cell in header):
        return [f"{where} holds numbers where the header should be; add a first line with the columns' names"]
    twice = sorted({name for name in header if name and header.count(name) > 1})
    problems = [f"{where}: the column {shown(name)!r} is named twice; name every column differently" for name in twice]
    unnamed = [str(place) for place, name in enumerate(header, start=1) if not name]
    if unnamed:
        listed = f"column{'s' * (len(unnamed) > 1)} {', '.join(unnamed[:5])}{' and more' if len(unnamed) > 5 else ''}"
        problems.append(f"{where}: {listed} {'have' if len(unnamed) > 1 else 'has'} no name; name every column")
    return problems


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
