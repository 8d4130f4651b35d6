"""The first sheet of an .xlsx workbook as rows of text; openpyxl reads it."""

import datetime
import io
import zipfile
from collections.abc import Iterable
from typing import Any

from fastadapt.data.files import shown
from fastadapt.data.names import composed
from fastadapt.data.tables.rows import MOST_COLUMNS, Rows, make_rows
from fastadapt.errors import DataError, MissingExtraError

_MOST_UNPACKED = 500_000_000
_MAIN_PART = "xl/workbook.xml"


def is_workbook(content: bytes) -> bool:
    """Return whether the bytes are those of an .xlsx workbook."""
    if not content.startswith(b"PK\x03\x04"):
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _MAIN_PART in archive.namelist()
    except zipfile.BadZipFile:
        return False


def workbook_rows(content: bytes, name: str, sha256: str) -> Rows:
    """Return the rows of the first sheet: numbers and dates as they are stored, not as they are shown.

    Raises:
        MissingExtraError: if openpyxl is not installed.
        DataError: if the sheet can't be used.
    """
    try:
        import openpyxl  # type: ignore[import-not-found,import-untyped]
    except ImportError as error:
        told = f"{name} is a workbook, and reading it needs openpyxl: pip install 'fastadapt[sheets]'"
        raise MissingExtraError(f"{told}, or save the table as CSV") from error
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > _MOST_UNPACKED:
            raise DataError(f"{name} unpacks to more than {_MOST_UNPACKED / 1e6:g} MB; save the table as CSV")
    try:
        values, formulas = (
            openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=data_only)
            for data_only in (True, False)
        )
        sheet, written = values.worksheets[0], formulas.worksheets[0]
        notes = _sheets(name, values.sheetnames)
        found = _filled(sheet.iter_rows(max_col=MOST_COLUMNS + 1, values_only=True))
        _refuse_unknown(name, found, _filled(written.iter_rows(max_col=MOST_COLUMNS + 1, values_only=True)))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{name} is a damaged workbook ({error}); save the table as CSV") from error
    if not found:
        raise DataError(f"{name} has no rows in its first sheet; add some")
    at = found[0][0]
    width = max(len(row) for _, row in found)
    texts = [[text_of(value) for value in row] + [""] * (width - len(row)) for _, row in found]
    lines = [line for line, _ in found]
    return make_rows(name, texts[0], texts[1:], lines[1:], at, sha256, notes)


def text_of(value: Any) -> str:
    """Return a stored value as text, composed (NFC), that is read back as the same: a date without a time has none.

    Example:
        >>> text_of(None), text_of(1.5), text_of(True), text_of(datetime.datetime(2024, 3, 31))
        ('', '1.5', 'true', '2024-03-31')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime.datetime):
        whole = value.tzinfo is None and value.time() == datetime.time()  # midnight of a zone is a time in it
        return value.date().isoformat() if whole else value.isoformat(sep=" ")
    return composed(str(value).strip())


def _sheets(name: str, names: list[str]) -> list[str]:
    if len(names) < 2:
        return []
    others = ", ".join(map(shown, names[1:4])) + (" and more" if len(names) > 4 else "")
    return [f"{name}: the first sheet, {shown(names[0])!r}, is read, and not {others}"]


def _filled(rows: Iterable[tuple[Any, ...]]) -> list[tuple[int, tuple[Any, ...]]]:
    """Return number and values of the rows, without those of a sheet's unused end and above its header."""
    found = list(enumerate(rows, start=1))
    while found and not any(value is not None for value in found[-1][1]):
        found.pop()
    while found and not any(value is not None for value in found[0][1]):
        found.pop(0)
    width = max((place + 1 for _, row in found for place, value in enumerate(row) if value is not None), default=0)
    return [(line, row[:width]) for line, row in found]


def _refuse_unknown(name: str, values: list[tuple[int, tuple]], formulas: list[tuple[int, tuple]]) -> None:
    """Refuse a formula whose value no program has stored: it would be read as missing."""
    known = dict(values)
    for line, row in formulas:
        for place, formula in enumerate(row):
            there = dict(enumerate(known.get(line, ())))
            if isinstance(formula, str) and formula.startswith("=") and there.get(place) is None:
                told = f"{name}, line {line}: the formula {shown(formula)!r} has no stored value"
                raise DataError(f"{told}; open and save the workbook in a spreadsheet, or save the table as CSV")
