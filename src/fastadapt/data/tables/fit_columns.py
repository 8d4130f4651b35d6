"""Fit a `Preparation` on the rows of training tasks: kinds of columns, means and deviations, categories, labels."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from fastadapt.data.files import shown
from fastadapt.data.names import told_alike
from fastadapt.data.tables.column import Column
from fastadapt.data.tables.columns import Preparation, missing_columns, raise_problems
from fastadapt.data.tables.dates import PARTS, DateOrder, read_date, zones_of
from fastadapt.data.tables.evidence import Decimal, Evidence, Settled, look, settle
from fastadapt.data.tables.kinds import Kind, kind_of
from fastadapt.data.tables.missing import LABELS, is_missing
from fastadapt.data.tables.notation import read_number
from fastadapt.data.tables.rows import Rows
from fastadapt.data.tables.spelling import apart, plain, spellings
from fastadapt.data.tables.spread import are_same, mean_and_std
from fastadapt.data.tables.values import read_dates, read_numbers
from fastadapt.errors import ConfigError, DataError

Problem = Literal["auto", "regression", "classification"]
MOST_CATEGORIES = 50
"""Categories of a column that get a place of their own, the most frequent first."""
_MANY_UNKNOWN = 0.1  # of the rows: fewer are no loss to speak of
MOST_LABELS = 100
FEW_VALUES = 10
"""A target of so few different whole numbers is taken for labels."""
_SPREAD = 1e15  # of a target, whose squared errors are told in 32 bits
_UNNAMED = re.compile(r"column \d+|Unnamed: \d+")  # the latter is how pandas calls it when it reads one
_WHOLE = re.compile(r"[+-]?\d+(?:\.0+)?")


@dataclass(frozen=True)
class Fitted:
    """Hold a preparation, the columns that were left out since they say nothing: name and reason, and what to say."""

    preparation: Preparation
    left_out: dict[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """Say how cells are read, where they leave it open.

    Args:
        decimal: the decimal mark of numbers that could have either.
        dates: whether day or month is first in dates that could have either.
        words: what says that a value is missing, in lower case; None for `MISSING`. An empty cell always does.
    """

    decimal: Decimal = "auto"
    dates: DateOrder = "auto"
    words: tuple[str, ...] | None = None


@dataclass
class _Findings:
    """Gather what is wrong, what is to be said, and what says nothing."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def fit_preparation(
    rows: Rows,
    training: Sequence[int],
    *,
    task: str,
    target: str,
    categorical: Sequence[str] = (),
    ignore: Sequence[str] = (),
    problem: Problem = "auto",
    reading: Reading = Reading(),  # frozen
    used: Sequence[int] | None = None,
) -> Fitted:
    """Fit how a table becomes numbers.

    Nothing but the list of labels and the zones of times depends on a row outside `training`. A category is known if it
    occurs in at least two training tasks: what occurs in one can't serve another, and gives the place of the unknown
    something to learn from. A column with one value only, or without a name, is left out.

    Args:
        rows: the table.
        training: the rows of the training tasks.
        task: the column whose values are the tasks.
        target: the column to predict.
        categorical: columns that are categories although they hold numbers.
        ignore: columns that are no inputs.
        problem: what the target is; "auto" takes text, and at most 10 different whole numbers, for labels.
        reading: how cells are read that leave it open.
        used: the rows of all tasks that train, validate or test; None for all rows.

    Raises:
        DataError: if columns are missing, hold a mixture of numbers and text, or say nothing; all of it at once.
        ConfigError: if a column is named for two things.
    """
    raise_problems(missing_columns(rows, [task, target, *categorical, *ignore]), rows)
    _check_names(task, target, categorical, ignore)
    seen = rows.only(list(training))  # of the other rows not even the kind of a value is looked at
    rows = rows if used is None else rows.only(list(used))
    found = _Findings()
    kinds: dict[str, Kind] = {}
    for name in rows.header:
        if name in (task, target) or name in ignore:
            continue
        if _UNNAMED.fullmatch(name) and name not in categorical:
            found.left_out[name] = "it has no name in the header; name it if it is to be used"
        elif name in categorical:
            kinds[name] = Kind("category")
        else:
            kinds[name] = kind_of(seen, name, f"--categorical {shown(name)}", reading.words, reading.dates)
    goal = _kind_of_target(seen, target, problem, reading)
    for kind in (*kinds.values(), goal):
        found.problems += kind.problems
        found.notes += kind.notes
    evidence = [kind.evidence for kind in (*kinds.values(), goal) if kind.evidence is not None]
    settled, problems, notes = settle(evidence, seen, reading.decimal)
    found.problems += problems
    found.notes += notes
    columns: list[Column] = []
    for name, kind in kinds.items():
        if not kind.problems:
            made_of = _columns(seen, name, kind, settled.get(name), task, found, reading)
            columns += _with_zones(made_of, rows, found) if kind.holds == "date" else made_of
    made = _target(rows, seen, target, goal, settled.get(target), found, reading)
    raise_problems(found.problems, rows)
    if not columns:
        reasons = "; ".join(f"{shown(name)!r}: {reason}" for name, reason in list(found.left_out.items())[:5])
        raise DataError(f"{rows.name} has no column to predict {shown(target)!r} from ({reasons or 'none is left'})")
    preparation = replace(made, task=task, target=target, columns=tuple(columns), words=reading.words)
    return Fitted(preparation, found.left_out, tuple(found.notes))


