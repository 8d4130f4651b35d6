"""What `train` and `check` ask of a table, and what every command asks of how it is written."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastadapt.arguments import argument
from fastadapt.data.tables.dates import DateOrder
from fastadapt.data.tables.decoding import Encoding
from fastadapt.data.tables.evidence import Decimal
from fastadapt.data.tables.rows import Rows
from fastadapt.data.tables.table_settings import PreparedTable, prepare_table
from fastadapt.errors import ConfigError

_ENDINGS = (".csv", ".tsv", ".xlsx", ".parquet")


def speaks_of_a_table(argv: Sequence[str]) -> bool:
    """Return whether the words of a command line name a table, or columns of one.

    Example:
        >>> speaks_of_a_table(["--data", "t.csv"]), speaks_of_a_table(["--data", "photos", "--run", "runs/t.csv"])
        (True, False)
    """
    words = [word for given in argv for word in given.split("=", 1)]
    if any(word.replace("_", "-") in ("--task-column", "--target") for word in words):
        return True
    preset = not argv[0].startswith("-") if argv else False  # whose data are elsewhere
    named = [word for before, word in itertools.pairwise(words) if before == "--data" and not preset]
    return any(word.lower().endswith(_ENDINGS) or Path(word).is_file() for word in named)


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """What is asked of a table whose rows belong to tasks."""

    shots: tuple[int, ...] = argument(prepare_table, "shots", (5, 10))  # a comparison at two sizes says more
    queries: int = argument(prepare_table, "queries")
    classification: bool = False
    """Take the values of the target for labels."""
    regression: bool = False
    """Take the values of the target for amounts, however few there are."""
    categorical: tuple[str, ...] = argument(prepare_table, "categorical")
    ignore: tuple[str, ...] = argument(prepare_table, "ignore")
    encoding: Encoding = argument(prepare_table, "encoding")
    decimal: Decimal = argument(prepare_table, "decimal")
    dates: DateOrder = argument(prepare_table, "dates")
    missing: tuple[str, ...] | None = argument(prepare_table, "missing")
    split: str = argument(prepare_table, "split")
    test_tasks: int | None = argument(prepare_table, "test")
    val_tasks: int | None = argument(prepare_table, "val")
    split_seed: int = argument(prepare_table, "split_seed")

    def prepared(
        self, path: Path, *, task: str, target: str, with_queries: bool = True, rows: Rows | None = None
    ) -> PreparedTable:
        """Read and prepare a table as the options say.

        Args:
            path: the file.
            task: the column of tasks.
            target: the column to predict.
            with_queries: whether training tasks have a query.
            rows: the table, if it was read already.

        Raises:
            DataError: if the file can't be used.
            ConfigError: if an option can't.
        """
        if self.classification and self.regression:
            raise ConfigError("--classification and --regression exclude each other; give one, or none")
        options: dict[str, Any] = {
            "problem": "classification" if self.classification else "regression" if self.regression else "auto",
            "val": self.val_tasks,
            "test": self.test_tasks,
        }
        same = (
            "shots",
            "queries",
            "categorical",
            "ignore",
            "encoding",
            "decimal",
            "dates",
            "missing",
            "split",
            "split_seed",
        )
        options |= {name: getattr(self, name) for name in same}
        return prepare_table(path, task=task, target=target, with_queries=with_queries, rows=rows, **options)
