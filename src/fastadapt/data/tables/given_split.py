"""A split of the tasks that the user made: a column of the table, or a file of names."""

import csv
import io
import json
from collections.abc import Collection, Mapping
from pathlib import Path

from fastadapt.data.files import complain, read_file, shown
from fastadapt.data.names import composed
from fastadapt.data.tables.decoding import decoded
from fastadapt.data.tables.rows import Rows
from fastadapt.data.tables.table import Part, TaskSplit, shuffled
from fastadapt.errors import DataError

PARTS: dict[str, Part] = {
    **dict.fromkeys(("train", "training", "trn", "tr", "fit", "meta-train", "metatrain", "meta_train"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "development", "meta-val", "meta_val"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "te", "eval", "evaluation", "holdout", "hold-out", "held-out",
                     "held_out", "heldout", "meta-test", "metatest", "meta_test"), "test"),
}  # fmt: skip
"""What the sides of a split are called, in any case."""
COLUMNS = ("split", "set", "subset", "part", "partition", "fold", "usage", "stage", "phase", "split_name", "data_split",
           "dataset", "data_set", "sample", "role", "mode", "type")  # fmt: skip
"""What a column is called that tells the sides; it is one if all its values are names of sides."""
_MOST_BYTES = 20_000_000
_LISTED = 3
Sides = dict[str, tuple[str, ...]]


def split_column(rows: Rows) -> str | None:
    """Return the column that tells which side a row is on; None if there is none.

    Example:
        >>> split_column(Rows("t.csv", ("shop", "Split"), [["a", "train"], ["b", "TEST"]], [2, 3]))
        'Split'
    """
    for name in rows.header:
        if name.casefold().strip() in COLUMNS:
            sides = {PARTS.get(cell.casefold()) for cell in rows.column(name)}
            if None not in sides and len(sides) > 1:
                return name
    return None


def sides_of_column(rows: Rows, column: str, task: str) -> Sides:
    """Return the tasks of each side, as a column says.

    Raises:
        DataError: if a value names no side, or a task is on two.
    """
    problems: list[str] = []
    on: dict[str, dict[Part, int]] = {}
    odd: dict[str, int] = {}
    for row, (name, cell) in enumerate(zip(rows.column(task), rows.column(column), strict=True)):
        part = PARTS.get(cell.casefold())
        if part is None:
            odd.setdefault(cell, row)
        else:
            on.setdefault(name, {}).setdefault(part, row)
    known = "train, val or test"
    for cell, row in list(odd.items())[:_LISTED]:
        problems.append(
            f"{rows.where(row)}: {shown(cell)!r} in column {shown(column)!r} is none of {known}; correct it"
        )
    both = {name: parts for name, parts in on.items() if len(parts) > 1}
    if both:
        name, parts = next(iter(both.items()))
        lines = " and ".join(f"{part} (line {rows.lines[row]})" for part, row in parts.items())
        told = f"{rows.name}: {len(both)} tasks are on two sides of {shown(column)!r}, such as {shown(name)!r}: {lines}"
        hint = "what is tested on must not have been trained on; give every task one side, or --split random"
        problems.append(f"{told}; {hint}")
    if problems:
        raise complain(problems, rows.name)
    return {part: tuple(sorted(n for n, parts in on.items() if part in parts)) for part in ("train", "val", "test")}


def read_sides(path: Path | str) -> Sides:
    r"""Return the names on each side, from a file that lists them.

    JSON, `{"train": [...], "val": [...], "test": [...]}`, as the `split.json` of a run; or lines of a name and its
    side, separated by a comma, semicolon or tab, with or without a header.

    Raises:
        DataError: if the file can't be used, or a name is on two sides.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w") as file:
        ...     _ = file.write("a,train\nb,train\nc,test\n"), file.flush()
        ...     read_sides(file.name)
        {'train': ('a', 'b'), 'val': (), 'test': ('c',)}
    """
    name = shown(path)
    text, _ = decoded(read_file(path, limit=_MOST_BYTES, kind="a list of names"), "auto", name)
    listed = _from_json(text, name) if text.lstrip().startswith("{") else _from_lines(text, name)
    on: dict[str, Part] = {}
    for word, part in listed:
        if on.setdefault(word, part) != part:
            raise DataError(f"{name} has {shown(word)!r} as {on[word]} and as {part}; give it one side")
    return {part: tuple(sorted(word for word, side in on.items() if side == part)) for part in ("train", "val", "test")}


def _from_json(text: str, name: str) -> list[tuple[str, Part]]:
    form = 'write {"train": [...], "val": [...], "test": [...]}'
    try:
        found = json.loads(text)
    except ValueError as error:
        raise DataError(f"{name} is not valid JSON ({error}); {form}") from None
    listed: list[tuple[str, Part]] = []
    for key, names in found.items():
        part = PARTS.get(key.casefold())
        if part is None:
            continue  # the facts that stand beside them in a run's split.json
        if not isinstance(names, list) or not all(isinstance(word, str | int) for word in names):
            raise DataError(f"{name}: {key!r} is no list of names; {form}")
        for word in names:
            listed.append((composed(str(word)), part))
    return listed


