"""A table whose rows belong to tasks: one value of a column (a school, a shop, a patient) is one task.

    fastadapt train --data tasks.csv --task-column school --target score

Tasks are split into training, validation and test before anything is fitted. A drawn task takes K rows of one of them
to adapt on, and others of the same to be judged on.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from fastadapt.atomic import write_text
from fastadapt.data.files import shown
from fastadapt.data.names import composed, told_alike
from fastadapt.data.tables.columns import Preparation, missing_columns, raise_problems, without_value
from fastadapt.data.tables.evidence import Decimal
from fastadapt.data.tables.far_notes import far_targets
from fastadapt.data.tables.missing import is_missing
from fastadapt.data.tables.rows import Rows
from fastadapt.data.tables.spelling import spellings
from fastadapt.data.tables.values import Say
from fastadapt.errors import ConfigError, DataError
from fastadapt.judging.labels import IGNORED
from fastadapt.tasks import Task

Part = Literal["train", "val", "test"]
FEWEST_QUERIES = 5
"""Rows beyond the support that a task must have, or it is left out."""
FEWEST_TASKS = 6
"""Tasks without which there is nothing to split."""


@dataclass(frozen=True)
class TaskSplit:
    """Hold the names of the tasks of each part, and those that have too few rows with how many they have."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    too_small: Mapping[str, int] = field(default_factory=dict)

    def names(self, part: Part) -> tuple[str, ...]:
        """Return the names of a part's tasks."""
        return {"train": self.train, "val": self.val, "test": self.test}[part]

    @property
    def all_names(self) -> tuple[str, ...]:
        """The names of all tasks that are used."""
        return (*self.train, *self.val, *self.test)


