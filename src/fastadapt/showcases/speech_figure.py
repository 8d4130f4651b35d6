"""What a tenth of a second looks like after some steps from each start, and how near all test windows are by then."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastadapt.compare.by_step import Start, traced
from fastadapt.report.style import GREY, figure, line_style, note, tidy
from fastadapt.rules.rules import Rule
from fastadapt.showcases.curves_figure import draw_curves_by_step
from fastadapt.showcases.voices import RATE, WINDOW
from fastadapt.tasks import Tasks

SEEN = (0, 2, 5, 20)
"""Steps after which a window is drawn."""


def draw_speech(
    record: dict[str, Any], starts: Sequence[Start], rules: Mapping[str, Rule], task: Tasks, loss: Any, told: str
) -> Any:
    """Return the figure: waves of one window for each start, and SNR against steps below."""
    shown = [k for k in SEEN if k in record["steps"]]
    drawn = figure(11.0, 1.35 * len(starts) + 4.8)
    top, bottom = drawn.subfigures(2, 1, height_ratios=(1.35 * len(starts), 4.4))
    grid = top.subplots(len(starts), len(shown), squeeze=False, sharex=True, sharey=True)
    time = (np.arange(WINDOW) + 0.5) / RATE * 1000
    true = task.query[1][0, :, 0].cpu().numpy()
    rows = {row["name"]: row for row in record["starts"]}
    for i, (start, line) in enumerate(zip(starts, grid, strict=True)):
        for k, axes in zip(shown, line, strict=True):
            choice = rows[start.name]["chosen"][record["steps"].index(k)]
            rule = {**rules, **start.rules}[choice["rule"]]
            trace = traced(start.nets[choice["net"]], rule, task, (k,), loss)
            assert trace.outputs is not None
            axes.plot(time, true, color="0.75", linewidth=2.2)
            axes.plot(time, trace.outputs[0].reshape(-1).cpu().numpy(), color=line_style(i)["color"], linewidth=0.9)
            snr = float(next(iter(trace.metrics.values())).flatten()[0])
            tidy(axes, title=f"{start.name}, {k} step{'' if k == 1 else 's'}: {snr:.1f} dB")
            axes.set_yticks([])
            axes.set_ylim(-1.15 * abs(true).max(), 1.15 * abs(true).max())
    for axes in grid[-1]:
        axes.set_xlabel("milliseconds", fontsize=8)
    axes = bottom.subplots()
    draw_curves_by_step(axes, record, "SNR of the test windows (dB)")
    name, level = max(((n, found["mean"]) for n, found in record["closed form"].items()), key=lambda pair: pair[1])
    axes.axhline(level, color=GREY, linestyle="--", linewidth=1.2)
    words = f"last layer solved for, best body ({name}): {level:.1f}"
    axes.annotate(
        words, (0.99, level), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=7.5, color="0.3"
    )
    cut = told.find(" ", len(told) // 2)
    below = f"{record['test tasks']} test windows of languages never heard; bands: 95 % intervals. Grey: the true wave."
    note(drawn, [told[:cut], told[cut + 1 :], below])
    return drawn
