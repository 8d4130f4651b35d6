"""Each column of a table as it is understood: kind, notation, range, examples, what is missing, categories."""

from collections import Counter
from dataclasses import dataclass, field

from fastadapt.data.files import shown
from fastadapt.data.tables.columns import Preparation
from fastadapt.data.tables.dates import read_date
from fastadapt.data.tables.evidence import Settled, settle
from fastadapt.data.tables.far_notes import in_column
from fastadapt.data.tables.fit_columns import Reading
from fastadapt.data.tables.kinds import Kind, kind_of
from fastadapt.data.tables.missing import is_missing
from fastadapt.data.tables.notation import shown_notation
from fastadapt.data.tables.rows import Rows
from fastadapt.data.tables.spelling import known_as, spellings
from fastadapt.data.tables.spread import as_range
from fastadapt.data.tables.values import read_dates, read_numbers

_EXAMPLES = 3
_COUNTED = 8


@dataclass(frozen=True)
class ColumnFacts:
    """Hold what is known of one column.

    Args:
        name: the column.
        kind: "number", "date", "category", "label", or "empty".
        written: the notation of its numbers or dates, "" for words.
        low: the smallest number, or the first date.
        high: the largest, or the last.
        examples: some cells, the most frequent first.
        missing: how many cells hold no value.
        values: how many different values there are.
        counts: the most frequent categories with their number of rows.
        problems: why the column can't be used.
        notes: what is to be known.
    """

    name: str
    kind: str
    written: str = ""
    low: str = ""
    high: str = ""
    examples: tuple[str, ...] = ()
    missing: int = 0
    values: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def overview(rows: Rows, reading: Reading, words: tuple[str, ...] = ()) -> list[ColumnFacts]:
    """Return what is known of each column, by all rows.

    Args:
        rows: the table.
        reading: how cells are read that leave it open.
        words: the columns whose cells are words, whatever they look like.
    """
    kinds = {name: Kind("category") if name in words else _kind(rows, name, reading) for name in rows.header}
    evidence = [kind.evidence for kind in kinds.values() if kind.evidence is not None]
    settled, problems, notes = settle(evidence, rows, reading.decimal)
    return [_facts(rows, name, kind, settled.get(name), reading, problems, notes) for name, kind in kinds.items()]


def label_facts(rows: Rows, preparation: Preparation) -> ColumnFacts:
    """Return what is known of a target of labels, as training takes it."""
    counts = Counter(known_as(cell, preparation.labels) or "" for cell in rows.column(preparation.target))
    absent = counts.pop("", 0)
    labels = {label: counts[label] for label in preparation.labels[:_COUNTED]}
    examples = tuple(labels)[:_EXAMPLES]
    return ColumnFacts(
        preparation.target, "label", examples=examples, missing=absent, values=len(preparation.labels), counts=labels
    )


def _kind(rows: Rows, name: str, reading: Reading) -> Kind:
    return kind_of(rows, name, f"--categorical {shown(name)}", reading.words, reading.dates)


def _facts(
    rows: Rows, name: str, kind: Kind, settled: Settled | None, reading: Reading, problems: list[str], notes: list[str]
) -> ColumnFacts:
    cells = [cell for cell in rows.column(name) if not is_missing(cell, reading.words)]
    counts = Counter(cells)
    absent = len(rows) - len(cells)
    examples = tuple(cell for cell, _ in counts.most_common(_EXAMPLES))
    mine = f"column {shown(name)!r}"
    wrong = [*kind.problems, *(sentence for sentence in problems if mine in sentence)]
    told = [*kind.notes, *(sentence for sentence in notes if sentence.startswith(mine))]
    low = high = written = ""
    if not cells:
        return ColumnFacts(name, "empty", missing=absent)
    if kind.holds == "number" and settled is not None:
        written = shown_notation(settled.written, settled.unit)
        values, infinite = read_numbers(rows, name, settled, reading.words)
        wrong += infinite
        told += in_column(rows, name, values)
        there = values[values == values]
        low, high = as_range(float(there.min()), float(there.max()), 10) if there.size else ("", "")
    elif kind.holds == "date" and not wrong:
        written = kind.written
        moments = [moment.at for cell in counts if (moment := read_date(cell, written)) is not None]
        if written != "12:30":
            days, _ = read_dates(rows, name, written, "elapsed", reading.words)
            told += in_column(rows, name, days, dates=True)
        low, high = (str(m.time() if written == "12:30" else m) for m in (min(moments), max(moments)))
    other = spellings(counts) if kind.holds == "category" else {}
    merged = Counter({cell: 0 for cell in counts if cell not in other})
    for cell, count in counts.items():
        merged[other.get(cell, cell)] += count
    shown_counts = dict(merged.most_common(_COUNTED)) if kind.holds == "category" else {}
    return ColumnFacts(
        name, kind.holds, written, low, high, examples, absent, len(merged), shown_counts, tuple(wrong), tuple(told)
    )  # fmt: skip