def _check_names(task: str, target: str, categorical: Sequence[str], ignore: Sequence[str]) -> None:
    if task == target:
        raise ConfigError(f"the tasks and the target are both read from {task!r}; name two columns")
    both = [name for name in (task, target) if name in categorical or name in ignore]
    both += [name for name in categorical if name in ignore]
    if both:
        raise ConfigError(f"{both[0]!r} is named for two things; a column is the task, the target, or an input")


def _columns(
    seen: Rows, name: str, kind: Kind, settled: Settled | None, task: str, found: _Findings, reading: Reading
) -> list[Column]:
    """Return what one column of the table becomes; none, with the reason among what was found, if it says nothing."""
    made: list[Column] = []
    if kind.holds == "category":
        fitted = _category_column(seen, name, task, found, reading.words)
    elif kind.holds == "date":
        fitted, made = (
            "every value is the same or missing",
            _date_columns(seen, name, kind.written, found, reading.words),
        )
    elif settled is None:
        return []
    else:
        fitted = _number_column(seen, name, settled, found, reading.words)
    if isinstance(fitted, Column):
        made = [fitted]
    if not made:
        found.left_out[name] = str(fitted)
    return made


def _number_column(
    rows: Rows, name: str, settled: Settled, found: _Findings, words: Collection[str] | None
) -> Column | str:
    values, problems = read_numbers(rows, name, settled, words)
    found.problems += problems
    column = Column(name, written=settled.written, unit=settled.unit, stored=settled.stored)
    fitted = _standardised(values, column)
    return fitted if isinstance(fitted, Column) else fitted + _beyond_digits(rows, name, words)


def _beyond_digits(rows: Rows, name: str, words: Collection[str] | None) -> str:
    """Return what else is to be said of numbers that are the same: whether their texts are not."""
    texts = list(dict.fromkeys(plain(cell) for cell in rows.column(name) if not is_missing(cell, words)))
    if len({cell.strip("0+").rstrip(".,") for cell in texts}) < 2:
        return ""
    told = f" in the 15 digits that a number keeps ({shown(texts[0])!r} and {shown(texts[1])!r} are one)"
    return f"{told}; subtract what they have in common"


def _standardised(values: np.ndarray, column: Column) -> Column | str:
    """Return the column with mean, deviation and range of its values, or why it says nothing."""
    there = values[~np.isnan(values)]
    if there.size == 0:
        return "every value is missing"
    missing = there.size < values.size
    if not are_same(there):
        mean, std = mean_and_std(there)
    elif not missing:
        return "every value is the same"
    else:
        mean, std = float(there[0]), 1.0  # whether the value is there may still say something
    return replace(column, mean=mean, std=std, missing=missing, low=float(there.min()), high=float(there.max()))


