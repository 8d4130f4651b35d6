"""Embeddings as columns: a Parquet file with a column of lists, or a CSV with a column for each number."""

import io
import json
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastadapt.data.embeddings.embeddings import Embeddings, made_of
from fastadapt.data.embeddings.feature_columns import feature_columns
from fastadapt.data.embeddings.roles import FEATURES, Asked, named
from fastadapt.data.files import complain, shown
from fastadapt.data.tables.columns import missing_columns
from fastadapt.data.tables.csv_rows import read_rows
from fastadapt.data.tables.notation import plain_numbers, read_number
from fastadapt.data.tables.rows import Rows
from fastadapt.errors import DataError, MissingExtraError

logger = logging.getLogger(__name__)


def read_csv(path: Path, content: bytes, asked: Asked) -> Embeddings:
    """Return the embeddings of a CSV file.

    Raises:
        DataError: if a cell is no number, a column of classes is missing, or the file is no table.
    """
    rows = read_rows(path).filled()
    for note in rows.notes:
        logger.warning("note: %s", note)
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
    names = table.schema.names
    indices = [name for name in (table.schema.pandas_metadata or {}).get("index_columns", []) if isinstance(name, str)]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(f"{asked.name}: the column {shown(twice[0])!r} is named twice; name every column differently")
    try:
        columns = {name: table.column(place).to_pylist() for place, name in enumerate(names)}
    except (pyarrow.ArrowException, OverflowError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise DataError(f"{asked.name} holds values that can't be read ({first}); leave such columns out") from error
    return _of_columns(columns, asked, [f"row {number + 1}" for number in range(table.num_rows)], indices)


def _of_columns(
    columns: dict[str, list[Any]], asked: Asked, where: Sequence[str], indices: Sequence[str] = ()
) -> Embeddings:
    if not where:
        raise DataError(f"{asked.name} holds no sample; compute the embeddings again")
    role = asked.of_classes(list(columns), "column")
    called = asked.of_names([name for name in columns if name != role])
    index = [name for name in indices if name not in (role, called, *asked.columns)]
    asked.left_out(index, "column", "is the index of a frame of pandas")
    rest = {name: values for name, values in columns.items() if name not in (role, called, *index)}
    lists = [name for name, values in rest.items() if _is_list(values[0])]
    if len(lists) > 1:
        lists = named(lists, FEATURES)
    wide: tuple[str, ...] = ()
    if any(name in rest for name in asked.columns):
        wide = _wanted(rest, asked)
    elif not lists and not any(_is_list(values[0]) for values in rest.values()):
        wide = _wide(rest, asked)
    if wide:
        features = np.array([_numbers(columns[name], name, asked, where) for name in wide]).T
    elif len(lists) == 1 and (named(lists, FEATURES) or not _numbered(rest)):
        asked.left_out([name for name in rest if name != lists[0]], "column")
        features = _lists(columns[lists[0]], lists[0], asked, where)
    else:
        found = "no column of numbers"
        if any(_is_list(values[0]) for values in rest.values()):
            found = "a column of lists and numbered ones" if len(lists) == 1 else "several columns of lists"
        raise DataError(f"{asked.name} has {found} beside the classes; call the one of features embedding")
    classes = None if role is None or not asked.classes else np.array(columns[role], dtype=object)
    names = None if called is None else columns[called]
    return made_of(asked.name, features, classes, names, where=where, columns=wide)


def _wanted(columns: Mapping[str, Any], asked: Asked) -> tuple[str, ...]:
    """Return the columns of the training, in its order, whatever theirs is here.

    Raises:
        DataError: if one is missing.
    """
    if missing := missing_columns(Rows(asked.name, tuple(columns), [], []), asked.columns):
        raise complain(missing, asked.name)
    asked.left_out([name for name in columns if name not in asked.columns], "column", "is none of the training")
    return asked.columns


def _wide(columns: Mapping[str, Sequence[Any]], asked: Asked) -> tuple[str, ...]:
    """Return the columns that are features, and say which are not."""
    if asked.columns:
        here, then = (
            f"{shown(names[0])} to {shown(names[-1])}" for names in (list(columns) or ["none"], asked.columns)
        )
        raise DataError(
            f"{asked.name} has none of the columns of the training, {then}, but {here}; name them as they were there, "
            "as nothing else tells which is which"
        )
    found, out, told = feature_columns(columns)
    for reason, names in out.items():
        asked.left_out(names, "column", reason)
    if told:
        logger.info("%s: the features are the columns %s", asked.name, told)
    return tuple(found)


def _numbered(columns: Mapping[str, Sequence[Any]]) -> bool:
    """Return whether the columns without lists are features too, as they are numbered alike."""
    found, _, told = feature_columns({name: values for name, values in columns.items() if not _is_list(values[0])})
    return bool(found) and not told


def _is_list(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, str) and value.startswith("["))


def _lists(values: list[Any], name: str, asked: Asked, where: Sequence[str]) -> np.ndarray:
    rows = []
    for place, value in zip(where, values, strict=True):
        try:
            row = json.loads(value) if isinstance(value, str) else value
            if any(isinstance(number, bool | str) for number in row):
                raise ValueError
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


def _numbers(values: list[Any], name: str, asked: Asked, where: Sequence[str]) -> Sequence[float] | np.ndarray:
    at_once = plain_numbers(values) if isinstance(values[0], str) else None
    if at_once is not None:
        return at_once
    found = []
    for place, value in zip(where, values, strict=True):
        try:
            number = read_number(value) if isinstance(value, str) else value
            if isinstance(number, bool) or number is None:
                raise ValueError
            found.append(float(number))
        except (ValueError, TypeError):
            told = "an empty cell" if value in (None, "") else repr(shown(str(value)[:40]))
            raise DataError(
                f"{asked.name}, {place}: {told} in column {shown(name)!r} is no number such as 0.5, and every column "
                "beside classes and names is a feature; mend or drop it, or name the classes with --class-column"
            ) from None
    return found
