"""Tables in random notations are read as what they say, or refused in a sentence: never anything else."""

import collections

import numpy as np
import pytest

from fastadapt.data.tables.csv_rows import read_rows
from fastadapt.data.tables.fit_columns import fit_preparation
from fastadapt.data.tables.values import read_dates, read_numbers
from fastadapt.errors import DataError
from random_tables import random_table


def difference(told, path):
    """Return what was read otherwise than it was written without a word of it; "" for nothing, None for a refusal."""
    path.write_bytes(told.content)
    try:
        rows = read_rows(path, "cp1252" if told.encoding == "cp1252" else "auto")
        fitted = fit_preparation(rows, range(len(rows)), task="shop", target="y")
        prepared = fitted.preparation
        prepared.samples(rows)
    except DataError as error:
        assert "\n" in str(error) or len(str(error)) < 600
        return None
    if prepared.labels and not set(told.truth.get("y", ())) <= set(map(float, range(-99, 100))):
        return f"the target was taken for labels {prepared.labels[:5]}"
    made = {column.name: column for column in prepared.columns}
    for name, truth in told.truth.items():
        kind = told.kinds[name]
        if name == "y" and prepared.labels:
            continue
        if name == "y":
            values, _ = read_numbers(rows, "y", prepared.settled(rows, target=True)["y"])
        elif name not in made:
            if name not in fitted.left_out:
                return f"{name} is not there"
            continue
        elif kind == "word":
            seen = [cell if cell in made[name].categories else None for cell in rows.column(name)]
            wrong = [(a, b) for a, b in zip(seen, truth, strict=True) if a != b and a is not None]
            if made[name].holds != "category" or wrong:
                return f"{name} holds {made[name].holds}: {wrong[:3]}"
            continue
        elif made[name].holds != kind:
            return f"{name} is taken for {made[name].holds}"
        elif kind == "date":
            values, _ = read_dates(rows, name, made[name].written, "elapsed")
        else:
            values, _ = read_numbers(rows, name, made[name].settled)
        wanted = np.array([np.nan if value is None else value for value in truth])
        if any(note.startswith(f"column {name!r}: ") and "is read as" in note for note in fitted.notes):
            continue  # decided by the other columns, and said: a table of two locales
        if not np.allclose(values, wanted, rtol=1e-12, atol=1e-9, equal_nan=True):
            at = int(np.flatnonzero(~np.isclose(values, wanted, rtol=1e-12, atol=1e-9, equal_nan=True))[0])
            return f"{name}: {rows.column(name)[at]!r} is read as {values[at]}, and is {wanted[at]}"
    return ""


def outcomes(tmp_path, seeds):
    counts = collections.Counter()
    for seed in seeds:
        told = random_table(seed)
        found = difference(told, tmp_path / "t.csv")
        assert not found, f"{told.described}\n{found}"
        counts["refused" if found is None else "read"] += 1
    return counts


def test_a_share_of_random_tables(tmp_path):
    counts = outcomes(tmp_path, range(80))
    assert counts["read"] > 48  # a reader that refuses everything is of no use


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_thousand_random_tables(tmp_path):
    counts = outcomes(tmp_path, range(2000))
    assert counts["read"] > 480
