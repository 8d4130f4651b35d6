"""One image task as a person sees it: the support images, and every query with what was answered."""

import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastadapt.errors import TaskError
from fastadapt.evaluation import Evaluation
from fastadapt.inner.generators import torch_random_kept
from fastadapt.learner import Learner
from fastadapt.report.style import BLUE, RED, figure, note, save_figure
from fastadapt.tasks import SampleFunction, TaskSource, draw

_ACROSS = 10
"""Classes side by side; more go below."""
_SHOTS, _QUERIES = 5, 3
"""Images shown of each class at most."""


@dataclass(frozen=True)
class _Answers:
    """Hold what a learner answered, before and after adaptation."""

    before: float
    after: float
    classes: np.ndarray
    probabilities: np.ndarray
    steps: int


def draw_task(
    learner: Learner,
    source: TaskSource | SampleFunction,
    path: Path | str,
    *,
    steps: int | None = None,
    seed: int = 1,
    split: str = "test",
    index: int = 0,
    class_names: Sequence[str] | None = None,
    invert: bool | None = None,
    evaluation: Evaluation | None = None,
) -> Path:
    """Draw one N-way K-shot task: support images by class, and query images with the predicted class.

    Every query stands below its true class. Below it are the predicted class and its probability after
    adaptation: a tick and a blue frame where it is right, a cross and a thick red frame where it is wrong.

    Args:
        learner: a learner whose outputs are logits.
        source: where the task comes from; its query must not be empty.
        path: the PNG to write.
        steps: inner steps; None takes the learner's `test_steps`.
        seed: seed of the task stream.
        split: the stream, "test" or "val".
        index: number of the task in the stream.
        class_names: names of the task's classes 0..N-1; default letters.
        invert: whether the values have ink 1 on paper 0, so that they have to be turned over to show ink dark on
            white; None takes the source's own setting, or else decides by which of the two there is more of.
        evaluation: the result over many tasks, for the title.

    Returns:
        `path`.

    Raises:
        TaskError: if the task has no images or no queries.
        MissingExtraError: if matplotlib is not installed.
    """
    task = draw(source, seed=seed, split=split, indices=[index])[0]
    (support, labels), (query, truth) = (
        (x.detach().cpu(), y.detach().cpu().numpy()) for x, y in (task.support, task.query)
    )
    if support.dim() != 4 or not len(query):
        raise TaskError(
            f"drawing needs images [n, C, H, W] and queries, got {list(support.shape)} and {len(query)} queries"
        )
    ways = int(max(labels.max(), truth.max())) + 1
    names = list(class_names) if class_names is not None else letters(ways)
    answers = _ask(learner, task, steps, seed, index)
    images = pictures(torch.cat((support, query)), source, invert)
    shots, queries = (max(int((y == c).sum()) for c in range(ways)) for y in (labels, truth))
    rows = min(shots, _SHOTS), min(queries, _QUERIES)

    across = min(ways, _ACROSS)
    bands = [range(first, min(first + across, ways)) for first in range(0, ways, across)]
    tall = rows[0] * 1.06 + rows[1] * 1.27 + 0.6  # of one band, in units of an image's side
    side = 0.92 if across > 5 else 1.05
    drawn = figure(max(side * (across + 0.95) + 0.2, 6.4), side * (tall * len(bands) - 0.05) + 1.15)
    axes = drawn.subplots()
    for number, band in enumerate(bands):
        _draw_band(axes, number * tall, band, names, images, labels, truth, answers, rows)
    axes.set_xlim(-0.95, across)
    axes.set_ylim(tall * len(bands) - 0.15, -0.1)
    axes.set_aspect("equal")
    axes.axis("off")
    drawn.suptitle(_title(ways, shots, len(truth), split, index, answers, evaluation), fontsize=10.5)
    note(drawn, _notes(shots, queries))
    return save_figure(drawn, path)


def letters(ways: int) -> list[str]:
    """Return names for classes that have none: A, B, C, or numbers where there are too many."""
    return list(string.ascii_uppercase[:ways]) if ways <= 26 else [str(c + 1) for c in range(ways)]


def _ask(learner: Learner, task: Any, steps: int | None, seed: int, index: int) -> _Answers:
    """Return what the learner answers for the queries of one task."""
    device = next((p.device for p in learner.parameters()), torch.device("cpu"))
    cuda = [device] if device.type == "cuda" else []
    with torch_random_kept(cuda, seed=seed * 1_000_003 + index), torch.no_grad():
        moved = [tuple(part.to(device) for part in pair) for pair in (task.support, task.query)]
        trace = learner.trace(type(task)(*moved), steps)
    outputs = trace.outputs[0].double().cpu()  # [k+1, Q, N]
    truth = task.query[1].cpu()
    accuracy = (outputs.argmax(-1) == truth).double().mean(-1)
    chances = outputs[-1].softmax(-1)
    best = chances.argmax(-1)
    sure = chances.gather(-1, best[:, None])[:, 0].numpy()
    return _Answers(float(accuracy[0]), float(accuracy[-1]), best.numpy(), sure, len(outputs) - 1)


