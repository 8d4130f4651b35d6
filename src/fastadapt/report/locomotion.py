"""Pictures of bodies on their way: a strip of frames and a film, or where they were if nothing renders them."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from fastadapt.report.style import figure, line_style, save_figure, save_picture, tidy
from fastadapt.rl.locomotion import Locomotion
from fastadapt.rl.meta_policy import MetaPolicy
from fastadapt.rl.rendering import frames
from fastadapt.rl.tasks import Environments
from fastadapt.tasks import draw

FRAMES, BAND = 8, 16
"""Frames of a strip, and pixels of the line of words above each."""
PAUSE = 0.08
"""Seconds between two frames of a film."""


@torch.no_grad()
def recorded(
    family: Locomotion, goal: Tensor, act: Callable[[Tensor], Tensor], *, seed: int = 0, horizon: int | None = None
) -> np.ndarray:
    """Return the states `[t, s]` of one episode: time, positions, velocities.

    Args:
        family: the environments.
        goal: `[1]`.
        act: observations `[1, o]`, float32, to actions `[1, a]`.
        seed: where it starts.
        horizon: steps at most; None takes the family's.
    """
    episodes = family.start(goal[None], [seed])
    states, ended = [episodes.states[0]], False
    while len(states) <= (horizon or family.horizon) and not ended:
        ended = bool(episodes.step(act(episodes.observations.float()))[2])
        states.append(episodes.states[0])
    return np.stack(states)


def draw_adapted(learner: MetaPolicy, source: Environments, folder: Path, *, seed: int = 1) -> list[Path]:
    """Draw an episode before adaptation and one after an update, at two test goals; see `draw_runs`.

    The goals are the lowest and the highest of the first four of the stream, so that they are a slow and a fast one,
    or one of each direction. The bodies start from the same place, and each does what its policy thinks likeliest.

    Args:
        learner: a trained policy; one without inner steps that is told the goal is drawn as it is.
        source: of the test tasks, of a family of `Locomotion`.
        folder: where to write.
        seed: of the stream of test tasks.

    Returns:
        The files that were written.

    Raises:
        MissingExtraError: if a plot is drawn, and matplotlib is not installed.
        CheckpointError: if a file can't be written.
    """
    family: Any = source.family
    tasks = sorted(draw(source, seed=seed, split="test", indices=range(4)), key=lambda task: float(task.support.goal))
    runs = {}
    for task in (tasks[0], tasks[-1]):
        goal = task.support.goal
        for steps, label in ((0, "told" if source.told else "before"), (1, "after 1 update")):
            if steps and source.told:
                continue
            support = source.task(goal, task.support.seed).support
            policy: Any = learner.adapt(support, steps=steps).model

            def act(seen: Tensor, policy: Any = policy, goal: Tensor = goal) -> Tensor:
                return policy(torch.cat([seen, goal[None].to(seen)], 1) if source.told else seen).mean

            runs[f"{family.goal.called(float(goal))}, {label}"] = recorded(family, goal, act, horizon=source.steps)
    return draw_runs(family, runs, folder)


def draw_runs(family: Locomotion, runs: Mapping[str, np.ndarray], folder: Path, name: str = "run") -> list[Path]:
    """Draw episodes of a body: `folder/run.png`, a strip of frames for each, and `folder/run.gif`, a film of all.

    Where MuJoCo can't render, `run.png` is a plot of the place along x against time.

    Args:
        family: the environments.
        runs: states `[t, s]` by what to call them, such as "before" and "after 1 update"; see `recorded`.
        folder: where to write.
        name: of the files.

    Returns:
        The files that were written.

    Raises:
        MissingExtraError: if a plot is drawn, and matplotlib is not installed.
        CheckpointError: if a file can't be written.
    """
    body = family.body.physics.body
    every = max(1, round(PAUSE / body.seconds))
    parts = [states[np.linspace(0, len(states) - 1, FRAMES).round().astype(int)] for states in runs.values()]
    parts += [states[::every] for states in runs.values()]
    rendered = frames(body, np.concatenate(parts))
    if rendered is None:
        return [_plot(family, runs, folder / f"{name}.png")]
    pictures = np.split(rendered, np.cumsum([len(part) for part in parts])[:-1])
    framed = [
        [_frame(label, *shown) for shown in zip(part, seen, strict=True)]
        for label, part, seen in zip([*runs, *runs], parts, pictures, strict=True)
    ]
    strips, films = framed[: len(runs)], framed[len(runs) :]
    strip = _beside([_beside(row) for row in strips], down=True)
    moments = range(max(map(len, films)))
    film = [_beside([shown[min(at, len(shown) - 1)] for shown in films], down=True) for at in moments]
    return [
        _saved(folder / f"{name}.png", strip),
        _saved(folder / f"{name}.gif", *film, duration=round(1000 * every * body.seconds)),
    ]


def _frame(label: str, state: np.ndarray, picture: np.ndarray) -> Image.Image:
    """Return a picture under a line that says when it is, and where the body is."""
    framed = Image.new("RGB", (picture.shape[1], picture.shape[0] + BAND), "white")
    framed.paste(Image.fromarray(picture), (0, BAND))
    ImageDraw.Draw(framed).text((4, 2), f"{label}: {state[0]:.2f} s, x = {state[1]:+.2f} m", fill="black")
    return framed


def _beside(pictures: Sequence[Image.Image], *, down: bool = False) -> Image.Image:
    """Return pictures of one size side by side, or one under the other."""
    width, height = pictures[0].size
    whole = Image.new("RGB", (width, height * len(pictures)) if down else (width * len(pictures), height))
    for number, picture in enumerate(pictures):
        whole.paste(picture, (0, number * height) if down else (number * width, 0))
    return whole


def _saved(path: Path, first: Image.Image, *rest: Image.Image, duration: int = 0) -> Path:
    content, kind = io.BytesIO(), path.suffix[1:]
    more: dict[str, Any] = {"save_all": True, "append_images": rest, "duration": duration, "loop": 0} if rest else {}
    first.save(content, format=kind, **more)
    return save_picture(content.getvalue(), path)


def _plot(family: Locomotion, runs: Mapping[str, np.ndarray], path: Path) -> Path:
    """Draw the place along x against time."""
    drawn = figure(6.4, 3.6)
    axes = drawn.subplots()
    for number, (label, states) in enumerate(runs.items()):
        style = {**line_style(number), "marker": ""}
        axes.plot(states[:, 0], states[:, 1], label=label, linewidth=1.8, **style)
    tidy(axes, title=family.name, x="seconds", y="place along x, metres")
    axes.legend(fontsize=8, frameon=True, framealpha=0.85, edgecolor="none")
    return save_figure(drawn, path)
