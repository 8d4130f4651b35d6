"""How well languages are predicted as they are read, which of them gain, and what is written before and after."""

from typing import Any

import numpy as np
from torch import Tensor, nn

from fastadapt.data.passages import Passages
from fastadapt.data.udhr import Languages
from fastadapt.methods.reptile import Reptile
from fastadapt.report.style import GREY, RED, figure, line_style, note, tidy
from fastadapt.rules.rules import Rule
from fastadapt.showcases.curves_figure import draw_curves_by_step
from fastadapt.showcases.language_told import best_of
from fastadapt.showcases.writing import surprise, written

WRITTEN_IN = "fao"
"""Faroese: short enough a distance from Icelandic that something can be learned, and far enough that it is needed."""
CHARACTERS, TEMPERATURE = 120, 0.7
NAMED = {"nav": "Navajo", "kal": "Greenlandic", "ltz": "Luxembourgish", "glg": "Galician", "fao": "Faroese"}
MOST_BITS = 8.0


def draw_language(
    record: dict[str, Any],
    before: nn.Module,
    start: nn.Module,
    rule: Rule,
    loss: Any,
    test: Languages,
    tasks: Passages,
    steps: int,
    told: str,
) -> Any:
    """Return the figure.

    Args:
        record: what was measured.
        before: the pretrained network.
        start: the start that was learned, which adapts to the page of one language.
        rule: by which it adapts.
        loss: that it descends.
        test: the test languages.
        tasks: made of them.
        steps: after which it writes.
        told: the sentence to remember.
    """
    drawn = figure(14.0, 9.2)
    top, bottom = drawn.subfigures(2, 1, height_ratios=(4.6, 3.6))
    left, middle, right = top.subplots(1, 3, width_ratios=(1.25, 1.1, 1.0))
    _reading(left, record["reading on"])
    draw_curves_by_step(middle, record, f"bits per character, after {record['page']:,} characters")
    middle.set_ylim(top=min(middle.get_ylim()[1], max(row["mean"][0] for row in record["starts"]) + 0.3))
    middle.legend(fontsize=7.5, frameon=False, loc="upper right")
    _dots(right, record)
    _writing(bottom, before, start, rule, loss, test, tasks, steps)
    words, lines = told.split(), [""]
    for word in words:
        lines[-1:] = [f"{lines[-1]} {word}".strip()] if len(lines[-1]) + len(word) < 190 else [lines[-1], word]
    note(drawn, [*lines, f"{len(test.names)} languages; bands: 95 % intervals over them. One training of each."])
    return drawn


def _reading(axes: Any, reading: dict[str, Any]) -> None:
    read = np.arange(reading["chunks"]) * reading["characters"] + reading["characters"] / 2
    for i, row in enumerate(reading["rows"]):
        style = {**line_style(i), "marker": ""}
        mean, half = np.asarray(row["mean"]), np.asarray(row["ci95"])
        axes.fill_between(read, mean - half, mean + half, color=style["color"], alpha=0.12, linewidth=0)
        label = f"{row['name']}{' (learned)' if row['learned'] else ''}: {row['whole']:.2f}"
        axes.plot(read, mean, **style, linewidth=2.2 if row["learned"] else 1.3, label=label)
    tidy(axes, title="reading on: each chunk before it is learned from", x="characters read", y="bits per character")
    axes.legend(fontsize=7.5, frameon=False)


def _dots(axes: Any, record: dict[str, Any]) -> None:
    best = best_of(record)
    gains = best.gains
    near = record["languages"]["nearest"]
    axes.axhline(0, color=GREY, linewidth=1)
    axes.plot(near, gains, "o", markersize=4, color=line_style(0)["color"])
    for name, x, y in zip(record["languages"]["names"], near, gains, strict=True):
        if name in NAMED:
            axes.annotate(NAMED[name], (x, y), (4, 4), textcoords="offset points", fontsize=7.5)
    tidy(
        axes,
        title=f"{best.own['name']}, {best.steps} steps, over {best.rival['name']}, {best.its}",
        x="likeness of the nearest training language",
        y="gain in bits per character",
    )


def _writing(
    part: Any,
    before: nn.Module,
    start: nn.Module,
    rule: Rule,
    loss: Any,
    test: Languages,
    tasks: Passages,
    steps: int,
) -> None:
    """Draw what is written before and after a page is read, and the true text by how surprising it is to both."""
    number = test.names.index(WRITTEN_IN) if WRITTEN_IN in test.names else 0
    text, length = test.texts[number], tasks.length
    page = tasks.at([number], 0, length * tasks.support)[0]
    device = next(start.parameters()).device
    support = tuple(leaf.to(device) for leaf in page.support)
    after = Reptile(start, loss, rule=rule, steps=steps, route="loop").adapt(support).model
    at = 4200
    begun, true = text[at - length : at], text[at : at + CHARACTERS]
    axes = part.subplots()
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    name = NAMED.get(test.names[number], test.names[number])
    lines = [
        ("written before it has read a page", written(before, begun, CHARACTERS, length, TEMPERATURE), None),
        (f"written after a page and {steps} steps", written(after, begun, CHARACTERS, length, TEMPERATURE), None),
        ("the true text, by how surprising it is before", true, surprise(before, text, at, at + CHARACTERS, length)),
        ("the true text, by how surprising it is after", true, surprise(after, text, at, at + CHARACTERS, length)),
    ]
    for i, (what, symbols, bits) in enumerate(lines):
        y = 0.88 - 0.25 * i
        mean = "" if bits is None else f", {float(bits.mean()):.2f} bits per character here"
        axes.text(0, y, f"{name}: {what}{mean}", fontsize=8, color="0.3", va="bottom")
        _strip(axes, test, symbols, bits, y - 0.07)


def _strip(axes: Any, test: Languages, symbols: Tensor, bits: Tensor | None, y: float) -> None:
    width = 1 / CHARACTERS
    if bits is not None:
        from matplotlib.patches import Rectangle

        for i, value in enumerate(bits.tolist()):
            strength = min(value / MOST_BITS, 1.0)
            axes.add_patch(
                Rectangle((i * width, y - 0.045), width, 0.09, color=RED, alpha=0.75 * strength, linewidth=0)
            )
    for i, letter in enumerate(test.written(symbols)):
        axes.text((i + 0.5) * width, y, letter, fontsize=8, family="DejaVu Sans Mono", ha="center", va="center")
