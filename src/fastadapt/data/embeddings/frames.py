"""Embeddings as columns: a Parquet file with a column of lists, or a CSV with a column for each number."""

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastadapt.data.embeddings.embeddings import Embeddings, made_of
from fastadapt.data.embeddings.roles import FEATURES, Asked, named
from fastadapt.data.files import shown
from fastadapt.data.tables.csv_rows import read_rows
from fastadapt.errors import DataError, MissingExtraError


def read_csv(path: Path, content: bytes, asked: Asked) -> Embeddings:
    """Return the embeddings of a CSV file.

    Raises:
        DataError: if a cell is no number, a column of classes is missing, or the file is no table.
    """
    rows = read_rows(path).filled()
    columns: dict[str, list[Any]] = {name: rows.column(name) for name in rows.header}
    return _of_columns(columns, asked, [f"line {line}" for line in rows.lines])


def read_parquet(path: Path, content: bytes, asked: Asked) -> Embeddings:
    """Return the embeddings of a Parquet file.

    Raises:
        MissingExtraError: if pyarrow is not installed.
        DataError: if a value is no number, lists differ in length, a column of classes is missing, or it is damaged.
    """
    try:
        import pyarrow  # type: ignore[import-not-found,import-untyped]
        import pyarrow.parquet  # type: ignore[import-not-found,import-untyped]
    except ImportError as error:
        told = f"{asked.name} is a Parquet file, and reading it needs pyarrow: pip install 'fastadapt[parquet]'"
        raise MissingExtraError(f"{told}, or save the embeddings as .npz") from error
    try:
        table = pyarrow.parquet.ParquetFile(io.BytesIO(content)).read()
    except (pyarrow.ArrowException, OSError) as error:
        first = str(error).splitlines()[0]
        raise DataError(f"{asked.name} is a damaged Parquet file ({first}); write it again") from error
    columns = {name: table.column(place).to_pylist() for place, name in enumerate(table.schema.names)}
    return _of_columns(columns, asked, [f"row {number + 1}" for number in range(table.num_rows)])


def _of_columns(columns: dict[str, list[Any]], asked: Asked, where: Sequence[str]) -> Embeddings:
    if not where:
        raise DataError(f"{asked.name} holds no sample; compute the embeddings again")
    role = asked.of_classes(list(columns), "column")
    called = asked.of_names([name for name in columns if name != role])
    rest = [name for name in columns if name not in (role, called)]
    counted = [name for name in rest if _is_count(columns[name])]
    asked.left_out([*counted], "row numbers in")
    rest = [name for name in rest if name not in counted]
    lists = [name for name in rest if _is_list(columns[name][0])]
    if len(lists) > 1:
        lists = named(lists, FEATURES)
    if len(lists) == 1:
        asked.left_out([name for name in rest if name != lists[0]], "column")
        features = _lists(columns[lists[0]], lists[0], asked, where)
    elif not rest or any(_is_list(columns[name][0]) for name in rest):
        found = "several columns of lists" if rest else "no column of numbers"
        raise DataError(f"{asked.name} has {found} beside the classes; call the one of features embedding")
    else:
        features = np.array([_numbers(columns[name], name, asked, where) for name in rest]).T
    classes = None if role is None else np.array(["" if value is None else str(value) for value in columns[role]])
    return made_of(asked.name, features, classes, None if called is None else columns[called])


def _is_count(values: list[Any]) -> bool:
    """Return whether a column numbers the rows, from 0 or from 1: what pandas writes of itself, and never a feature."""
    if len(values) < 3:
        return False
    texts = [str(value) for value in values]
    return any(texts == [str(number) for number in range(first, first + len(values))] for first in (0, 1))


def _is_list(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, str) and value.startswith("["))


def _lists(values: list[Any], name: str, asked: Asked, where: Sequence[str]) -> np.ndarray:
    rows = []
    for place, value in zip(where, values, strict=True):
        try:
            row = json.loads(value) if isinstance(value, str) else value
            rows.append([math.nan if number is None else float(number) for number in row])
        except (ValueError, TypeError) as error:
            raise DataError(
                f"{asked.name}, {place}: {shown(str(value)[:40])!r} in column {shown(name)!r} is no list of numbers "
                "such as [0.5, 1]; write the column again"
            ) from error
        if len(rows[-1]) != len(rows[0]):
            raise DataError(
                f"{asked.name}, {place}: the list has {len(rows[-1])} numbers, and that of {where[0]} has "
                f"{len(rows[0])}; all embeddings need one length"
            )
    return np.array(rows)


def _numbers(values: list[Any], name: str, asked: Asked, where: Sequence[str]) -> list[float]:
    found = []
    for place, value in zip(where, values, strict=True):
        try:
            if isinstance(value, bool) or value is None or value == "":
                raise ValueError
            found.append(float(value))
        except (ValueError, TypeError):
            told = "an empty cell" if value in (None, "") else repr(shown(str(value)[:40]))
            raise DataError(
                f"{asked.name}, {place}: {told} in column {shown(name)!r} is no number such as 0.5, and every column "
                "beside classes and names is a feature; mend or drop it, or name the classes with --class-column"
            ) from None
    return found
