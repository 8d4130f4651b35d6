"""A table as the data of a run: how it was split and prepared is part of the run's configuration."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from fastadapt.arguments import added, argument, default_of
from fastadapt.data.files import shown
from fastadapt.data.names import all_composed, composed
from fastadapt.data.tables.columns import Preparation, missing_columns, raise_problems
from fastadapt.data.tables.content import same_table
from fastadapt.data.tables.csv_rows import read_rows
from fastadapt.data.tables.dates import DateOrder
from fastadapt.data.tables.decoding import Encoding
from fastadapt.data.tables.evidence import Decimal
from fastadapt.data.tables.far_notes import far_notes
from fastadapt.data.tables.fit_columns import Problem, Reading, fit_preparation
from fastadapt.data.tables.given_split import sides_asked_for, split_given
from fastadapt.data.tables.missing import unused_words
from fastadapt.data.tables.repeats import repeated_rows
from fastadapt.data.tables.rows import Rows
from fastadapt.data.tables.table import (
    FEWEST_QUERIES,
    LoadedTable,
    Part,
    TableTasks,
    TaskSplit,
    check_shots,
    counting_columns,
    load_table,
    near_tasks,
    rows_of_tasks,
    split_tasks,
)
from fastadapt.errors import ConfigError, DataError
from fastadapt.losses import CrossEntropy, Loss, ScaledMSE
from fastadapt.tasks import TaskSource

MOST_TRAIN_SUPPORT = 40
"""Rows of a training task for a method that needs no query (Reptile)."""


@dataclass(frozen=True)
class TableData:
    """Rows of a table that belong to tasks."""

    preparation: Preparation = dataclasses.field(default_factory=Preparation)
    """How columns become numbers."""
    file: str = ""
    """Name of the file, for people."""
    sha256: str = ""
    """Of the file's bytes."""
    encoding: Encoding = argument(read_rows, "encoding")
    every_shots: tuple[int, ...] = (10,)
    """Support rows K of a task; several are mixed in training and measured one by one."""
    queries: int = 100
    """Most query rows of a test task."""
    train_support: int | None = None
    """Support rows of a training task, where they are not K."""
    train_queries: int = 10
    """Query rows of a training or validation task; Reptile trains without."""
    split_seed: int = default_of(split_tasks, "seed")
    """Seed of the split into training, validation and test tasks."""
    val_tasks: int = 2
    """How many tasks validate."""
    test_tasks: int = 2
    """How many tasks test."""
    split: str = added("")
    """Where the user's own split is from, "column NAME" or "file NAME"; empty for one that the seed makes."""
    train_names: tuple[str, ...] = added(())
    """Training tasks of the user's own split."""
    val_names: tuple[str, ...] = added(())
    """Its validation tasks."""
    test_names: tuple[str, ...] = added(())
    """Its test tasks."""
    known: bool = added(False)
    """Whether queries of a label that no support row has don't count, as a method that compares can't answer them."""

    def __post_init__(self) -> None:
        check_shots(self.every_shots)
        if self.queries < 1:
            raise ConfigError(f"data.queries must be at least 1, as test tasks are judged on them; got {self.queries}")

    @property
    def fewest(self) -> int:
        """Rows that a task must have."""
        return max(self.every_shots) + FEWEST_QUERIES

    def load(self, root: Path | None = None, download: bool = False) -> LoadedTable:
        """Read the table again; pass the result to `source`.

        Args:
            root: the file, or the folder that it is in.
            download: ignored; a table is the user's own.

        Raises:
            DataError: if it is not the file that the run was trained on.
        """
        if root is None:
            raise DataError(f"this run was trained on {shown(self.file)}; give that file with --data")
        path = Path(root) / self.file if Path(root).is_dir() else Path(root)
        rows = read_rows(path, self.encoding).filled()
        if rows.sha256 != self.sha256 and not same_table(path, self.sha256):
            raise DataError(
                f"{rows.name} is not the {shown(self.file)} that this run was trained on (its SHA-256 is another), so "
                "its tasks would be split otherwise; give that file, or train on this one into another --run"
            )
        return load_table(rows, self._split(rows), self.preparation)

    def source(self, part: Part, loaded: Any = None) -> TaskSource:
        """Return the source of training, validation or test tasks, all of one size."""
        assert isinstance(loaded, LoadedTable)
        shots = (self.train_support,) if part == "train" and self.train_support is not None else self.every_shots
        queries = min(self.queries if part == "test" else self.train_queries, loaded.smallest(part) - max(shots))
        if part == "train" and self.train_support is not None:
            queries = 0
        return TableTasks(loaded.x, loaded.y, list(loaded.tasks(part).values()), shots, queries, self.known)

    @property
    def loss(self) -> Loss:
        """Cross-entropy of labels; the squared error of a number, which is told in the target's own units."""
        return CrossEntropy() if self.preparation.labels else ScaledMSE(self.preparation.std)

    @property
    def input(self) -> dict[str, Any]:
        """What one input is, for reading a user's own data."""
        return {"kind": "table", "inputs": self.preparation.inputs, "outputs": self.preparation.outputs}

    @property
    def ways(self) -> int | None:
        """Classes; None for a numeric target."""
        return len(self.preparation.labels) or None

    @property
    def shots(self) -> int:
        """Support rows of the smallest test task."""
        return min(self.every_shots)

    @property
    def train_shots(self) -> int:
        """Support rows of the largest training task."""
        return self.train_support or max(self.every_shots)

    def sizes(self, part: Part) -> dict[str, int | None]:
        """Return of the tasks of a part how many labels there are of all, for a method that tells them apart."""
        return {"ways": self.ways}

    @property
    def most_support(self) -> int:
        """Samples of the largest support set."""
        return self.train_shots

    classes: ClassVar[None] = None
    flat_batch: ClassVar[int] = 0

    def _split(self, rows: Rows) -> TaskSplit:
        if self.split:
            return TaskSplit(
                all_composed(self.train_names), all_composed(self.val_names), all_composed(self.test_names)
            )
        by_task = rows_of_tasks(rows, self.preparation.task, self.preparation.words)
        sizes = {name: len(numbers) for name, numbers in by_task.items()}
        return split_tasks(sizes, fewest=self.fewest, seed=self.split_seed, val=self.val_tasks, test=self.test_tasks)


