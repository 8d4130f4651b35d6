"""`fastadapt check TABLE`: each column of a table as it is understood, and whether it can be trained on."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro

from fastadapt.commands.table_options import TableOptions, speaks_of_a_table
from fastadapt.data.files import shown
from fastadapt.data.tables.columns import missing_columns
from fastadapt.data.tables.csv_rows import read_rows
from fastadapt.data.tables.fit_columns import Reading
from fastadapt.data.tables.missing import unused_words
from fastadapt.data.tables.overview import ColumnFacts, label_facts, overview
from fastadapt.data.tables.repeats import repeated_rows
from fastadapt.data.tables.rows import Rows
from fastadapt.data.tables.table_settings import PreparedTable
from fastadapt.errors import ConfigError, DataError


@dataclass(frozen=True, kw_only=True)
class CheckTableSettings(TableOptions):
    """Show each column of a table as it is understood, and whether it can be trained on."""

    table: tyro.conf.Positional[Path]
    """The file: CSV, or .xlsx or Parquet where openpyxl or pyarrow is installed."""
    task_column: str | None = None
    """The column whose values are the tasks; with --target it is seen whether training would take the table."""
    target: str | None = None
    """The column to predict."""
    json: bool = False
    """Print JSON."""


def is_asked_for(argv: Sequence[str]) -> bool:
    """Return whether the words after `check` name a file rather than a folder, or speak of a table."""
    beside = {"--backbone", "--split"}  # what follows is a file too, and never the table
    pairs = zip(["", *argv], argv, strict=False)
    words = [word for before, word in pairs if word and before not in beside]
    return any(speaks_of_a_table(["--data", word]) or speaks_of_a_table([word]) for word in words)


def main(argv: Sequence[str]) -> int:
    """Parse the command line, look, and return 1 if training would refuse the table."""
    settings = tyro.cli(CheckTableSettings, args=list(argv), prog="fastadapt check")
    rows = read_rows(settings.table, settings.encoding).filled()
    names = [settings.task_column, settings.target, *settings.categorical, *settings.ignore]
    absent = missing_columns(rows, [name for name in names if name is not None])
    words = (*settings.categorical, *((settings.task_column,) if settings.task_column in rows.header else ()))
    if settings.classification and settings.target in rows.header:
        words = (*words, str(settings.target))
    missing = None if settings.missing is None else tuple(word.lower() for word in settings.missing)
    columns = overview(rows, Reading(settings.decimal, settings.dates, missing), words)
    prepared, problems = (None, absent) if absent else _would_train(settings, rows, columns)
    if prepared is not None and prepared.data.preparation.labels:
        facts = label_facts(rows, prepared.data.preparation)
        columns = [facts if column.name == facts.name else column for column in columns]
    seen = [*rows.notes, *unused_words(rows.name, rows.columns(), missing)]
    seen += repeated_rows(rows, [name for name in rows.header if name not in settings.ignore])
    seen += [note for facts in columns for note in facts.notes]
    notes = seen if prepared is None else list(prepared.notes)
    told_as = _as_json if settings.json else _as_text
    print(told_as(settings, rows, columns, prepared, problems, notes))
    return 1 if problems else 0


def _would_train(
    settings: CheckTableSettings, rows: Rows, columns: list[ColumnFacts]
) -> tuple[PreparedTable | None, list[str]]:
    """Return what training would make of the table, or why it would refuse it."""
    if settings.task_column is None or settings.target is None:
        return None, [problem for facts in columns if facts.name not in settings.ignore for problem in facts.problems]
    try:
        return settings.prepared(settings.table, task=settings.task_column, target=settings.target, rows=rows), []
    except (DataError, ConfigError) as error:
        first, *rest = str(error).splitlines()
        return None, [line.strip() for line in rest] or [first]


def _as_json(
    settings: CheckTableSettings,
    rows: Rows,
    columns: list[ColumnFacts],
    prepared: PreparedTable | None,
    problems: list[str],
    notes: list[str],
) -> str:
    facts: dict[str, Any] = {
        "table": str(settings.table),
        "ok": not problems,
        "rows": len(rows),
        "columns": [asdict(column) for column in columns],
        "problems": problems,
        "notes": notes,
    }
    if prepared is not None:
        split = prepared.loaded.split
        facts["tasks"] = {"train": len(split.train), "val": len(split.val), "test": len(split.test)}
        facts["too small"] = dict(split.too_small)
        facts["left out"] = prepared.left_out
    return json.dumps(facts, indent=2)


def _as_text(
    settings: CheckTableSettings,
    rows: Rows,
    columns: list[ColumnFacts],
    prepared: PreparedTable | None,
    problems: list[str],
    notes: list[str],
) -> str:
    left_out = prepared.left_out if prepared is not None else {}
    lines = [f"{shown(settings.table)}: {len(rows):,} rows, {len(columns)} columns", ""]
    for facts in columns:
        role = _role(settings, facts.name, left_out)
        lines.append(f"  {shown(facts.name)}{f' ({role})' if role else ''}: {_in_words(facts)}")
    if problems:
        lines += ["", f"problems, for which training refuses the table ({len(problems)}):"]
        lines += [f"  {problem}" for problem in problems]
    if notes:
        lines += ["", "notes, which stop nothing:", *(f"  {note}" for note in notes)]
    return "\n".join([*lines, "", *_what_next(settings, prepared, problems)])


def _role(settings: CheckTableSettings, name: str, left_out: dict[str, str]) -> str:
    if name == settings.task_column:
        return "the tasks"
    if name == settings.target:
        return "the target"
    if name in settings.ignore:
        return "left out: --ignore"
    return f"left out: {left_out[name]}" if name in left_out else ""


def _in_words(facts: ColumnFacts) -> str:
    if facts.kind == "empty":
        return "empty"
    absent = f"; {facts.missing} missing" if facts.missing else ""
    if facts.problems and not facts.low:
        return f"not understood, such as {', '.join(repr(shown(cell)) for cell in facts.examples)}{absent}"
    if facts.kind in ("category", "label"):
        counts = ", ".join(f"{shown(name)!r} ({count})" for name, count in facts.counts.items())
        more = f" and {facts.values - len(facts.counts)} more" if facts.values > len(facts.counts) else ""
        kind = "label" if facts.kind == "label" else "categor"
        plural = {"label": "s", "categor": "ies"}[kind] if facts.values > 1 else {"label": "", "categor": "y"}[kind]
        return f"{facts.values} {kind}{plural}: {counts}{more}{absent}"
    examples = ", ".join(map(shown, facts.examples))
    return f"{facts.kind}s written as {facts.written}, {facts.low} to {facts.high}, such as {examples}{absent}"


def _what_next(settings: CheckTableSettings, prepared: PreparedTable | None, problems: list[str]) -> list[str]:
    table = shlex.quote(shown(settings.table))
    if problems:
        return ["can't be trained on as it is"]
    if prepared is None:
        return [
            "name the column of the tasks and the one to predict to see whether it can be trained on:",
            f"  fastadapt check {table} --task-column NAME --target NAME",
        ]
    split, data = prepared.loaded.split, prepared.data
    told = f"can be trained on: {len(split.train)} tasks train, {len(split.val)} validate, {len(split.test)} test"
    if split.too_small:
        told += f"; {len(split.too_small)} have fewer than {data.fewest} rows and are left out"
    count = data.preparation.inputs
    made = f"{count} input{'s' * (count != 1)}, target: " + (
        f"{len(data.preparation.labels)} labels" if data.preparation.labels else "amounts"
    )
    return [told, made, f"  fastadapt train --data {table} {' '.join(_options(settings))}"]


def _options(settings: CheckTableSettings) -> list[str]:
    """Return the words that make `train` do what was looked at."""
    words = ["--task-column", str(settings.task_column), "--target", str(settings.target)]
    usual = TableOptions()
    for name in vars(usual):
        value = getattr(settings, name)
        if value == getattr(usual, name):
            continue
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(option)
        else:
            words += [option, *map(str, value if isinstance(value, tuple) else (value,))]
    return [shlex.quote(word) for word in words]
