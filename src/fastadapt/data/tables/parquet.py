"""A Parquet file as rows of text; pyarrow reads it."""

import io
from typing import Any

import numpy as np

from fastadapt.data.files import shown
from fastadapt.data.tables.rows import MOST_COLUMNS, Rows, make_rows
from fastadapt.data.tables.stored import durations
from fastadapt.data.tables.workbook import text_of
from fastadapt.errors import DataError, MissingExtraError

_MOST_CELLS = 50_000_000
_INDEX = "__index_level_"  # how pandas names an index that has no name


def is_parquet(content: bytes) -> bool:
    """Return whether the bytes are those of a Parquet file."""
    return content[:4] == content[-4:] == b"PAR1"


def parquet_rows(content: bytes, name: str, sha256: str) -> Rows:
    """Return the rows of a Parquet file; its numbers keep all their digits.

    Raises:
        MissingExtraError: if pyarrow is not installed.
        DataError: if a column holds lists, records or bytes, or the file is too large or damaged.
    """
    try:
        import pyarrow  # type: ignore[import-not-found,import-untyped]
        import pyarrow.parquet  # type: ignore[import-not-found,import-untyped]
    except ImportError as error:
        told = f"{name} is a Parquet file, and reading it needs pyarrow: pip install 'fastadapt[parquet]'"
        raise MissingExtraError(f"{told}, or save the table as CSV") from error
    try:
        file = pyarrow.parquet.ParquetFile(io.BytesIO(content))
        count, width = file.metadata.num_rows, len(file.schema_arrow)
        if width > MOST_COLUMNS or count * width > _MOST_CELLS:
            raise DataError(f"{name} has {count:,} rows of {width:,} columns, which is too much; leave some out")
        table = file.read()
    except (pyarrow.ArrowException, OSError) as error:
        first = str(error).splitlines()[0]
        raise DataError(f"{name} is a damaged Parquet file ({first}); write it again") from error
    nested = pyarrow.types.is_nested
    for field in table.schema:
        if nested(field.type) or any(word in str(field.type) for word in ("binary", "interval", "extension")):
            raise DataError(f"{name}: column {shown(field.name)!r} holds {field.type}, no single values; leave it out")
    stored = [_values(column, name, word) for word, column in zip(table.schema.names, table.itercolumns(), strict=True)]
    notes = durations(name, table.schema.names, stored)
    columns = [[text_of(value) for value in values] for values in stored]
    header = ["" if field.startswith(_INDEX) else field.strip() for field in table.schema.names]
    cells = [list(row) for row in zip(*columns, strict=True)]
    return make_rows(name, header, cells, list(range(1, count + 1)), 0, sha256, notes)


def _values(column: Any, name: str, word: str) -> list[Any]:
    """Return the values of a column; of a time the microseconds, as Python has no finer ones."""
    import pyarrow  # type: ignore[import-not-found,import-untyped]

    kind = column.type
    if pyarrow.types.is_timestamp(kind) and kind.unit == "ns":
        column = column.cast(pyarrow.timestamp("us", kind.tz), safe=False)
    if pyarrow.types.is_duration(kind) and kind.unit == "ns":
        column = column.cast(pyarrow.duration("us"), safe=False)
    try:
        return column.to_pylist()
    except (OverflowError, ValueError) as error:
        row = next(place for place, one in enumerate(column) if not _in_python(one))
        told = f"{name}, row {row + 1}: column {shown(word)!r} holds {_beyond(column[row])}"
        raise DataError(f"{told}; correct it or leave it empty") from error


def _in_python(one: Any) -> bool:
    try:
        one.as_py()
    except (OverflowError, ValueError):
        return False
    return True


def _beyond(one: Any) -> str:
    """Say what a date or time holds that Python has none of."""
    unit = getattr(one.type, "unit", "D")
    if "duration" in str(one.type):
        return f"a length of time of {one.value} {unit}, which is more than can be told"
    moment = np.datetime64(one.value, "D" if unit == "day" else unit)
    return f"the time {np.datetime_as_string(moment, unit='D')}, and years are read from 1 to 9999"
