"""The curves of a training: what was logged, raw and smoothed, and the validations with their intervals."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastadapt.report.style import BLACK, BLUE, RED, figure, logarithmic, note, number, only_note, save_figure, tidy

Record = Mapping[str, Any]

_WORDS = {
    "accuracy": "accuracy (%)",
    "mse": "mean squared error",
    "loss": "training loss",
    "gradient": "norm of the meta-gradient",
}


def smooth(values: Sequence[float] | np.ndarray, window: int) -> np.ndarray:
    """Return the mean over `window` neighbours of each value, fewer at the ends; what is not finite is left out.

    Args:
        values: `[n]`.
        window: how many records to average, at least 1; an even number counts as the next odd one.

    Returns:
        `[n]`; not-a-number where no neighbour is finite.

    Example:
        >>> smooth([0.0, 3.0, float("nan"), 9.0], 3).tolist()
        [1.5, 1.5, 6.0, 9.0]
    """
    array = np.asarray(values, dtype=np.float64)
    reach = window // 2
    # Window by window: with running sums one huge value would spoil every later mean.
    near = [array[max(i - reach, 0) : i + reach + 1] for i in range(len(array))]
    kept = [values[np.isfinite(values)] for values in near]
    return np.array([values.mean() if len(values) else np.nan for values in kept])


def draw_curves(records: Iterable[Record], path: Path | str, *, name: str = "") -> Path:
    """Draw the training curves of a run: loss, metric before and after adaptation, gradient norm, validations.

    Args:
        records: the records of a run's `metrics.jsonl`, in any order; keys may be missing, and numbers that
            are not finite may be the strings "nan" and "inf".
        path: the PNG to write.
        name: the run's name, for the title.

    Returns:
        `path`. Without a single record the picture says so.

    Raises:
        MissingExtraError: if matplotlib is not installed.
        CheckpointError: if the file can't be written.
    """
    rows = sorted((r for r in records if math.isfinite(number(r.get("step")))), key=lambda r: number(r["step"]))
    metric = _metric(rows)
    names = [n for n, keys in _panels(metric).items() if any(_has(rows, key) for key in keys)]
    drawn = figure(max(4.6 * len(names), 6.0), 3.9)
    if not names:
        only_note(drawn, "no training records: nothing has been logged yet")
        return save_figure(drawn, path)
    window = max(1, len([r for r in rows if "loss" in r]) // 25)
    for axes, panel in zip(np.atleast_1d(drawn.subplots(1, len(names))), names, strict=True):
        _draw_panel(axes, panel, metric, rows, window)
    drawn.suptitle(f"{name + ': ' if name else ''}training, {int(number(rows[-1]['step'])):,} outer steps", fontsize=11)
    note(drawn, _remarks(rows, window))
    return save_figure(drawn, path)


def _panels(metric: str | None) -> dict[str, tuple[str, ...]]:
    """Return which keys each panel draws."""
    panels: dict[str, tuple[str, ...]] = {"loss": ("loss",)}
    if metric is not None:
        panels["metric"] = (f"{metric} before", f"{metric} after", f"val {metric}", f"val {metric} before")
    return {**panels, "gradient": ("gradient",)}


def _metric(rows: Sequence[Record]) -> str | None:
    """Return the metric that was logged, "accuracy", "mse" or another; None if there is none."""
    keys = dict.fromkeys(key for row in rows for key in row)
    for key in keys:
        if key.endswith((" after", " before")) and not key.startswith("val "):
            return key.rsplit(" ", 1)[0]
    return next((k.removeprefix("val ") for k in keys if k.startswith("val ") and f"{k} before" in keys), None)


def _column(rows: Sequence[Record], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps and values of the records that have `key`."""
    kept = [row for row in rows if key in row]
    return np.array([number(r["step"]) for r in kept]), np.array([number(r[key]) for r in kept])


def _has(rows: Sequence[Record], key: str) -> bool:
    return bool(np.isfinite(_column(rows, key)[1]).any())