def rows_of_tasks(rows: Rows, column: str, words: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Return the row numbers of each task, by its name.

    Args:
        rows: the table.
        column: the column whose values are the tasks.
        words: what says that a value is missing; None for `MISSING`.

    Raises:
        DataError: if there is no such column, the task of a row is missing, or one task has two spellings.
    """
    raise_problems(missing_columns(rows, [column]), rows)
    found: dict[str, list[int]] = {}
    cells = rows.column(column)
    absent = [row for row, name in enumerate(cells) if is_missing(name, words)]
    problems = without_value(rows, absent, f"the task {shown(column)!r}", cells)
    for row, name in enumerate(cells):
        found.setdefault(name, []).append(row)
    for name, other in list(_whole_numbers(found).items())[:3]:
        a, b = rows.lines[found[other][0]], rows.lines[found[name][0]]
        told = f"{rows.name}: the tasks {shown(other)!r} (line {a}) and {shown(name)!r} (line {b}) may be one"
        problems.append(f"{told}; write them alike")
    raise_problems(problems, rows)
    return {name: np.array(numbers) for name, numbers in found.items()}


def _whole_numbers(names: Collection[str]) -> dict[str, str]:
    """Return the tasks that are spelt as whole numbers in two ways."""
    return spellings([*names, ""])  # beside a word that is none, "yes" and "y" are two names


def near_tasks(names: Collection[str]) -> list[str]:
    """Return a sentence if tasks look alike and are two."""
    return told_alike("the tasks", names, "write them alike if they are one")


def counting_columns(rows: Rows, names: Iterable[str]) -> list[str]:
    """Return a sentence for each of the columns that counts the rows, as an index does."""
    notes = []
    for name in names:
        cells = rows.column(name)
        start = int(cells[0]) if cells[0].isdecimal() else None
        if start is not None and len(cells) > 2 and all(cell == str(start + i) for i, cell in enumerate(cells)):
            told = f"column {shown(name)!r} counts the rows ({cells[0]}, {cells[1]}, ...) and is used as a number"
            notes.append(f"{told}; give --ignore {shown(name)} if it is an index")
    return notes


def split_tasks(
    sizes: Mapping[str, int], *, fewest: int, seed: int = 0, val: int | None = None, test: int | None = None
) -> TaskSplit:
    """Split tasks into training, validation and test.

    The order is that of a hash of seed and name, so it depends neither on the order of the rows nor on a version of
    anything.

    Args:
        sizes: the number of rows of each task.
        fewest: rows that a task must have; smaller ones are left out, and listed.
        seed: another seed is another split.
        val: validation tasks; None takes 15 %, at least 2.
        test: test tasks; None takes 20 %, at least 2.

    Raises:
        DataError: if too few tasks are large enough.
        ConfigError: if no training tasks would be left.

    Example:
        >>> split = split_tasks(dict.fromkeys("abcdefghij", 20), fewest=15)
        >>> len(split.train), len(split.val), len(split.test)
        (6, 2, 2)
    """
    small = {name: size for name, size in sorted(sizes.items()) if size < fewest}
    names = [name for name in sizes if name not in small]
    if len(names) < FEWEST_TASKS:
        largest = max(sizes.values(), default=0)
        raise DataError(
            f"{len(names)} of {len(sizes)} tasks have the {fewest} rows that are needed (the largest has {largest}), "
            f"and there must be {FEWEST_TASKS} to train, validate and test; take fewer --shots, or another task column"
        )
    val = max(2, round(0.15 * len(names))) if val is None else val
    test = max(2, round(0.2 * len(names))) if test is None else test
    if min(val, test) < 1 or val + test > len(names) - 2:
        raise ConfigError(
            f"of {len(names)} tasks {val} validate and {test} test, which leaves {len(names) - val - test}; each must "
            "be at least 1, and 2 must be left to train on"
        )
    order = shuffled(names, seed)
    parts = order[test + val :], order[test : test + val], order[:test]
    return TaskSplit(*(tuple(sorted(part)) for part in parts), too_small=small)


def shuffled(names: Iterable[str], seed: int) -> list[str]:
    """Return names in an order that depends on nothing but them and the seed."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())


@dataclass(frozen=True, eq=False)
class LoadedTable:
    """Hold a table as tensors.

    Args:
        x: `[n, d]`, the inputs of all rows; 0 in those of no task of the split.
        y: `[n, 1]`, the standardised target, or `[n]` of class numbers; likewise.
        rows: the row numbers of each task.
        split: which task is for what.
    """

    x: Tensor = field(repr=False)
    y: Tensor = field(repr=False)
    rows: Mapping[str, np.ndarray] = field(repr=False)
    split: TaskSplit

    def tasks(self, part: Part) -> dict[str, np.ndarray]:
        """Return the row numbers of each task of a part, in the order of their names."""
        return {name: self.rows[name] for name in self.split.names(part)}

    def all_rows(self, part: Part) -> np.ndarray:
        """Return the row numbers of all tasks of a part."""
        return np.concatenate(list(self.tasks(part).values()))

    def smallest(self, part: Part) -> int:
        """Return how many rows the smallest task of a part has."""
        return min(len(rows) for rows in self.tasks(part).values())


def load_table(rows: Rows, split: TaskSplit, preparation: Preparation, say: Say = lambda sentence: None) -> LoadedTable:
    """Return a table as tensors.

    Args:
        rows: the table.
        split: which task is for what.
        preparation: how its columns become numbers.
        say: takes a sentence about how rows beyond those of training tasks are read.

    Raises:
        DataError: if a value can't be used.
    """
    by_task = rows_of_tasks(rows, preparation.task, preparation.words)
    used = sorted(row for name in split.all_names for row in by_task.get(name, np.array([], dtype=int)).tolist())
    made = preparation.samples(rows.only(used), say=say)
    x, y = (part.new_zeros(len(rows), *part.shape[1:]) for part in made)
    x[used], y[used] = made
    return LoadedTable(x, y, by_task, split)


@dataclass(frozen=True, eq=False)
class TableTasks:
    """Draw tasks from the rows of a table.

    A task is one of the groups, each as likely as another; of its rows, in a random order, the first K are the support
    and the next Q the query. So the support of 5 shots is the beginning of that of 10.

    Args:
        x: `[n, d]`, the inputs of all rows.
        y: `[n, ...]`, their targets.
        groups: the row numbers of each task.
        shots: support rows K; one of several is drawn for each task.
        queries: query rows Q, which every group must have beyond the largest K.
        known: mark queries whose label no support row has, for a method that answers with labels of these alone;
            one at least is of such a label, which takes the place of the first where chance has drawn none.

    Raises:
        ConfigError: if a setting is outside its range.
        DataError: if there is no group, or one has too few rows, or with `known` no two of one label.

    Example:
        >>> import torch
        >>> groups = [np.arange(8), np.arange(8, 20)]
        >>> source = TableTasks(torch.zeros(20, 3), torch.zeros(20, 1), groups, shots=(5,), queries=3)
        >>> task = source.sample(np.random.default_rng(0))
        >>> task.support[0].shape, task.query[1].shape
        (torch.Size([5, 3]), torch.Size([3, 1]))
    """

    x: Tensor = field(repr=False)
    y: Tensor = field(repr=False)
    groups: "list[np.ndarray]" = field(repr=False)
    shots: tuple[int, ...] = (10,)
    queries: int = 10
    known: bool = False

    def __post_init__(self) -> None:
        """Check the settings."""
        check_shots(self.shots)
        if self.queries < 0:
            raise ConfigError(f"queries must be at least 0, got {self.queries}")
        needed = max(self.shots) + self.queries
        small = [len(group) for group in self.groups if len(group) < needed]
        if small or not self.groups:
            found = f"{len(small)} of {len(self.groups)} have fewer, one of them {min(small, default=0)}"
            raise DataError(f"every task needs {needed} rows for support and query; {found}")
        alone = sum(len(torch.unique(self.y[group])) == len(group) for group in self.groups) if self.known else 0
        if alone:
            raise DataError(
                f"{alone} of {len(self.groups)} tasks have no two rows of one label, and a method that compares rows "
                "has nothing to learn from them; choose --method maml, or a column with fewer labels"
            )

    def sample(self, rng: np.random.Generator) -> Task:
        """Return one task: support `(x: [K, d], y: [K, ...])` and a query of Q rows of the same form."""
        group = self.groups[rng.integers(len(self.groups))]
        k = self.shots[rng.integers(len(self.shots))]
        order = group[rng.permutation(len(group))]
        support, query = order[:k], order[k : k + self.queries]
        if not self.known:
            return Task((self.x[support], self.y[support]), (self.x[query], self.y[query]))
        asked = answerable(self.y[support].unsqueeze(0), self.y[query].unsqueeze(0))[0]
        if bool((asked == IGNORED).all()):
            support, query = _of_one_label(order, self.y, k, self.queries)
            asked = answerable(self.y[support].unsqueeze(0), self.y[query].unsqueeze(0))[0]
        return Task((self.x[support], self.y[support]), (self.x[query], asked))


def answerable(y: Tensor, asked: Tensor) -> Tensor:
    """Return the labels of queries, `[T, Q]`, with -100 for those that no support row of their task has.

    Example:
        >>> answerable(torch.tensor([[0, 2]]), torch.tensor([[2, 1, 0]]))
        tensor([[   2, -100,    0]])
    """
    return torch.where((asked.unsqueeze(2) == y.unsqueeze(1)).any(2), asked, IGNORED)


def _of_one_label(order: np.ndarray, y: Tensor, k: int, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Return support and query rows, of which the first of each have one label."""
    labels = y[order].tolist()
    second = next(place for place, label in enumerate(labels) if label in labels[:place])
    first = labels.index(labels[second])
    rest = [row for place, row in enumerate(order) if place not in (first, second)]
    return np.array([order[first], *rest[: k - 1]]), np.array([order[second], *rest[k - 1 : k + queries - 2]])


def check_shots(shots: tuple[int, ...]) -> None:
    """Check numbers of support rows.

    Raises:
        ConfigError: if there are none, one is below 1, or one comes twice.
    """
    if not shots or min(shots) < 1 or len(set(shots)) < len(shots):
        raise ConfigError(f"shots must be different whole numbers of at least 1, got {shots}")


def write_split(path: Path, split: TaskSplit, facts: Mapping[str, Any]) -> None:
    """Write which task was for what, as JSON."""
    write_text(path, json.dumps({**facts, **asdict(split)}, indent=1) + "\n")


def read_support(
    rows: Rows,
    preparation: Preparation,
    shots: int | None = None,
    decimal: Decimal = "auto",
    say: Say = lambda sentence: None,
) -> tuple[Tensor, Tensor]:
    """Return the support set `(x, y)` that a table of one new task holds, the first `shots` rows or all.

    The task column may be missing there; if it is there, it must have one value.

    Args:
        rows: the table.
        preparation: how its columns become numbers.
        shots: how many of its rows.
        decimal: the decimal mark, where the cells leave it open.
        say: takes a sentence about how the table is read.

    Raises:
        DataError: if the table has rows of several tasks or too few, or a value can't be used.
    """
    rows = rows.filled()
    if composed(preparation.task) in rows.header:
        names = sorted(set(rows.column(preparation.task)))
        if len(names) > 1:
            listed = ", ".join(map(shown, names[:3]))
            raise DataError(
                f"{rows.name} has rows of {len(names)} tasks in column {shown(preparation.task)!r} ({listed}, ...); "
                "adapt to one at a time"
            )
    if shots is not None and len(rows) < shots:
        raise DataError(f"{rows.name} has {len(rows)} of the {shots} rows asked for; add {shots - len(rows)}")
    x, y = preparation.samples(rows, decimal, say)
    if not preparation.labels:
        settled = preparation.settled(rows, decimal, target=True)[preparation.target]
        for note in far_targets(preparation, rows, settled):
            say(note)
    return (x, y) if shots is None else (x[:shots], y[:shots])