def _date_columns(rows: Rows, name: str, written: str, found: _Findings, words: Collection[str] | None) -> list[Column]:
    """Return a column for each part of a date that is not the same everywhere; the first one tells what is missing."""
    made: list[Column] = []
    for part in PARTS:
        values, problems = read_dates(rows, name, written, part, words)
        found.problems += [problem for problem in problems if problem not in found.problems]
        there = values[~np.isnan(values)]
        if there.size and not are_same(there):
            column = _standardised(values, Column(name, "date", written=written, part=part))
            assert isinstance(column, Column)
            if made and column.missing:
                column = replace(column, missing=False)
            made.append(column)
    if made:
        parts = ", ".join(column.part for column in made)
        found.notes.append(f"column {shown(name)!r} holds dates, written as {written}: its inputs are {parts}")
    return made


def _with_zones(columns: list[Column], rows: Rows, found: _Findings) -> list[Column]:
    """Return the columns of a date with the zones of its times, in all rows that are used."""
    if not columns:
        return []
    name, written = columns[0].name, columns[0].written
    moments = [moment for cell in set(rows.column(name)) if (moment := read_date(cell, written)) is not None]
    zones = zones_of(moments)
    if " " in zones:
        told = f"column {shown(name)!r} has times in several zones ({zones.replace(' ', ', ')})"
        found.notes.append(f"{told}: hours and days are those of the clock that each is written by")
    return [replace(column, zones=zones) for column in columns]


def _category_column(rows: Rows, name: str, task: str, found: _Findings, words: Collection[str] | None) -> Column | str:
    cells = rows.column(name)
    other = spellings({cell for cell in cells if not is_missing(cell, words)})
    counts: Counter[str] = Counter()
    absent: Counter[str] = Counter()
    found_in: dict[str, set[str]] = {}
    for cell, owner in zip(cells, rows.column(task), strict=True):
        if is_missing(cell, words):
            absent[cell] += 1
            continue
        cell = other.get(cell, cell)
        counts[cell] += 1
        found_in.setdefault(cell, set()).add(owner)
    found.notes += _spelling_notes(name, other, counts) + _word_notes(name, absent)
    shared = [category for category in counts if len(found_in[category]) > 1]
    if not shared:
        return "every value is missing" if not counts else "no category occurs in two training tasks"
    if len(counts) == 1 and not absent:
        return "every value is the same"
    known = sorted(shared, key=lambda category: (-counts[category], category))[:MOST_CATEGORIES]
    found.notes += _unknown_notes(name, counts, len(shared), known)
    return Column(name, "category", categories=tuple(sorted(known)), missing=bool(absent))


def _unknown_notes(name: str, counts: Counter[str], shared: int, known: Collection[str]) -> list[str]:
    """Say that many rows have a category without a place of its own: beyond the most frequent, or of one task alone."""
    rest = sorted(set(counts) - set(known))
    rows = sum(counts[category] for category in rest)
    if shared == len(known) and rows < _MANY_UNKNOWN * sum(counts.values()):
        return []
    why = [f"{len(counts) - shared} in one training task alone"] if len(counts) > shared else []
    why += [f"{shared - len(known)} beyond the {len(known)} most frequent"] if shared > len(known) else []
    told = f"column {shown(name)!r}: of {len(counts)} categories {len(rest)} (such as {shown(rest[0])!r})"
    return [f"{told} count{'s' * (len(rest) == 1)} as unknown, in {rows} training rows: {', '.join(why)}"]


def _spelling_notes(name: str, other: dict[str, str], counts: Collection[str]) -> list[str]:
    notes = [f"column {shown(name)!r}: {shown(a)!r} is taken for {shown(b)!r}" for a, b in list(other.items())[:3]]
    then = "they are different categories; write them alike if they are one"
    notes += told_alike(f"column {shown(name)!r}:", counts, then)
    same = apart(counts)
    return notes + ([f"column {shown(name)!r}: {same}, and are different categories"] if same else [])


def _word_notes(name: str, absent: Counter[str]) -> list[str]:
    """Say which words of a column of categories are taken for a missing value."""
    said = [f"{shown(word)!r} ({count})" for word, count in absent.items() if word]
    if not said:
        return []
    told = f"column {shown(name)!r}: {', '.join(said[:3])} counts as missing"
    return [f"{told}; give --missing to take words for what they are"]


