"""The picture of a comparison of methods: how well each does on the same tasks, and what it costs."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastadapt.compare.standings import Standing, standings
from fastadapt.compare.told import budget_words, failures, sentences
from fastadapt.report.style import BLUE, GREY, figure, note, only_note, save_figure, tidy

_COSTS: tuple[tuple[str, str, Callable[[Mapping[str, Any]], float]], ...] = (
    ("time to train", "minutes", lambda row: row["seconds of training"] / 60),
    ("time for a new task", "ms, median", lambda row: 1000 * row["seconds to adapt"]),
    ("size", "parameters", lambda row: float(row["parameters"])),
)
_FULL = "Full: the one that the others are compared with, or not told apart from it; hollow: better or worse."
_LINE, _EDGES = 0.3, 1.9  # inches: of a method, and of title, axis and notes


def draw_standings(record: Mapping[str, Any], path: Path | str) -> Path:
    """Draw a comparison: accuracy on each set of test tasks, the paired difference on the first, and three costs.

    A full dot is the method that the others are compared with, or one that can't be told from it; a hollow one is
    better or worse, task by task.

    Args:
        record: a comparison, as `fastadapt compare` writes it.
        path: the PNG to write.

    Returns:
        `path`. Where no method has a result the picture says so.

    Raises:
        MissingExtraError: if matplotlib is not installed.
        CheckpointError: if the file can't be written.
    """
    every = {test: standings(record, test, record.get("baseline")) for test in record["tests"]}
    first = next(iter(every.values()), [])
    if not first:
        drawn = figure(8, 3)
        only_note(drawn, " ".join(failures(record)) or "no method has a result yet")
        return save_figure(drawn, path)
    names = [standing.method for standing in first]
    place = {name: -i for i, name in enumerate(names)}
    notes = [*sentences(record), _FULL, *failures(record)]
    widths = [*(2.4 for _ in every), 2.0, *(1.5 for _ in _COSTS)]
    drawn = figure(1.4 + sum(widths), _EDGES + _LINE * len(names) + 0.16 * len(notes))
    panels = drawn.subplots(1, len(widths), sharey=True, width_ratios=widths)
    for axes, (test, found) in zip(panels, every.items(), strict=False):
        _accuracies(axes, found, place)
        tidy(axes, title=_broken(record["tests"][test]["words"]), x="accuracy (%), 95 % CI")
    _differences(panels[len(every)], first, place)
    rows = {row["method"]: row for row in record["methods"]}
    for axes, (title, unit, value) in zip(panels[len(every) + 1 :], _COSTS, strict=True):
        _bars(axes, {name: value(rows[name]) for name in names}, place)
        tidy(axes, title=title, x=unit)
    panels[0].set_yticks(list(place.values()), [_label(rows[name]) for name in names])
    panels[0].set_ylim(-len(names) + 0.4, 0.6)
    drawn.suptitle(f"Methods on {record['on']}, {budget_words(record['budget'])} each", fontsize=11)
    note(drawn, notes)
    return save_figure(drawn, path)


def _label(row: Mapping[str, Any]) -> str:
    """Return a method's name, marked where the queries of a task share statistics."""
    shares = any(result["transductive"] for result in row["results"].values())
    return f"{row['method']}{' (transductive)' if shares else ''}"


def _broken(words: str, most: int = 30) -> str:
    """Return words in lines of a panel's width."""
    import textwrap

    return "\n".join(textwrap.wrap(words, most))


def _accuracies(axes: Any, found: list[Standing], place: Mapping[str, int]) -> None:
    for standing in found:
        if not math.isfinite(standing.mean) or standing.method not in place:
            continue
        half = 100 * standing.half if math.isfinite(standing.half) else 0.0
        full = standing.words not in ("better", "worse")
        y = place[standing.method]
        axes.errorbar(
            100 * standing.mean,
            y,
            xerr=half,
            fmt="o",
            color=BLUE,
            markersize=5.5,
            markerfacecolor=BLUE if full else "white",
            capsize=2.5,
            linewidth=1.4,
        )
        axes.annotate(
            f"{100 * standing.mean:.1f}",
            (100 * standing.mean, y),
            xytext=(0, 5),
            textcoords="offset points",
            fontsize=7,
            ha="center",
        )
    axes.margins(x=0.12)


def _differences(axes: Any, found: list[Standing], place: Mapping[str, int]) -> None:
    to = next((standing.method for standing in found if standing.gain is None), "")
    axes.axvline(0.0, color=GREY, linewidth=1)
    for standing in found:
        if standing.gain is None or standing.gain_half is None or not math.isfinite(standing.gain):
            continue
        half = 100 * standing.gain_half if math.isfinite(standing.gain_half) else 0.0
        full = standing.words not in ("better", "worse")
        style = {"color": BLUE, "markersize": 5.5, "capsize": 2.5, "linewidth": 1.4}
        face = BLUE if full else "white"
        axes.errorbar(100 * standing.gain, place[standing.method], xerr=half, fmt="s", markerfacecolor=face, **style)
    tidy(axes, title=f"against {to},\ntask by task", x="points, 95 % CI")
    axes.margins(x=0.12)


def _bars(axes: Any, values: Mapping[str, float], place: Mapping[str, int]) -> None:
    """Draw a cost as bars from zero, with its number."""
    most = max((value for value in values.values() if math.isfinite(value)), default=1.0) or 1.0
    for name, value in values.items():
        axes.barh(place[name], value, height=0.55, color="0.8")
        axes.annotate(
            _short(value), (value, place[name]), xytext=(3, 0), textcoords="offset points", fontsize=7, va="center"
        )
    axes.set_xlim(0, 1.4 * most)
    axes.locator_params(axis="x", nbins=3)
    axes.xaxis.set_major_formatter(lambda value, _: _short(value))


def _short(value: float) -> str:
    """Return a number with few digits.

    Example:
        >>> _short(0.0), _short(0.273), _short(25.04), _short(112005.0)
        ('0', '0.27', '25', '112k')
    """
    return f"{value / 1000:,.0f}k" if value >= 10_000 else f"{value:,.0f}" if value >= 99.5 else f"{value:.2g}"