@dataclass(frozen=True)
class PreparedTable:
    """Hold the settings that were made for a table, its tensors, the columns that say nothing, and what to say."""

    data: TableData
    loaded: LoadedTable
    left_out: dict[str, str]
    notes: tuple[str, ...] = ()


def prepare_table(
    path: Path | str,
    *,
    task: str,
    target: str,
    shots: Sequence[int] = TableData.every_shots,
    queries: int = TableData.queries,
    with_queries: bool = True,
    problem: Problem = default_of(fit_preparation, "problem"),
    categorical: Sequence[str] = (),
    ignore: Sequence[str] = (),
    encoding: Encoding = TableData.encoding,
    split_seed: int = TableData.split_seed,
    val: int | None = None,
    test: int | None = None,
    split: str = "auto",
    decimal: Decimal = Reading.decimal,
    dates: DateOrder = Reading.dates,
    missing: Sequence[str] | None = Reading.words,
    rows: Rows | None = None,
) -> PreparedTable:
    """Read a table, split its tasks, fit the preparation on the training tasks and return all of it.

    Args:
        path: the file: CSV, or .xlsx or Parquet where openpyxl or pyarrow is installed.
        task: the column whose values are the tasks: schools, shops, patients.
        target: the column to predict.
        shots: labelled rows of a new task, K; with several numbers, training mixes them and each is measured.
        queries: most rows on which a held-out task is judged.
        with_queries: whether training tasks have a query (MAML) or a larger support instead (Reptile).
        problem: what the target is.
        categorical: columns of numbers that are categories.
        ignore: columns that are not to be used.
        encoding: how the file's characters are written, where it is not UTF-8; a byte-order mark and valid UTF-8 win.
        split_seed: another seed is another split into training, validation and test tasks.
        val: validation tasks; None takes 15 %.
        test: held-out tasks; None takes 20 %.
        split: which tasks train, validate and test. "auto" takes a column named split (or set, fold, ...) of train, val
            and test if there is one, and the seed if not; "column" wants the column; "random" takes the seed. Or a file
            that lists names and sides, or the name of a column.
        decimal: the decimal mark of numbers such as 1,234 where nothing in the table tells; "point" or "comma".
        dates: "day-first" or "month-first", for dates such as 03/04/2024 where nothing in their column tells.
        missing: the words that say that a value is missing, in any case; None takes the usual ones (NA, null, none, ?,
            - and others). A number is meant by its value, however it is written. An empty cell always is missing.
        rows: the table, if it was read already.

    Raises:
        DataError: if the file can't be used.
        ConfigError: if a setting can't.
    """
    rows = (rows or read_rows(path, encoding)).filled()
    task, target = composed(task), composed(target)
    categorical, ignore = all_composed(categorical), all_composed(ignore)
    raise_problems(missing_columns(rows, [task, target, *categorical, *ignore]), rows)
    draft = TableData(every_shots=tuple(shots), queries=queries)
    reading = Reading(decimal, dates, None if missing is None else tuple(word.lower() for word in missing))
    by_task = rows_of_tasks(rows, task, reading.words)
    sizes = {name: len(numbers) for name, numbers in by_task.items()}
    sides, source, sided = sides_asked_for(split, rows, task)
    notes = [*rows.notes, *unused_words(rows.name, rows.columns(), reading.words), *near_tasks(sizes)]
    if sides is None:
        parts = split_tasks(sizes, fewest=draft.fewest, seed=split_seed, val=val, test=test)
    else:
        if val is not None or test is not None:
            raise ConfigError(
                f"--val-tasks and --test-tasks divide at random, and the split is that of {source}; leave them out"
            )
        parts, told = split_given(sides, sizes, fewest=draft.fewest, source=source, seed=split_seed)
        notes += told
    training = sorted(row for name in parts.train for row in by_task[name].tolist())
    hidden = [sided] if sided is not None and sided not in (task, target, *ignore, *categorical) else []
    fitted = fit_preparation(
        rows, training, task=task, target=target, categorical=categorical, ignore=[*ignore, *hidden], problem=problem,
        reading=reading, used=sorted(row for name in parts.all_names for row in by_task[name].tolist()),
    )  # fmt: skip
    smallest = min(sizes[name] for name in parts.train)
    own = {f"{part}_names": parts.names(part) for part in ("train", "val", "test")} if source else {}
    data = dataclasses.replace(
        draft,
        preparation=fitted.preparation,
        file=Path(path).name,
        sha256=rows.sha256,
        encoding=encoding,
        train_support=None if with_queries else min(smallest, max(MOST_TRAIN_SUPPORT, *shots)),
        train_queries=min(20, queries),
        split_seed=split_seed,
        val_tasks=len(parts.val),
        test_tasks=len(parts.test),
        split=source,
        **own,
    )
    told_later: list[str] = []
    loaded = load_table(rows, parts, fitted.preparation, told_later.append)
    left_out = fitted.left_out | dict.fromkeys(hidden, "it tells the sides of a split")
    notes += counting_columns(rows, (c.name for c in fitted.preparation.columns if c.holds == "number"))
    used = dict.fromkeys((task, target, *(column.name for column in fitted.preparation.columns)))
    notes += repeated_rows(rows, list(used))
    notes += [*fitted.notes, *far_notes(rows, fitted.preparation), *told_later]
    return PreparedTable(data, loaded, left_out, tuple(notes))
