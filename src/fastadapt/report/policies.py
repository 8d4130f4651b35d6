"""Pictures of policies: the return against the number of updates, and walks before and after one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastadapt.evaluation import Evaluation
from fastadapt.report.style import BLUE, GREY, RED, figure, line_style, note, save_figure, tidy
from fastadapt.rl.meta_policy import MetaPolicy
from fastadapt.rl.tasks import Environments, EpisodeCollector, gather
from fastadapt.tasks import draw

Curve = Mapping[str, Any]
"""`mean` and `ci95` of the returns, one for each of `after` updates."""
SHOWN, WALKS = 4, 3
"""Goals in the picture of walks, and walks of each policy."""


def curve_of(result: Evaluation) -> Curve:
    """Return what is drawn of an evaluation."""
    return {"mean": result.mean, "ci95": result.ci95, "after": result.after}


def draw_returns(curves: Mapping[str, Curve], path: Path | str, *, tasks: int, what: str = "") -> Path:
    """Draw the mean return against the number of policy-gradient updates, with 95 % intervals over the goals.

    Args:
        curves: by name; one without updates, as the oracle's, is a level line.
        path: the PNG to write.
        tasks: how many goals.
        what: what is adapted to, for the title.

    Returns:
        `path`.

    Raises:
        MissingExtraError: if matplotlib is not installed.
        CheckpointError: if the file can't be written.

    References:
        Finn, Abbeel, Levine 2017 (arXiv:1703.03400), figures 4 and 5.
    """
    drawn = figure(6.4, 4.2)
    axes = drawn.subplots()
    last = max(curve["after"][-1] for curve in curves.values())
    for number, (name, curve) in enumerate(curves.items()):
        level = list(curve["after"]) == [0] and last > 0
        mean, half = (np.asarray(curve[key], dtype=float) for key in ("mean", "ci95"))
        steps = np.arange(last + 1) if level else np.asarray(curve["after"])
        mean, half = (np.repeat(v, last + 1) for v in (mean, half)) if level else (mean, half)
        style = line_style(number)
        axes.plot(steps, mean, label=f"{name} (no updates)" if level else name, linewidth=1.8, **style)
        half = np.where(np.isfinite(half), half, 0.0)
        axes.fill_between(steps, mean - half, mean + half, color=style["color"], alpha=0.2, linewidth=0)
    tidy(axes, x="policy-gradient updates", y="return, mean over goals")
    axes.locator_params(axis="x", integer=True)
    axes.legend(fontsize=8, frameon=True, framealpha=0.85, edgecolor="none")
    drawn.suptitle(f"{what + ': ' if what else ''}{tasks} goals; bands: 95 % CI over goals", fontsize=11)
    return save_figure(drawn, path)


def draw_walks(learner: MetaPolicy, source: Environments, path: Path | str, *, seed: int = 1) -> Path:
    """Draw walks on the plane before adaptation and after one update, towards four test goals.

    Args:
        learner: a trained policy whose first two observations are a place.
        source: of the test tasks.
        path: the PNG to write.
        seed: of the stream of test tasks.

    Returns:
        `path`.
    """
    drawn = figure(3.0 * SHOWN, 3.5)
    tasks = draw(source, seed=seed, split="test", indices=range(SHOWN))
    for axes, task in zip(drawn.subplots(1, SHOWN), tasks, strict=True):
        assert isinstance(task.support, EpisodeCollector)
        for steps, color, label in ((0, RED, "before"), (1, BLUE, "after 1 update")):
            policy: Any = learner.adapt(source.task(task.support.goal, task.support.seed).support, steps=steps).model
            for number, walk in enumerate(_walks(policy, source, task.support.goal)):
                axes.plot(*walk.T.tolist(), color=color, linewidth=1.1, alpha=0.8, label=None if number else label)
        axes.plot(
            *task.support.goal.tolist(), marker="*", markersize=12, color=GREY, linestyle="", label="goal", zorder=5
        )
        tidy(axes, x="x", y="y")
        axes.set_aspect("equal", "datalim")
    drawn.axes[0].legend(fontsize=8, frameon=True, framealpha=0.85, edgecolor="none")
    note(drawn, [f"{WALKS} walks of each policy from the origin, its actions drawn as in training."])
    return save_figure(drawn, path)


@torch.no_grad()
def _walks(policy: Any, source: Environments, goal: Tensor) -> list[Tensor]:
    """Return the places of a few walks, each as far as its episode went."""
    lived, _ = gather([EpisodeCollector(source, goal, 0, "query")], policy, policy)
    steps = lived.alive[0].sum(1).int().tolist()
    return [lived.observations[0, i, : steps[i], :2] for i in range(min(WALKS, source.episodes))]
