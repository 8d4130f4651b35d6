"""The two figures of the sine-wave study: one task seen closely, and the error against the number of steps.

`draw_steps` lives in `fastadapt.report.steps`, since it serves any evaluation by number of shots.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastadapt.compare.shots import Rates, rated
from fastadapt.data.sinusoid import Family, Half
from fastadapt.learner import Learner
from fastadapt.report.steps import draw_steps as draw_steps
from fastadapt.report.style import (
    BLUE,
    GREEN,
    ORANGE,
    PINK,
    RED,
    SKY,
    add_legend,
    figure,
    note,
    only_note,
    panels_with_legend,
    save_figure,
    tidy,
)
from fastadapt.report.waves import AdaptedWave, adapted_wave, tall_wave

_OTHERS = (PINK, ORANGE, SKY)
_CURVES = {0: (GREEN, (0, (1.2, 1.2))), 1: (RED, (0, (5, 1.5))), 10: (BLUE, "-")}


def draw_adaptation(
    learners: Mapping[str, Learner],
    path: Path | str,
    *,
    shots: Sequence[int] = (5, 10),
    half: Half = "right",
    steps: Sequence[int] = (0, 1, 10),
    family: Family = "maml",
    rates: Mapping[str, Rates] | None = None,
    oracles: Collection[str] = (),
    seed: int = 1,
    index: int | None = None,
) -> Path:
    """Draw what learners make of one wave: the wave, the support points, and the function after some steps.

    The smallest number of shots lies in one half of the range only, so that the other half shows what was
    learned about waves rather than about these points; the others lie in all of it.

    Args:
        learners: by name; a row of panels each, or a panel each in one row for a single number of shots.
        path: the PNG to write.
        shots: support points K; a column of panels each if there are several.
        half: which half the points of the first column lie in.
        steps: after which numbers of inner steps to draw the function.
        family: the family of waves.
        rates: for some learners, the step size for each K; otherwise the learner's own.
        oracles: names of the learners that are told height and phase.
        seed: seed of the stream of test tasks.
        index: number of the task in that stream; None takes the first with a height of at least 2.5, which
            can be seen, whatever the learners make of it.

    Returns:
        `path`.

    Raises:
        MissingExtraError: if matplotlib is not installed.

    References:
        Finn, Abbeel, Levine 2017 (arXiv:1703.03400), figure 2.
    """
    if not learners:
        return draw_waves({}, path)
    index = tall_wave(seed, family) if index is None else index
    waves: dict[str, list[AdaptedWave]] = {}
    own: dict[str, Rates] = {}
    for name, learner in learners.items():
        told = name in oracles
        own[name] = (rates or {}).get(name, {})
        waves[name] = []
        for k in shots:
            side = half if k == min(shots) and len(shots) > 1 else None
            with rated(learner, own[name], k):
                after = (0,) if told else steps
                waves[name].append(
                    adapted_wave(learner, k, half=side, steps=after, family=family, oracle=told, seed=seed, index=index)
                )
    return draw_waves(waves, path, rates=own)


def draw_waves(
    waves: Mapping[str, Sequence[AdaptedWave]], path: Path | str, *, rates: Mapping[str, Rates] | None = None
) -> Path:
    """Draw adapted waves, a row of panels for each name, or all side by side where each has one wave.

    `draw_adaptation` computes them first.

    Args:
        waves: by the name of the learner; the same task with one or several numbers of points.
        path: the PNG to write.
        rates: for some learners, the step size for each K, to be named in the title.

    Returns:
        `path`.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    longest = max((len(row) for row in waves.values()), default=1)
    rows, columns = (1, max(1, len(waves))) if longest == 1 else (len(waves), longest)
    drawn = figure(4.9 * columns, 3.0 * rows + 1.0)
    if not waves:
        only_note(drawn, "no learner to draw")
        return save_figure(drawn, path)
    grid, strip = panels_with_legend(drawn, rows, columns, sharex=True, sharey=True)
    for row, (name, each) in zip(grid.reshape(len(waves), longest), waves.items(), strict=True):
        for axes, wave in zip(row, each, strict=False):
            rate = (rates or {}).get(name, {}).get(wave.shots)
            where = f"K = {wave.shots}, all in the {wave.half} half" if wave.half else f"K = {wave.shots}"
            _draw_wave(axes, wave, f"{name}, {where}" + (f", step size {rate:g}" if rate is not None else ""))
    for axes in grid[-1]:
        axes.set_xlabel("x", fontsize=9)
    for axes in grid[:, 0]:
        axes.set_ylabel("y", fontsize=9)
    one = next(iter(waves.values()))[0]
    sign = "\N{MINUS SIGN}" if one.family == "maml" else "+"
    title = (
        f"One task (test task {one.index}): y = {one.height:.2f} sin(x {sign} {one.phase:.2f}), adapted to its K points"
    )
    drawn.suptitle(title, fontsize=11)
    add_legend(strip, grid)
    halves = any(wave.half for row in waves.values() for wave in row)
    ground = " Grey ground: the half without points." if halves else ""
    note(drawn, [f"MSE: mean squared error of this one task over [-5, 5].{ground}"])
    return save_figure(drawn, path)


def _draw_wave(axes: Any, wave: AdaptedWave, title: str) -> None:
    """Draw one panel."""
    line, target = np.asarray(wave.x), np.asarray(wave.wave)
    if wave.half is not None:
        axes.axvspan(*((-5, 0) if wave.half == "right" else (0, 5)), color="0.95", linewidth=0, zorder=0)
    axes.plot(line, target, color="0.65", linewidth=4, label="true wave", solid_capstyle="round")
    errors = []
    for number, (j, values) in enumerate(wave.curves.items()):
        curve = np.asarray(values)
        color, dashes = _CURVES.get(j, (_OTHERS[number % len(_OTHERS)], (0, (4, 1.5, 1, 1.5))))
        name = f"{j} step{'' if j == 1 else 's'}"
        with np.errstate(all="ignore"):
            error = float(np.mean((curve - target) ** 2))
        short = f"{error:.2f}" if error < 1e3 else f"{error:.1e}"
        errors.append(f"{name} {short if np.isfinite(error) else 'not finite'}")
        shown = np.where(np.abs(curve) < 1e6, curve, np.nan)  # what is not finite, or absurd, has no place on paper
        axes.plot(line, shown, color=color, linestyle=dashes, linewidth=1.8, label=name)
    xs, ys = zip(*wave.points, strict=True)
    axes.plot(xs, ys, "^", color="black", markersize=7, label="the K points", zorder=4, linestyle="")
    tidy(axes, title=title)
    axes.set_xlim(-5, 5)
    axes.set_ylim(-7.5, 6.2)
    axes.text(0.01, 0.02, f"MSE: {', '.join(errors)}", transform=axes.transAxes, fontsize=8.5, color="0.2")