def _kind_of_target(seen: Rows, target: str, problem: Problem, reading: Reading) -> Kind:
    """Return what the target holds: "category" for labels, "number" for amounts."""
    if problem == "classification":
        return Kind("category")
    if problem == "regression":
        kind = kind_of(seen, target, "--classification", reading.words, reading.dates)
        if kind.holds == "category" and not kind.problems:
            row, cell, _ = look(seen, target, reading.words).text[0]
            told = f"{seen.where(row)}: {shown(cell)!r} in column {shown(target)!r} is not a number; write it as 12.5"
            return Kind("number", problems=[told])
    else:
        kind = kind_of(seen, target, "--classification", reading.words, reading.dates)
    if kind.holds == "date" and not kind.problems:
        told = f"the target {shown(target)!r} holds dates ({kind.written}); make it a number, such as days that passed"
        return Kind("date", problems=[f"{seen.name}: {told}, or give --classification"])
    if problem == "auto" and kind.evidence is not None and _few_values(seen, target, kind.evidence, reading.words):
        return Kind("category", notes=kind.notes)
    return kind


def _target(
    rows: Rows, seen: Rows, target: str, kind: Kind, settled: Settled | None, found: _Findings, reading: Reading
) -> Preparation:
    """Return what a preparation says of the target; what is wrong with it goes to what was found."""
    nothing = Preparation()
    if kind.problems:
        return nothing
    if kind.holds == "category":
        labels, notes = _labels(rows, target, reading.words)
        found.notes += notes
        if 2 <= len(labels) <= MOST_LABELS:
            return Preparation(labels=tuple(labels))
        wanted = f"classification needs 2 to {MOST_LABELS}"
        if len(labels) > MOST_LABELS:
            wanted += f", and some are {', '.join(repr(shown(label)) for label in labels[:3])}"
        found.problems.append(f"{rows.name}: the target {shown(target)!r} has {len(labels)} labels; {wanted}")
        return nothing
    if settled is None:
        return nothing
    values, problems = read_numbers(seen, target, settled, reading.words)
    there = values[~np.isnan(values)]
    if not problems and (there.size == 0 or are_same(there)):
        same = _beyond_digits(seen, target, reading.words) or "; nothing is to learn"
        problems = [f"{rows.name}: the target {shown(target)!r} has one value in all training tasks{same}"]
    found.problems += problems
    if problems:
        return nothing
    mean, std = mean_and_std(there)
    if not 1 / _SPREAD <= std <= _SPREAD:
        told = f"the target {shown(target)!r} has a standard deviation of {std:.3g}, and errors are told where it is"
        found.problems.append(f"{rows.name}: {told} {1 / _SPREAD:g} to {_SPREAD:g}; write it in another unit")
        return nothing
    low, high = float(there.min()), float(there.max())
    own = {"written": settled.written, "unit": settled.unit, "stored": settled.stored}
    return Preparation(mean=mean, std=std, low=low, high=high, **own)  # type: ignore[arg-type]


def _labels(rows: Rows, target: str, words: Collection[str] | None) -> tuple[list[str], list[str]]:
    """Return the labels of all rows that are used, and what is to be said of them.

    A word such as "none" is a label beside other text, and a missing value beside numbers.
    """
    counts = Counter(rows.column(target))
    there = {cell for cell in counts if not is_missing(cell, words)}
    text = any(read_number(cell) is None for cell in there)
    taken = sorted(cell for cell in counts if cell and text and is_missing(cell, words) and cell.lower() in LABELS)
    notes = [
        f"the target {shown(target)!r}: {shown(cell)!r} ({counts[cell]} rows) is taken for a label; if it says that "
        "there is no value, remove these lines"
        for cell in taken
    ]
    other = spellings(there)
    notes += _spelling_notes(target, other, there - set(other))
    return sorted((there - set(other)) | set(taken), key=_label_order), notes


def _few_values(rows: Rows, name: str, evidence: Evidence, words: Collection[str] | None) -> bool:
    """Return whether numbers are few enough to be labels; an amount of money or a share never is."""
    cells = {cell for cell in rows.column(name) if not is_missing(cell, words)}
    if any(evidence.units) or not all(_WHOLE.fullmatch(cell) for cell in cells):
        return False
    return 2 <= len({float(cell) for cell in cells}) <= FEW_VALUES and 10 * len(cells) <= len(rows)


def _label_order(label: str) -> tuple[float, str]:
    value = read_number(label)
    return (value if value is not None and value == value else float("inf"), label)
