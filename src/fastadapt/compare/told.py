"""A comparison of methods as text: Markdown, CSV, and lines for a terminal."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from fastadapt.compare.comparison import plus_minus
from fastadapt.compare.standings import Standing, measured, standings
from fastadapt.runs.within import minutes_of, steps_of


def share_of(row: Mapping[str, Any]) -> str:
    """Return the outer steps of a row, with their share of the published training.

    Example:
        >>> share_of({"outer steps": 1200, "published steps": 60000})
        '1,200 (2 %)'
    """
    steps, published = row["outer steps"], row["published steps"]
    part = "100 %" if steps >= published else f"{100 * steps / published:.2g} %"
    return f"{steps:,} ({part})"


def accuracy(standing: Standing) -> str:
    """Return an accuracy in percent with its interval."""
    return plus_minus(100 * standing.mean, 100 * standing.half)


def gain(standing: Standing) -> str:
    """Return the difference in points with its interval; a dash for the method that the others are compared with."""
    if standing.gain is None or standing.gain_half is None:
        return "–"
    told = plus_minus(100 * abs(standing.gain), 100 * standing.gain_half)
    return f"{'+' if standing.gain > 0 else '−'}{told}"


def cost_cells(row: Mapping[str, Any]) -> list[str]:
    """Return what a method costs: outer steps, minutes, milliseconds to adapt and to answer, parameters, kilobytes."""
    return [
        share_of(row),
        f"{row['seconds of training'] / 60:.2g}",
        f"{1000 * row['seconds to adapt']:.3g}",
        f"{1000 * row['seconds to answer']:.3g}",
        f"{row['parameters']:,}",
        f"{row['predictor bytes'] / 1000:,.0f}",
    ]


COSTS = ("outer steps (share)", "minutes", "adapt (ms)", "answer (ms)", "parameters", "adapted (kB)")
"""Headings of what a method costs; the share is that of the outer steps of its preset."""


def sentences(record: Mapping[str, Any]) -> list[str]:
    """Return what the numbers of a comparison are of, and what they do not say themselves."""
    count, made = next(iter(record["tests"].values()))["tasks"], record.get("made", {})
    threads = made.get("threads", "?")
    where = f"{threads} thread{'s' * (threads != 1)} of {made.get('hardware', 'a machine')}"
    return [
        f"Each method trained on {record['on']} for {budget_words(record['budget'])}, with the settings of its preset, "
        f"seed {record['seed']}, on {where}.",
        f"The same {count:,} test tasks for all; ± is a 95 % interval over tasks, of differences task by task. "
        "The best turned out so on these tasks, which favours it a little.",
        "Times to adapt to a task and to answer one query alone are medians over 20 tasks.",
        *_heads(record),
        *_shared(record),
    ]


def budget_words(budget: str) -> str:
    """Return a budget in words.

    Example:
        >>> budget_words("25m"), budget_words("8000steps")
        ('25 minutes with validations', '8,000 outer steps')
    """
    steps = steps_of(budget)
    return f"{minutes_of(budget):g} minutes with validations" if steps is None else f"{steps:,} outer steps"


def _heads(record: Mapping[str, Any]) -> list[str]:
    backbones = dict.fromkeys(row["backbone"] for row in record["methods"] if "backbone" in row)
    return [
        f"Heads are fitted to the features of {backbone}, which others have trained: the budget is not theirs, and "
        "what they leave of a task is told without it."
        for backbone in backbones
    ]


def _shared(record: Mapping[str, Any]) -> list[str]:
    names = dict.fromkeys(
        row["method"]
        for test in record["tests"]
        for row in measured(record, test)
        if row["results"][test]["transductive"]
    )
    if not names:
        return []
    return [f"Transductive, which helps: the queries of a task share batch statistics for {', '.join(names)}."]


def failures(record: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each method that failed."""
    return [f"{row['method']} failed: {row['failed']}" for row in record["methods"] if "failed" in row]


def markdown(record: Mapping[str, Any]) -> str:
    """Return a comparison as Markdown: a table for each set of test tasks, and what it is of."""
    lines = [f"# Methods compared on {record['on']}", "", *sentences(record)]
    for test in (name for name in record["tests"] if measured(record, name)):
        lines += ["", f"## Tested on {record['tests'][test]['words']}", "", *table(record, test)]
    if failed := failures(record):
        lines += ["", *(f"- {sentence}" for sentence in failed)]
    return "\n".join(lines) + "\n"


def table(record: Mapping[str, Any], test: str, most: int | None = None) -> list[str]:
    """Return the table of one set of test tasks as lines of Markdown, best first, `most` methods at most."""
    found = standings(record, test, record.get("baseline"))[:most]
    rows = {row["method"]: row for row in record["methods"]}
    to = next((s.method for s in standings(record, test, record.get("baseline")) if s.gain is None), "")
    heading = ["method", "accuracy (%)", f"against {to} (points)", *COSTS]
    lines = [f"| {' | '.join(heading)} |", f"|:---|{'---:|' * (len(heading) - 1)}"]
    lines += [f"| {' | '.join([s.method, accuracy(s), gain(s), *cost_cells(rows[s.method])])} |" for s in found]
    return lines


def as_csv(record: Mapping[str, Any]) -> str:
    """Return a comparison as CSV: a line for each method on each set of test tasks, numbers as they are."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    facts = ("preset", "outer steps", "published steps", "seconds of training", "seconds to adapt")
    facts += ("seconds to answer", "parameters", "predictor bytes")
    numbers = ("accuracy", "ci95", "difference", "difference ci95", "verdict", "inner steps", "norm", "transductive")
    out.writerow(["method", "test", *numbers, *facts, "failed"])
    rows: dict[str, Mapping[str, Any]] = {row["method"]: row for row in record["methods"]}
    for test in record["tests"]:
        for s in standings(record, test, record.get("baseline")):
            row, result = rows[s.method], rows[s.method]["results"][test]
            told = [s.mean, s.half, s.gain, s.gain_half, s.words, *(result[key] for key in numbers[5:])]
            out.writerow([s.method, test, *told, *(row[key] for key in facts), ""])
    for row in record["methods"]:
        if "failed" in row:
            blank = [""] * (len(facts) - 1)
            out.writerow([row["method"], "", *[""] * len(numbers), row["preset"], *blank, row["failed"]])
    return text.getvalue()


def summary(record: Mapping[str, Any], tests: Sequence[str] | None = None) -> str:
    """Return a comparison for a terminal."""
    lines = []
    for test in tests or record["tests"]:
        found = standings(record, test, record.get("baseline"))
        lines += ["", f"{record['tests'][test]['words']}, {record['tests'][test]['tasks']:,} tasks:"]
        lines += [f"  {s.method:<16} {accuracy(s):>14} %  {gain(s):>16}  {s.words}" for s in found]
    return "\n".join([*lines, *failures(record)]).lstrip("\n")
