"""The first sheet of an .xlsx workbook as rows of text; openpyxl reads it."""

import datetime
import decimal
import io
import warnings
import zipfile
from collections.abc import Iterable
from typing import Any

from fastadapt.data.files import shown
from fastadapt.data.names import composed
from fastadapt.data.tables import merged
from fastadapt.data.tables.formulas import refuse_unknown
from fastadapt.data.tables.rows import MOST_COLUMNS, Rows, make_rows
from fastadapt.data.tables.stored import Stored, durations, hours
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

    The value of merged cells is taken for each row of theirs. Lengths of time are hours.

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
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            found, notes = _read(openpyxl, content, name)
    except DataError:
        raise
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{name} is a damaged workbook ({error}); save the table as CSV") from error
    if not found:
        raise DataError(f"{name} has no rows in its first sheet; add some")
    bad = [str(warning.message) for warning in warned if str(warning.message).startswith("Cell ")]  # no date there is
    notes += [f"{name}: {told.split('. ')[0]}. It counts as missing" for told in dict.fromkeys(bad[:3])]
    at = found[0][0]
    width = max(len(row) for _, row in found)
    texts = [[text_of(value) for value in row] + [""] * (width - len(row)) for _, row in found]
    notes += durations(name, texts[0], zip(*(row + [None] * (width - len(row)) for _, row in found[1:]), strict=True))
    lines = [line for line, _ in found]
    return make_rows(name, list(map(str, texts[0])), texts[1:], lines[1:], at, sha256, notes)


def _read(openpyxl: Any, content: bytes, name: str) -> tuple[list[tuple[int, list[Any]]], list[str]]:
    """Return line and values of the rows of the first sheet, and what is to be said of it."""
    values, formulas = (
        openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=data_only) for data_only in (True, False)
    )
    sheet, written = values.worksheets[0], formulas.worksheets[0]
    for one in (sheet, written):
        one.reset_dimensions()  # what the file says of its size is often wrong, and rows beyond it would be lost
    notes = _sheets(name, values.sheetnames)
    found = _filled(sheet.iter_rows(max_col=MOST_COLUMNS + 1, values_only=True))
    refuse_unknown(name, sheet, written, found)
    if found:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            notes += merged.fill_down(name, found, merged.ranges(archive.read(sheet._worksheet_path)))
    return found, notes


def text_of(value: Any) -> str:
    """Return a stored value as text, composed (NFC), that is read back as the same: a date without a time has none.

    Example:
        >>> text_of(None), text_of(1.5), text_of(True), text_of(datetime.datetime(2024, 3, 31))
        ('', '1.5', 'true', '2024-03-31')
    """
    if value is None or value != value:  # NaN is no value either
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime.datetime):
        whole = value.tzinfo is None and value.time() == datetime.time()  # midnight of a zone is a time in it
        return value.date().isoformat() if whole else value.isoformat(sep=" ")
    if isinstance(value, int | float | decimal.Decimal):
        return Stored(value)
    if isinstance(value, datetime.timedelta):
        return hours(value)
    return composed(str(value).strip())


def _sheets(name: str, names: list[str]) -> list[str]:
    if len(names) < 2:
        return []
    others = ", ".join(map(shown, names[1:4])) + (" and more" if len(names) > 4 else "")
    return [f"{name}: the first sheet, {shown(names[0])!r}, is read, and not {others}"]


def _filled(rows: Iterable[tuple[Any, ...]]) -> list[tuple[int, list[Any]]]:
    """Return number and values of the rows, without those of a sheet's unused end and above its header."""
    found = [(line, _ended(row)) for line, row in enumerate(rows, start=1)]
    filled = [place for place, (_, row) in enumerate(found) if row]
    return found[filled[0] : filled[-1] + 1] if filled else []


def _ended(row: tuple[Any, ...]) -> list[Any]:
    """Return the values of a row up to the last one that is there."""
    width = next((place for place in range(len(row), 0, -1) if row[place - 1] is not None), 0)
    return list(row[:width])