def _from_lines(text: str, name: str) -> list[tuple[str, Part]]:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    by = next((mark for mark in "\t;," if lines and mark in lines[0]), ",")
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO("\n".join(lines)), delimiter=by)]
    sided = [[PARTS.get(cell.casefold()) is not None for cell in row] for row in rows]
    if rows and len(rows) > 1 and not any(sided[0]):
        rows, sided = rows[1:], sided[1:]  # a header
    form = "write lines of a name and its side, such as shop7,train"
    if not rows or any(len(row) != 2 for row in rows):
        bad = next((i for i, row in enumerate(rows, start=1) if len(row) != 2), 1)
        raise DataError(f"{name}, line {bad} is no name with its side; {form}")
    column = next((i for i in (1, 0) if all(side[i] for side in sided)), None)
    if column is None:
        bad = next(row for row, side in zip(rows, sided, strict=True) if not side[1])
        raise DataError(f"{name}: {shown(bad[1])!r} is none of train, val or test; {form}")
    return [(row[1 - column], PARTS[row[column].casefold()]) for row in rows]


def split_given(
    sides: Mapping[str, Collection[str]], sizes: Mapping[str, int], *, fewest: int, source: str, seed: int = 0
) -> tuple[TaskSplit, list[str]]:
    """Return the split that the user made, and what is to be said of it.

    Where nothing validates, training tasks are taken for it, in the order of `shuffled`.

    Args:
        sides: the names on each side.
        sizes: the number of rows of each task.
        fewest: rows that a task must have; smaller ones are left out, and listed.
        source: where the sides are from, for messages.
        seed: of the choice of validation tasks.

    Raises:
        DataError: if a name is none of the tasks, or a side has too few.
    """
    problems = []
    unknown = [name for names in sides.values() for name in names if name not in sizes]
    if unknown:
        listed = ", ".join(map(shown, unknown[:_LISTED])) + (", ..." if len(unknown) > _LISTED else "")
        problems.append(f"{source} has {len(unknown)} names that are no tasks of the table ({listed}); correct them")
    placed = {name for names in sides.values() for name in names}
    notes = [f"the tasks are split as {source} says"]
    unplaced = [name for name in sizes if name not in placed]
    if unplaced:
        listed = ", ".join(map(shown, unplaced[:_LISTED])) + (", ..." if len(unplaced) > _LISTED else "")
        notes.append(f"{len(unplaced)} tasks that {source} does not name are left out: {listed}")
    small = {name: size for name, size in sorted(sizes.items()) if size < fewest and name in placed}
    parts = {
        part: [name for name in sorted(names) if name in sizes and name not in small] for part, names in sides.items()
    }
    for part, least in (("train", 2), ("test", 1)):
        if len(parts[part]) < least and not unknown:
            left = f", {len(small)} are too small" if small else ""
            told = f"by {source} {len(parts[part])} tasks with {fewest} rows are for {part}{left}"
            problems.append(f"{told}; {least} are needed: take fewer --shots, or --split random")
    if problems:
        raise complain(problems, source)
    if not parts["val"]:
        count = max(1, round(0.15 * len(parts["train"])))
        if len(parts["train"]) < count + 2:
            told = (
                f"by {source} no tasks validate, and of {len(parts['train'])} training tasks none can be taken for it"
            )
            raise DataError(f"{told}; name some as val, or give --split random")
        order = shuffled(parts["train"], seed)
        parts["val"], parts["train"] = order[:count], order[count:]
        notes.append(f"{source} names no tasks that validate: {count} of the training tasks do")
    return TaskSplit(*(tuple(sorted(parts[part])) for part in ("train", "val", "test")), too_small=small), notes


def sides_asked_for(split: str, rows: Rows, task: str) -> tuple[Sides | None, str, str | None]:
    """Return the sides that are asked for, where they are from, and the column that tells sides and so is no input.

    Args:
        split: "auto" takes a column that tells the sides, if there is one; "column" wants it; "random" leaves it. Or a
            file of names, or the name of a column.
        rows: the table.
        task: the column whose values are the tasks.

    Raises:
        DataError: if there is no such column or file, or a task is on two sides.
    """
    column = split_column(rows)
    if split == "random":
        return None, "", column
    if split in ("auto", "column") and (column is not None or split == "auto"):
        chosen = column
    elif split in rows.header and not Path(split).is_file():
        chosen = split
    elif split == "column":
        listed = ", ".join(COLUMNS[:5])
        raise DataError(
            f"{rows.name} has no column of train, val and test that is named {listed} or the like; name one"
        )
    else:
        return read_sides(split), f"file {shown(Path(split).name)}", column
    if chosen is None:
        return None, "", None
    return sides_of_column(rows, chosen, task), f"column {shown(chosen)}", chosen
