"""What a column holds: numbers, dates or words, by the cells of the training rows. Nothing is decided in silence."""

import itertools
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from fastadapt.data.files import shown
from fastadapt.data.tables.dates import COMPACT, FORMS, MONTH, SHORT_YEAR, DateOrder, forms_of, read_date
from fastadapt.data.tables.evidence import Evidence, look
from fastadapt.data.tables.missing import is_missing
from fastadapt.data.tables.rows import Rows

_ORDERS = {"day-first": "31/03/2024", "month-first": "03/31/2024"}
_FEW = 3  # numbers among words that are no mistake to speak of
_LOOKS = {
    "a number with a word": re.compile(r"[+-]?\d[\d.,]*\s*[^\W\d_]+\.?"),
    "a number behind a word": re.compile(
        r"[+-]?(?:[^\d\s]*[^\w\s][^\d\s]*\s+[+-]?\d[\d.,'\s]*|[^\d\s]+\s+[+-]?\d[\d\s]*[.,'\s]\d[\d.,'\s]*)"
    ),
    "a fraction": re.compile(r"(?:\d+\s+)?\d+/\d+"),
    "a range": re.compile(r"\d[\d.,]*\s*(?:[-–—]|to)\s*\d[\d.,]*"),
    "a length of time": re.compile(r"\d+:\d\d(?::\d\d)?(?:\.\d+)?|(?:\d+\s?[hms]\w*\s?){2,}|\d+\s?h\s?\d{1,2}"),
}
"""What categories look like that may be meant for numbers."""
_YEAR = r"(?:19|20)\d\d"
_LIKE_DATES = re.compile(
    "|".join(
        (
            rf"(?:{_YEAR}[-/.]?(?:0[1-9]|1[0-2])[-/.]?(?:0[1-9]|[12]\d|3[01])|\d{{1,2}}[-/.]\d{{1,2}}[-/.]{_YEAR})[^\d.,].*",
            rf"{_YEAR}\s?(?:-\s?)?[WQH]\d{{1,2}}(?:-?\d)?|[WQH]\d{{1,2}}[-/\s]+{_YEAR}|\d{{4}}\s?年.*",
            rf"(?:[^\W\d_]+\.?,?\s+)?\d{{1,2}}\.?[-/\s]+(?:de\s+)?[^\W\d_]{{2,}}\.?,?(?:\s+de)?[-/\s]+{_YEAR}(?:\D.*)?",
            rf"[^\W\d_]{{3,}}\s+[^\W\d_]{{3,}}\s+\d{{1,2}}\s+\d\d:\d\d.*{_YEAR}",
            rf"\d{{1,2}}[-/.\s]+{MONTH}[-/.'\s]+\d\d|{MONTH}[-']\d\d",
            rf"\d{{1,2}}[:.]\d\d(?::\d\d)?[,\s]+(?:\d{{1,2}}[-/.]\d{{1,2}}[-/.]\d{{2,4}}|{_YEAR}-\d\d-\d\d)",
            r"\d{1,2}:\d\d(?::\d\d)?\s*[^\W\d_]{2,5}",
        )
    ),
    re.IGNORECASE,
)
"""What cells look like that may be meant for dates, in forms that are not read."""
_TRIED = 20  # cells by which it is seen whether to look for dates


@dataclass(frozen=True)
class Kind:
    """Hold what a column is.

    Args:
        holds: "number", "category" or "date".
        written: the form of its dates.
        evidence: how its numbers are written.
        problems: why it can't be used.
        notes: what is to be said.
    """

    holds: Literal["number", "category", "date"]
    written: str = ""
    evidence: Evidence | None = None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def kind_of(
    rows: Rows, name: str, option: str, words: Collection[str] | None = None, order: DateOrder = "auto"
) -> Kind:
    """Return what a column holds; a column of numbers or dates with a little text in it is a mistake to be mended.

    Args:
        rows: the rows that may be looked at.
        name: the column.
        option: what takes the cells for words, for messages.
        words: what says that a value is missing.
        order: whether day or month is first, where the dates leave it open.
    """
    dates = _dates(rows, name, option, words, order)
    if dates is not None:
        return dates
    like_dates = _like_dates(rows, name, words)
    if like_dates:
        return Kind("category", notes=like_dates)
    found = look(rows, name, words, option)
    word, text = shown(name), found.there - found.numbers
    if not text:
        return Kind("number", evidence=found, notes=_codes(rows, name, words))
    row, cell, _ = found.text[0]
    if 2 * (found.numbers + found.odd) > found.there:
        if found.odd > found.numbers:
            told = f"column {word!r} looks like numbers in a notation that is not known"
            hint = f"write them as 12.5, or give {option} to take them for words"
        else:
            told = f"column {word!r} holds numbers, but text in {text} of {found.there} rows"
            hint = f"correct them, or give {option}"
        return Kind("number", problems=[f"{told} ({shown(cell)!r} in line {rows.lines[row]}); {hint}"])
    return Kind("category", notes=_numbers_among(rows, found, words) + _like_numbers(found))


