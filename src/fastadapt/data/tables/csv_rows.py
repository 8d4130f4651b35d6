r"""The rows of a table's file, as text: read within limits, and all that is wrong with the file said at once.

school,hours,score        school;hours;score        (commas, semicolons, tabs or bars)
a,1.5,17                  a;1,5;17

A workbook (.xlsx) or a Parquet file is read by `workbook.py` and `parquet.py`.
"""

import csv
import hashlib
import io
import re
from pathlib import Path

from fastadapt.data.files import complain, read_file, shown
from fastadapt.data.tables.decoding import Encoding, decoded
from fastadapt.data.tables.long_cells import long_cells
from fastadapt.data.tables.parquet import is_parquet, parquet_rows
from fastadapt.data.tables.rows import Rows, header_problems, make_rows
from fastadapt.data.tables.shifted import shifted
from fastadapt.data.tables.workbook import is_workbook, workbook_rows

MOST_BYTES = 50_000_000
_DELIMITERS = ",;\t|"
_HEAD = 1_000_000  # characters in which the header has to end


def read_rows(path: str | Path, encoding: Encoding = "auto", *, usual: Encoding | None = None) -> Rows:
    r"""Read a table with a header: CSV, and .xlsx or Parquet where openpyxl or pyarrow is installed.

    Blank lines are skipped; a row of empty cells is a row. Lines before the header that begin with "#", and a line such
    as "sep=;", are no rows either.

    Args:
        path: the file, at most 50 MB and 2,000 columns.
        encoding: how the characters are written, where it is not UTF-8; a byte-order mark, and then valid UTF-8, win.
        usual: the encoding of the table that a run was trained on.

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
    digest = hashlib.sha256(content).hexdigest()
    if is_workbook(content):
        return workbook_rows(content, name, digest)
    if is_parquet(content):
        return parquet_rows(content, name, digest)
    text, notes = decoded(content, encoding, name, usual=usual)
    return _csv_rows(text, name, digest, notes)


def _csv_rows(text: str, name: str, digest: str, notes: list[str]) -> Rows:
    text, skipped, delimiter, head = _below_the_head(text, name)
    delimiter = delimiter or _delimiter(text)
    header: list[str] = []
    at = 0
    cells: list[list[str]] = []
    lines: list[int] = []
    problems: list[str] = []
    spans: dict[int, tuple[int, int]] = {}
    reader = _reader(text, delimiter)
    began = ended = skipped
    try:
        for row in reader:
            began, ended = ended + 1, reader.line_num + skipped
            row = [cell.strip() for cell in row]
            if not row or row == [""]:
                continue
            if not header:
                if not any(row):
                    continue
                header, at = row, ended
                if ended > began:
                    spans[-1] = began, ended
            else:
                if ended > began:
                    spans[len(cells)] = began, ended
                cells.append(row)
                lines.append(ended)
    except csv.Error as error:
        last = reader.line_num + skipped
        told = f"{name}, line {ended + 1} is" if last == ended + 1 else f"{name}, lines {ended + 1} to {last} are"
        hint = "correct the line" if last == ended + 1 else f"is a quotation mark in line {ended + 1} stray?"
        problems.append(f"{told} not valid CSV ({error}); {hint}")
    cells, uneven, ends = _even(cells, lines, header, name)
    if uneven and -1 in spans:
        first, last = spans[-1]
        uneven.insert(0, f"{name}, lines {first} to {last} are the header; is a quotation mark in it stray?")
    if problems or uneven:
        raise complain(header_problems(header, f"{name}, line {at}") + uneven + problems, name)
    notes = [*notes, *head, *ends, *long_cells(header, [*cells, header], spans, delimiter, name)]
    return make_rows(name, header, cells, lines, at, digest, notes)


def _even(
    cells: list[list[str]], lines: list[int], header: list[str], name: str
) -> tuple[list[list[str]], list[str], list[str]]:
    """Return the rows without the empty cell behind a delimiter that ends every line, what doesn't fit, and notes."""
    width = len(header)
    if cells and all(len(row) == width + 1 and not row[-1] for row in cells):
        return [row[:-1] for row in cells], *shifted(header, cells, name)
    if cells and width > 1 and not header[-1] and all(len(row) == width for row in cells) and any(r[-1] for r in cells):
        return cells, *shifted(header, cells, name)
    widths = {len(row) for row in cells}
    if len(cells) > 2 and len(widths) == 1 and widths != {width}:
        found = f"{name}: the header has {width} names and every row has {widths.pop()} values"
        return cells, [f"{found}; is the header the first line of the table? Name every column in it"], []
    uneven = [
        f"{name}, line {line} has {len(row)} values, the header has {width}; correct the line"
        for row, line in zip(cells, lines, strict=True)
        if len(row) != width
    ]
    return cells, uneven, []


def _below_the_head(text: str, name: str) -> tuple[str, int, str | None, list[str]]:
    """Return the text from the header on, the lines before it, the delimiter that they name, and what to say."""
    lines = text[:_HEAD].splitlines(keepends=True)
    at, delimiter, hashed = 0, None, -1
    while at < len(lines):
        line = lines[at].strip("\r\n")
        named = re.fullmatch(r'"?sep=(.|\\t)"?', line.strip(" "), re.IGNORECASE)
        if at == 0 and named:
            delimiter = "\t" if named[1] == "\\t" else named[1]
        elif line.lstrip().startswith("#"):
            hashed = at
        elif line.strip():
            break
        at += 1
    if at == len(lines) or at == 0:
        return text, 0, delimiter, []
    if hashed >= 0 and _is_header(lines[hashed], lines[at], delimiter):
        told = f'{name}, line {hashed + 1} is taken for the header, without its "#"'
        rest = "".join(lines[:hashed]), lines[hashed].replace("#", "", 1).lstrip(" ")
        below = text[len(rest[0]) + len(lines[hashed]) :]
        return rest[1] + below, hashed, delimiter, [told]
    before = sum(len(line) for line in lines[:at])
    comments = sum(line.lstrip().startswith("#") for line in lines[:at])
    told = [f'{name}: {comments} line{"s" * (comments > 1)} of "#" before the header left out'] if comments else []
    return text[before:], at, delimiter, told


def _is_header(hashed: str, below: str, delimiter: str | None) -> bool:
    """Return whether a line of "#" names the columns: it has as many words as the line below, which has numbers."""
    by = delimiter or _delimiter(below)
    names, values = next(_reader(hashed, by), []), next(_reader(below, by), [])
    numbers = sum(any(c.isdigit() for c in cell) for cell in values)
    return len(names) == len(values) > 1 and numbers > 0 and not any(re.fullmatch(r"[\d.,]+", n) for n in names)


def _reader(text: str, delimiter: str):
    return csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=delimiter != "\t"
    )


def _delimiter(text: str) -> str:
    """Return the delimiter that splits the header into the most columns, the comma where they tie."""
    counts = dict.fromkeys(_DELIMITERS, 0)
    for delimiter in _DELIMITERS:
        try:
            # a bad line elsewhere is told when all lines are read
            header = next((row for row in _reader(text[:_HEAD], delimiter) if any(map(str.strip, row))), [])
            counts[delimiter] = len(header)
        except csv.Error:
            continue
    return max(counts, key=lambda delimiter: counts[delimiter])
