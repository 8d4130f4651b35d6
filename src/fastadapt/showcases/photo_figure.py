"""What a picture looks like after some steps from each start, and how near all test photographs are by then."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fastadapt.compare.by_step import Start, traced
from fastadapt.data.fields.fields import Fields
from fastadapt.report.style import BLACK, GREY, figure, note
from fastadapt.rules.rules import Rule
from fastadapt.showcases.curves_figure import draw_curves_by_step

_SOLVED = (("shared body", "--"), ("MAML", ":"))
"""The bodies whose solved last layer is drawn, and how."""


@dataclass(frozen=True)
class Pictures:
    """What there is to be seen.

    Args:
        target: `[size, size, 3]`, uint8.
        fine: the same picture at twice as many pixels a side.
        after: by start, by number of steps, the picture `[size, size, 3]` in 0..1 and its PSNR.
        fine_after: the picture and its PSNR at twice as many pixels, after the fewest steps of the first learned start.
    """

    target: np.ndarray
    fine: np.ndarray
    after: Mapping[str, Mapping[int, tuple[np.ndarray, float]]]
    fine_after: tuple[np.ndarray, float]


def pictured(
    starts: Sequence[Start],
    record: Mapping[str, Any],
    rules: Mapping[str, Rule],
    pictures: Sequence[np.ndarray],
    at: Sequence[int],
    loss: Any,
    batch: int | None,
    device: torch.device,
) -> tuple[dict[str, dict[int, tuple[np.ndarray, float]]], tuple[np.ndarray, float]]:
    """Return what each start makes of a picture after some steps, with the rules that were chosen for these."""
    rows = {row["name"]: row for row in record["starts"]}
    found: dict[str, dict[int, tuple[np.ndarray, float]]] = {}
    for start in starts:
        found[start.name] = {}
        for k, chosen in zip(at, rows[start.name]["chosen"], strict=True):
            rule = {**rules, **start.rules}[chosen["rule"]]
            found[start.name][k] = _fitted(start.nets[chosen["net"]], rule, pictures[0], k, loss, batch, device)
    last = starts[-1]
    chosen = rows[last.name]["chosen"][list(at).index(2)]
    rule = {**rules, **last.rules}[chosen["rule"]]
    return found, _fitted(last.nets[chosen["net"]], rule, pictures[1], 2, loss, batch, device)


def _fitted(
    net: Any, rule: Rule, picture: np.ndarray, steps: int, loss: Any, batch: int | None, device: torch.device
) -> tuple[np.ndarray, float]:
    tasks = Fields(picture[None], points=None, query="same").whole([0]).to(device)
    trace = traced(net, rule, tasks, (steps,), loss, batch)
    assert trace.outputs is not None
    output = torch.as_tensor(trace.outputs[0]).reshape(picture.shape).clamp(0, 1).cpu().numpy()
    return output, float(trace.metrics["psnr"].flatten()[0])


def draw_photo(record: Mapping[str, Any], seen: Pictures, told: str) -> Any:
    """Return the figure: a row of pictures for each start, and PSNR against steps below."""
    shown = [k for k in record["steps"] if k in (0, 1, 2, 4, 16)]
    names = list(seen.after)
    drawn = figure(10.0, 1.75 * len(names) + 4.6)
    top, bottom = drawn.subfigures(2, 1, height_ratios=(1.75 * len(names), 4.2))
    grid = top.subplots(len(names), len(shown) + 1, squeeze=False)
    for name, row in zip(names, grid, strict=True):
        for k, axes in zip(shown, row, strict=False):
            picture, psnr = seen.after[name][k]
            _show(axes, picture, f"{psnr:.1f} dB")
            if name == names[0]:
                axes.set_title("no step" if k == 0 else f"{k} step{'s' if k > 1 else ''}", fontsize=10)
        row[0].set_ylabel(name, fontsize=10)
        _show(row[-1], seen.target / 255, "the picture" if name == names[-1] else "")
    left, right = bottom.subfigures(1, 2, width_ratios=(3.2, 1.0))
    axes = left.subplots()
    draw_curves_by_step(axes, record, "PSNR of the test photographs (dB)")
    levels = sorted((record["closed form"][name]["mean"], name, style) for name, style in _SOLVED)
    for (level, name, style), below in zip(levels, ("top", "bottom"), strict=True):  # two lines may be close
        axes.axhline(level, color=GREY, linestyle=style, linewidth=1.2)
        axes.annotate(
            f"last layer solved for, body of {name}: {level:.1f}",
            (0.99, level),
            xycoords=("axes fraction", "data"),
            ha="right",
            va=below,
            fontsize=7.5,
            color="0.3",
        )
    bound = record["bound"]["mean"]
    axes.axhline(bound, color=BLACK, linestyle=(0, (6, 2, 1, 2)), linewidth=1.0)
    axes.annotate(
        f"no solved last layer is above {bound:.1f} (PCA)",
        (0.99, bound),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="bottom",
        fontsize=7.5,
        color="0.2",
    )
    pair = right.subplots(2, 1)
    side = seen.fine.shape[0]
    _show(pair[0], seen.fine_after[0], f"{names[-1]}, 2 steps at {side}x{side}: {seen.fine_after[1]:.1f} dB")
    _show(pair[1], seen.fine / 255, "a field has no resolution of its own")
    half, size = len(told) // 2, seen.target.shape[0]
    cut = told.find(" ", half)
    count = record["test tasks"]
    note(
        drawn, [told[:cut], told[cut + 1 :], f"{count} test photographs, {size}x{size} pixels; bands: 95 % intervals."]
    )
    return drawn


def _show(axes: Any, picture: np.ndarray, label: str) -> None:
    axes.imshow(picture, interpolation="nearest", vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel(label, fontsize=8.5)