def _draw_panel(axes: Any, panel: str, metric: str | None, rows: Sequence[Record], window: int) -> None:
    """Draw one panel; a logarithmic axis where values are positive by nature and span decades."""
    if panel == "metric":
        _raw_and_smooth(axes, rows, f"{metric} before", "before adaptation", RED, (0, (5, 1.5)), window)
        _raw_and_smooth(axes, rows, f"{metric} after", "after adaptation", BLUE, "-", window)
        _validation(axes, rows, f"val {metric} before", "validation, before", RED, "s", None)
        _validation(axes, rows, f"val {metric}", "validation, after (95 % CI)", BLACK, "o", "val ci95")
    else:
        _raw_and_smooth(axes, rows, panel, None, BLUE, "-", window)
    key = metric or "" if panel == "metric" else panel
    tidy(axes, x="outer step", y=_WORDS.get(key, key))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlim(left=0)
    if key == "accuracy":
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}")
        axes.set_ylim(top=min(axes.get_ylim()[1], 1.005))
    elif key in ("mse", "gradient") or (panel == "loss" and metric == "mse"):
        _maybe_logarithmic(axes)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, frameon=True, framealpha=0.85, edgecolor="none")


def _raw_and_smooth(
    axes: Any, rows: Sequence[Record], key: str, label: str | None, color: str, dashes: Any, window: int
) -> None:
    """Draw what was logged under `key`, faintly, and its running mean over it."""
    steps, values = _column(rows, key)
    values = np.where(np.isfinite(values), values, np.nan)
    if not np.isfinite(values).any():
        return
    if window > 1:
        axes.plot(steps, values, color=color, alpha=0.25, linewidth=0.8)
        values = smooth(values, window)
    marker = "o" if len(steps) == 1 else None
    axes.plot(steps, values, color=color, linestyle=dashes, linewidth=1.8, label=label, marker=marker)


def _validation(
    axes: Any, rows: Sequence[Record], key: str, label: str, color: str, marker: str, ci: str | None
) -> None:
    """Draw the validations under `key`, with a band of the half-widths under `ci`."""
    steps, values = _column(rows, key)
    if not np.isfinite(values).any():
        return
    values = np.where(np.isfinite(values), values, np.nan)
    style = {"color": color, "marker": marker, "markersize": 4, "linewidth": 0.8, "markerfacecolor": "white"}
    axes.plot(steps, values, label=label, **style)
    if ci is not None:
        half = np.array([number(row.get(ci)) for row in rows if key in row])
        half = np.where(np.isfinite(half), half, 0.0)
        axes.fill_between(steps, values - half, values + half, color=color, alpha=0.18, linewidth=0)


def _maybe_logarithmic(axes: Any) -> None:
    """Make the y axis logarithmic if every line allows it; a band's lower end may reach below."""
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axes.get_lines()] or [np.zeros(0)])
    values = values[np.isfinite(values)]
    if values.size and values.min() > 0:
        logarithmic(axes, values.min() / 1.2, values.max() * 1.2)


def _s(count: int) -> str:
    return " was" if count == 1 else "s were"


def _remarks(rows: Sequence[Record], window: int) -> list[str]:
    """Return what the lines themselves don't say."""
    said = [f"Faint: as logged; bold: mean over {window + 1 - window % 2} records."] if window > 1 else []
    watched = [v for r in rows for k, v in r.items() if k not in ("step", "seconds", "val ci95")]
    lost = sum(isinstance(v, (str, float)) and not math.isfinite(number(v)) for v in watched)
    skipped = max((int(number(r["skipped"])) for r in rows if math.isfinite(number(r.get("skipped")))), default=0)
    speeds = [s for r in rows if math.isfinite(s := number(r.get("tasks/s")))]
    if lost:
        said.append(f"{lost} logged value{_s(lost)} not finite, without a point.")
    if skipped:
        said.append(f"{skipped} outer step{_s(skipped)} skipped because a loss or gradient was not finite.")
    if speeds:
        said.append(f"Median speed {np.median(speeds):,.0f} tasks/s.")
    return [" ".join(said)] if said else []
