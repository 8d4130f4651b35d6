"""Fit a `Preparation` on the rows of training tasks: kinds of columns, means and deviations, categories, labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fastadapt.data.files import shown
from fastadapt.data.tables.columns import (
    Column,
    Preparation,
    is_missing,
    missing_columns,
    raise_problems,
    read_number,
    read_numbers,
)
from fastadapt.data.tables.csv_rows import Rows
from fastadapt.errors import ConfigError, DataError

Problem = Literal["auto", "regression", "classification"]
MOST_CATEGORIES = 50
"""Categories of a column that get a place of their own, the most frequent first."""
MOST_LABELS = 100
FEW_VALUES = 10
"""A target of so few different whole numbers is taken for labels."""


@dataclass(frozen=True)
class Fitted:
    """Hold a preparation, and the columns that were left out since they say nothing: name and reason."""

    preparation: Preparation
    left_out: dict[str, str]


def fit_preparation(
    rows: Rows,
    training: Sequence[int],
    *,
    task: str,
    target: str,
    categorical: Sequence[str] = (),
    ignore: Sequence[str] = (),
    problem: Problem = "auto",
) -> Fitted:
    """Fit how a table becomes numbers.

    Nothing but the list of labels depends on a row outside `training`. A category is known if it occurs in at least
    two training tasks: what occurs in one can't serve another, and gives the place of the unknown something to learn
    from. A column with one value only is left out.

    Args:
        rows: the table.
        training: the rows of the training tasks.
        task: the column whose values are the tasks.
        target: the column to predict.
        categorical: columns that are categories although they hold numbers.
        ignore: columns that are no inputs.
        problem: what the target is; "auto" takes text, and at most 10 different whole numbers, for labels.

    Raises:
        DataError: if columns are missing, hold a mixture of numbers and text, or say nothing; all of it at once.
        ConfigError: if a column is named for two things.
    """
    raise_problems(missing_columns(rows, [task, target, *categorical, *ignore]), rows)
    _check_names(task, target, categorical, ignore)
    # of the other rows not even the kind of a value is looked at
    seen = Rows(rows.name, rows.header, [rows.cells[i] for i in training], [rows.lines[i] for i in training],
                rows.decimal_comma, rows.sha256)  # fmt: skip
    tasks = seen.column(task)
    columns: list[Column] = []
    left_out: dict[str, str] = {}
    problems: list[str] = []
    for name in rows.header:
        if name in (task, target) or name in ignore:
            continue
        kind, found = ("category", []) if name in categorical else _kind(seen, name, f"--categorical {shown(name)}")
        problems += found
        if found:
            continue
        column = _number_column(seen, name) if kind == "number" else _category_column(seen, name, tasks)
        if isinstance(column, str):
            left_out[name] = column
        else:
            columns.append(column)
    labels, mean, std, found = _target(rows, seen, target, problem)
    raise_problems([*problems, *found], rows)
    if not columns:
        reasons = "; ".join(f"{shown(name)!r}: {reason}" for name, reason in list(left_out.items())[:5])
        raise DataError(f"{rows.name} has no column to predict {shown(target)!r} from ({reasons or 'none is left'})")
    return Fitted(Preparation(task, target, tuple(columns), labels, mean, std), left_out)


def _check_names(task: str, target: str, categorical: Sequence[str], ignore: Sequence[str]) -> None:
    if task == target:
        raise ConfigError(f"the tasks and the target are both read from {task!r}; name two columns")
    both = [name for name in (task, target) if name in categorical or name in ignore]
    both += [name for name in categorical if name in ignore]
    if both:
        raise ConfigError(f"{both[0]!r} is named for two things; a column is the task, the target, or an input")


def _kind(rows: Rows, name: str, option: str) -> tuple[Literal["number", "category"], list[str]]:
    """Return what a column holds; a column of numbers with a little text in it is a mistake to be mended."""
    cells = [(row, cell) for row, cell in enumerate(rows.column(name)) if not is_missing(cell)]
    odd = [(row, cell) for row, cell in cells if read_number(cell, rows.decimal_comma) is None]
    if 2 * len(odd) >= len(cells):
        return ("category" if odd else "number"), []
    if not odd:
        infinite = read_numbers(rows, name)[1]
        return "number", infinite
    row, cell = odd[0]
    found = f"column {shown(name)!r} holds numbers, but text in {len(odd)} of {len(cells)} rows"
    return "number", [f"{found} ({shown(cell)!r} in line {rows.lines[row]}); correct them, or give {option}"]


def _number_column(rows: Rows, name: str) -> Column | str:
    values, _ = read_numbers(rows, name)
    there = values[~np.isnan(values)]
    if there.size == 0:
        return "every value is missing"
    mean, std = float(there.mean()), float(there.std())
    missing = there.size < values.size
    if std <= 1e-9 * max(1.0, abs(mean)):
        if not missing:
            return "every value is the same"
        std = 1.0  # whether the value is there may still say something
    return Column(name, "number", mean=mean, std=std, missing=missing)


def _category_column(rows: Rows, name: str, tasks: Sequence[str]) -> Column | str:
    counts: dict[str, int] = {}
    found_in: dict[str, set[str]] = {}
    missing = False
    for cell, task in zip(rows.column(name), tasks, strict=True):
        if is_missing(cell):
            missing = True
            continue
        counts[cell] = counts.get(cell, 0) + 1
        found_in.setdefault(cell, set()).add(task)
    shared = [category for category in counts if len(found_in[category]) > 1]
    if not shared:
        return "every value is missing" if not counts else "no category occurs in two training tasks"
    if len(counts) == 1 and not missing:
        return "every value is the same"
    known = sorted(shared, key=lambda category: (-counts[category], category))[:MOST_CATEGORIES]
    return Column(name, "category", categories=tuple(sorted(known)), missing=missing)


def _target(rows: Rows, seen: Rows, target: str, problem: Problem) -> tuple[tuple[str, ...], float, float, list[str]]:
    """Return the labels, or mean and deviation, and what is wrong with the target."""
    if problem == "auto":
        kind, found = _kind(seen, target, "--classification")
        if found:
            return (), 0.0, 1.0, found
        problem = "classification" if kind == "category" or _few_values(seen, target) else "regression"
    if problem == "classification":
        labels = sorted({cell for cell in rows.column(target) if not is_missing(cell)}, key=_label_order)
        if 2 <= len(labels) <= MOST_LABELS:
            return tuple(labels), 0.0, 1.0, []
        wanted = f"classification needs 2 to {MOST_LABELS}"
        return (), 0.0, 1.0, [f"{rows.name}: the target {shown(target)!r} has {len(labels)} labels; {wanted}"]
    values, found = read_numbers(seen, target)
    there = values[~np.isnan(values)]
    if not found and (there.size == 0 or there.std() <= 1e-9 * max(1.0, abs(there.mean()))):
        found = [f"{rows.name}: the target {shown(target)!r} has one value in all training tasks; nothing is to learn"]
    return ((), 0.0, 1.0, found) if found else ((), float(there.mean()), float(there.std()), [])


def _few_values(rows: Rows, name: str) -> bool:
    values, _ = read_numbers(rows, name)
    different = np.unique(values[~np.isnan(values)])
    whole = bool((different == np.round(different)).all())
    return whole and 2 <= different.size <= FEW_VALUES and 10 * different.size <= len(rows)


def _label_order(label: str) -> tuple[float, str]:
    value = read_number(label)
    return (value if value is not None and value == value else float("inf"), label)