def pictures(x: Tensor, source: Any, invert: bool | None) -> np.ndarray:
    """Return images as a person expects them, `[n, H, W, 3]` in 0..1, ink dark on white paper."""
    mean, std = getattr(source, "mean", None), getattr(source, "std", None)
    x = x.double()
    if std is not None:
        x = x * torch.tensor(std, dtype=x.dtype).view(-1, 1, 1)
    if mean is not None:
        x = x + torch.tensor(mean, dtype=x.dtype).view(-1, 1, 1)
    if invert is None:
        invert = getattr(source, "invert", None)
    if invert is None:  # drawings have more paper than ink; photographs have colour and stay as they are
        invert = x.shape[1] == 1 and float(x.mean()) < 0.5 * float(x.max())
    x = (1 - x if invert else x).clamp(0, 1).nan_to_num(0.5)
    return x[:, [0, 0, 0] if x.shape[1] < 3 else [0, 1, 2]].permute(0, 2, 3, 1).numpy()


def _draw_band(
    axes: Any,
    top: float,
    band: range,
    names: Sequence[str],
    images: np.ndarray,
    labels: np.ndarray,
    truth: np.ndarray,
    answers: _Answers,
    rows: tuple[int, int],
) -> None:
    """Draw the classes of one band: names, support images, and queries with their answers."""
    shots, queries = rows
    low = top + 0.25 + shots * 1.06 + 0.12  # where the queries begin
    for y, height, word in ((top + 0.25, shots * 1.06, "support"), (low, queries * 1.27 - 0.3, "query")):
        axes.text(-0.18, y + height / 2, word, rotation=90, ha="center", va="center", fontsize=9, color="0.3")
    axes.plot([-0.3, len(band)], [low - 0.09] * 2, color="0.75", linewidth=0.8)
    for column, c in enumerate(band):
        axes.text(column + 0.5, top + 0.14, short(names[c]), ha="center", va="bottom", fontsize=10, fontweight="bold")
        for row, i in enumerate(np.flatnonzero(labels == c)[:shots]):
            y = top + 0.25 + row * 1.06
            place(axes, images[i], column, y)
            frame(axes, column, y, "0.82", 0.7)
        for row, i in enumerate(np.flatnonzero(truth == c)[:queries]):
            y = low + row * 1.27
            place(axes, images[len(labels) + i], column, y)
            sure, answer = answers.probabilities[i], int(answers.classes[i])
            right = np.isfinite(sure) and answer == c
            color, width, mark = (BLUE, 1.4, "✓") if right else (RED, 2.8, "✗")
            frame(axes, column, y, color, width)
            said = f"{mark} {short(names[answer])} {100 * sure:.0f}%" if np.isfinite(sure) else "✗ not finite"
            axes.text(column + 0.5, y + 1.0, said, ha="center", va="top", fontsize=8, color=color)


def place(axes: Any, image: np.ndarray, x: float, y: float) -> None:
    """Show an image in the square whose upper left corner is (x, y)."""
    axes.imshow(image, extent=(x + 0.04, x + 0.96, y + 0.96, y + 0.04), interpolation="nearest", vmin=0, vmax=1)


def frame(axes: Any, x: float, y: float, color: str, width: float) -> None:
    """Draw a frame around it."""
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((x + 0.04, y + 0.04), 0.92, 0.92, fill=False, edgecolor=color, linewidth=width))


def short(name: str) -> str:
    """Return a name that fits below an image."""
    return name if len(name) <= 9 else f"{name[:8]}…"


def _title(
    ways: int, shots: int, queries: int, split: str, index: int, answers: _Answers, evaluation: Evaluation | None
) -> str:
    steps = f"after {answers.steps} inner step{'' if answers.steps == 1 else 's'} {100 * answers.after:.0f} %"
    before = f"before adaptation {100 * answers.before:.0f} %, " if answers.steps else ""
    if not answers.steps:
        steps = f"{100 * answers.after:.0f} %"
    lines = [
        f"One {ways}-way {shots}-shot task ({split} task {index})",
        f"accuracy on its {queries} queries: {before}{steps}",
    ]
    if evaluation is not None and evaluation.metric == "accuracy":
        mean, half = 100 * evaluation.result, 100 * evaluation.half
        lines.append(f"over {len(evaluation.per_task):,} tasks: {mean:.2f} ± {half:.2f} % (95 % CI)")
    return "\n".join(lines)


def _notes(shots: int, queries: int) -> list[str]:
    said = [
        "Each query stands below its true class; under it, the predicted class and its probability:",
        "✓ right, ✗ wrong (thick frame).",
    ]
    sizes = ((shots, _SHOTS, "support images"), (queries, _QUERIES, "queries"))
    cut = [f"{most} of {n} {word}" for n, most, word in sizes if n > most]
    return [*said, *([f"Of each class {' and '.join(cut)} are shown."] if cut else [])]
