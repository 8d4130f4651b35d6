"""Numbers that a file stores as numbers: their text is for people, and no notation has to be found for it."""

import datetime
from collections.abc import Iterable, Sequence
from typing import Any

from fastadapt.data.files import shown

_HOUR = datetime.timedelta(hours=1)


class Stored(str):
    """Hold the text of a number that an .xlsx or Parquet file stores as one, so that "1.125" is never 1125.

    Example:
        >>> Stored("1.125") == "1.125", is_stored("1.125"), is_stored(Stored("1.125"))
        (True, False, True)
    """

    __slots__ = ()


def is_stored(cell: str) -> bool:
    """Return whether a cell is a number that was stored as one."""
    return type(cell) is Stored


def hours(value: datetime.timedelta) -> Stored:
    """Return a length of time in hours.

    Example:
        >>> hours(datetime.timedelta(days=1, minutes=30))
        '24.5'
    """
    return Stored(value / _HOUR)


def durations(name: str, header: Sequence[Any], columns: Iterable[Iterable[Any]]) -> list[str]:
    """Return a sentence for the columns that hold lengths of time.

    Args:
        name: the file.
        header: the names of the columns.
        columns: their stored values.
    """
    long = [
        repr(shown(str(word)))
        for word, values in zip(header, columns, strict=False)
        if any(isinstance(value, datetime.timedelta) for value in values)
    ]
    if not long:
        return []
    return [f"{name}: lengths of time in column {', '.join(long[:3])}{' and more' * (len(long) > 3)} are read as hours"]
