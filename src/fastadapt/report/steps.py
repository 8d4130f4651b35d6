"""The error, or the accuracy, against the number of inner steps, for several methods and numbers of shots."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastadapt.evaluation import Evaluation
from fastadapt.report.style import (
    add_legend,
    figure,
    line_style,
    logarithmic,
    note,
    only_note,
    panels_with_legend,
    save_figure,
    tidy,
)

_FAR = 10.0
"""How many times the largest error without adaptation an axis reaches: beyond, tasks diverge."""


def draw_steps(results: Mapping[str, Mapping[int, Evaluation]], path: Path | str) -> Path:
    """Draw the metric's mean against the number of gradient steps, a panel for each number of shots K.

    A learner that takes no step (the oracle) is a level line. Where a task's error is not finite the mean is
    not either: the line ends in a cross, and a sentence below gives the count. Where tasks diverge a thin
    line adds their median.

    Args:
        results: `{name: {K: evaluation}}`, as `evaluate_shots` returns.
        path: the PNG to write.

    Returns:
        `path`.

    Raises:
        MissingExtraError: if matplotlib is not installed.
        CheckpointError: if the file can't be written.

    References:
        Finn, Abbeel, Levine 2017 (arXiv:1703.03400), figure 3.
    """
    shots = sorted({k for by_shots in results.values() for k in by_shots})
    drawn = figure(max(4.0 * len(shots), 5.0), 4.2)
    if not shots:
        only_note(drawn, "no evaluation to draw")
        return save_figure(drawn, path)
    panels, strip = panels_with_legend(drawn, 1, len(shots), sharey=True)
    everything = [e for by_shots in results.values() for e in by_shots.values()]
    last = max(e.after[-1] for e in everything)
    limit = _limit(everything)
    remarks = []
    for axes, k in zip(panels[0], shots, strict=True):
        for number, (name, by_shots) in enumerate(results.items()):
            if k in by_shots:
                remarks += _draw_line(axes, f"{name}, K = {k}", name, by_shots[k], last, number, limit)
        tidy(axes, title=f"K = {k} support points", x="gradient steps")
        axes.locator_params(axis="x", integer=True)
        axes.set_xlim(-0.2, max(last, 1) + 0.2)
    units = {"mse": "mean squared error", "accuracy": "accuracy"}
    panels[0, 0].set_ylabel(units.get(everything[0].metric, everything[0].metric), fontsize=9)
    _scale(panels[0, 0], everything, limit)
    add_legend(strip, panels)
    counts = sorted({e.protocol.tasks for e in everything})
    tasks = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    drawn.suptitle(f"Mean over {tasks} test tasks against the number of gradient steps; bands: 95 % CI", fontsize=11)
    note(drawn, remarks)
    return save_figure(drawn, path)


def _draw_line(axes: Any, where: str, name: str, result: Evaluation, last: int, number: int, limit: float) -> list[str]:
    """Draw one method in one panel; return what has to be said below the figure."""
    mean, half, median = (np.asarray(v, dtype=float) for v in (result.mean, result.ci95, result.median))
    steps = np.asarray(result.after)
    if result.after == [0]:
        mean, half, median = (np.repeat(v, last + 1) for v in (mean, half, median))
        name, steps = f"{name} (no steps)", np.arange(last + 1)
    style = line_style(number)
    color = style["color"]
    finite = np.isfinite(mean)
    far = np.flatnonzero(finite & (mean > limit))
    good = finite & (steps <= steps[far[0] if len(far) else -1])  # beyond, a band would only be a stripe
    half = np.where(np.isfinite(half), half, 0.0)
    if good.any():
        axes.plot(steps[good], mean[good], label=name, linewidth=1.8, **style)
        low, high = (mean - half)[good], (mean + half)[good]
        axes.fill_between(steps[good], low, high, color=color, alpha=0.2, linewidth=0)
    else:
        axes.plot([], [], label=f"{name}: not finite", **style)
    bad = np.flatnonzero(np.asarray(result.nonfinite) > 0)
    if not len(bad) and not len(far):
        return []
    shown = np.where(np.isfinite(median), median, np.nan)
    axes.plot(steps, shown, color=color, linestyle=":", linewidth=1.2, label=f"{name}, median")
    remarks = []
    if len(far):
        remarks.append(f"{where}: the mean leaves the axis at {steps[far[0]]} steps, {mean[far[0]]:.3g}.")
    if len(bad):
        end = int(finite.argmin()) - 1
        if not finite.all() and end >= 0 and not len(far):
            axes.plot(steps[end], mean[end], marker="x", color=color, markersize=10, markeredgewidth=2.2, linestyle="")
        count = f"{result.nonfinite[-1]} of {result.protocol.tasks} tasks are not finite"
        rest = f"mean of the rest {result.finite_mean[-1]:.3g}"
        remarks.append(f"{where}: {count} after {steps[-1]} steps (the first after {steps[bad[0]]}); {rest}.")
    return remarks


def _limit(everything: list[Evaluation]) -> float:
    """Return the largest mean an axis should reach."""
    first = [e.mean[0] for e in everything if np.isfinite(e.mean[0])]
    return _FAR * max(first) if first and everything[0].metric == "mse" else np.inf


def _scale(axes: Any, everything: list[Evaluation], limit: float) -> None:
    """Choose the y axis that all panels share: logarithmic for errors that span decades, bounded if tasks diverge."""
    means = np.concatenate([np.asarray(e.mean, dtype=float) for e in everything])
    means = means[np.isfinite(means)]
    if not means.size or everything[0].metric != "mse":
        return
    top = min(means.max(), limit)
    if means.min() > 0 and top / means.min() > 5:
        logarithmic(axes, means.min() / 1.6, top * 1.6)
    else:
        highest = np.concatenate([np.asarray(e.mean) + np.asarray(e.ci95) for e in everything])
        axes.set_ylim(0, 1.05 * min(np.max(highest, initial=top, where=np.isfinite(highest)), limit))