def _numbers_among(rows: Rows, found: Evidence, words: Collection[str] | None) -> list[str]:
    """Say that words have numbers among them."""
    if found.numbers <= _FEW:
        return []
    texts = {row for row, _, _ in found.text}
    shows = {cell for row, cell, _ in found.text}
    row = next(
        i
        for i, c in enumerate(rows.column(found.name))
        if i not in texts and c not in shows and not is_missing(c, words)
    )
    told = (
        f"column {shown(found.name)!r} is taken for categories, and {found.numbers} of {found.there} cells are numbers"
    )
    return [f"{told} ({shown(rows.column(found.name)[row])!r} in line {rows.lines[row]})"]


def _like_numbers(found: Evidence) -> list[str]:
    """Say that every cell is a number with a word (1.5k, 12 pieces), a fraction, or the like."""
    cells = [cell for _, cell, _ in found.text]
    what = next((what for what, form in _LOOKS.items() if all(form.fullmatch(cell) for cell in cells)), None)
    if found.numbers or what is None or len(cells) <= _FEW:
        return []
    examples = ", ".join(repr(shown(cell)) for cell in cells[:3])
    told = f"column {shown(found.name)!r} is taken for {len(cells)} categories, though every cell is {what}"
    return [f"{told} ({examples}); write 12.5, all in one unit, to have numbers"]


def _like_dates(rows: Rows, name: str, words: Collection[str] | None) -> list[str]:
    """Say that every cell begins as a date does, or is a week or a quarter, in a form that is not read."""
    there = (cell for cell in rows.column(name) if not is_missing(cell, words))
    cells: dict[str, None] = {}
    for cell in there:
        if cell not in cells and not (_LIKE_DATES.fullmatch(cell) or forms_of([cell])):
            return []
        cells[cell] = None
    if len(cells) < 2:
        return []
    examples = ", ".join(repr(shown(cell)) for cell in list(cells)[:2])
    told = f"column {shown(name)!r} is taken for {len(cells)} categories, though every cell looks like a date in a form"
    return [f"{told} that is not read ({examples}); write 2024-03-31, or 2024-03-31 10:00+02:00, to have dates"]


def _codes(rows: Rows, name: str, words: Collection[str] | None) -> list[str]:
    """Say that numbers look like codes or like dates."""
    cells = {cell for cell in rows.column(name) if not is_missing(cell, words)}
    word = shown(name)
    if cells and all(COMPACT.fullmatch(cell) for cell in cells) and len(cells) > 1:
        told = f"column {word!r} is read as numbers such as {min(cells)}"
        return [f"{told}; if they are dates, write them as {min(cells)[:4]}-{min(cells)[4:6]}-{min(cells)[6:]}"]
    codes = sorted(cell for cell in cells if cell[0] == "0" and len(cell) > 1 and cell.isdigit())
    if not codes:
        return []
    return [f"column {word!r} is read as numbers, though {codes[0]!r} has a leading zero; --categorical takes codes"]


def _dates(rows: Rows, name: str, option: str, words: Collection[str] | None, order: DateOrder) -> Kind | None:
    """Return the kind of a column of dates; None if it is none."""
    all_cells = rows.column(name)
    there = (cell for cell in all_cells if not is_missing(cell, words))
    if not any(forms_of([cell]) or SHORT_YEAR.fullmatch(cell) for cell in itertools.islice(there, _TRIED)):
        return None
    first: dict[str, int] = {}
    for row, cell in enumerate(all_cells):
        if not is_missing(cell, words):
            first.setdefault(cell, row)
    cells, word = list(first), shown(name)
    forms = forms_of(cells)
    if len(forms) > 1 and order in _ORDERS:
        forms = [_ORDERS[order]]
    if len(forms) > 1:
        row, cell = first[cells[0]], cells[0]
        told = f"{rows.where(row)}: {shown(cell)!r} in column {word!r} has day and month in either order, as all others"
        return Kind("date", problems=[f"{told}; say --dates day-first or --dates month-first"])
    if forms:
        zoned = {moment.zone is None: cell for cell in cells if (moment := read_date(cell, forms[0])) is not None}
        if len(zoned) > 1:
            told = f"column {word!r} has times with and without their zone"
            return Kind("date", problems=[f"{told} ({zoned[True]!r}, {zoned[False]!r}); write all in one zone"])
        return Kind("date", written=forms[0])
    return _nearly_dates(rows, name, option, first)


def _nearly_dates(rows: Rows, name: str, option: str, first: dict[str, int]) -> Kind | None:
    """Return the kind of a column of which most cells are dates; None if they are not."""
    cells, word = list(first), shown(name)
    if cells and all(SHORT_YEAR.fullmatch(cell) for cell in cells):
        row = first[cells[0]]
        told = f"{rows.where(row)}: {cells[0]!r} in column {word!r} looks like a date whose century is not told"
        return Kind("date", problems=[f"{told}; write 2024-03-31, or give {option} to take them for words"])
    tried = cells[:_TRIED]
    dates = [cell for cell in tried if any(forms_of([cell]))]
    if 2 * len(dates) <= len(tried) or len(tried) < 2:
        return None
    forms = max(FORMS, key=lambda form: sum(form in forms_of([cell]) for cell in tried))
    bad = next((cell for cell in cells if forms not in forms_of([cell])), None)
    if bad is None:  # dates in every cell, which are none together: seasons
        return None
    told = f"{rows.name}: column {word!r} holds dates such as {dates[0]}, but not in line {rows.lines[first[bad]]}"
    return Kind("date", problems=[f"{told} ({shown(bad)!r}); write them alike, or give {option}"])
