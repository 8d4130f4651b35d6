"""The worst tasks of a measurement, to be looked at: what they were given, and what was answered wrongly."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastadapt.evaluation import Evaluation
from fastadapt.inner.generators import torch_random_kept
from fastadapt.learner import Learner
from fastadapt.report.classes import frame, letters, pictures, place, short
from fastadapt.report.style import BLUE, RED, figure, note, only_note, save_figure, tidy
from fastadapt.results.answers import worst
from fastadapt.tasks import SampleFunction, Task, TaskSource, draw, task_rng

_CLASSES, _WRONG = 10, 8
"""Support images and wrong queries shown of a task at most."""
_TALL, _LABEL = 1.62, 1.75
"""Of a row, and of what stands before it, in units of an image's side."""


@dataclass(frozen=True)
class _Seen:
    """Hold one of the worst tasks, and the learner's outputs on its queries at the headline step."""

    number: int
    value: float
    task: Task
    output: Tensor
    names: Sequence[str] | None
    files: Sequence[str] | None


def draw_worst(
    learner: Learner,
    source: TaskSource | SampleFunction,
    result: Evaluation,
    path: Path | str,
    count: int = 10,
) -> Path | None:
    """Draw the worst tasks of an evaluation, the worst first.

    A task of images is a row: one support image of each class, and queries that were answered wrongly, with the true
    class and the one that was answered. A task of points on a line is a panel: points, truth and answer.

    Args:
        learner: what was evaluated.
        source: where its tasks came from.
        result: the evaluation.
        path: the PNG to write.
        count: how many tasks.

    Returns:
        `path`; None where tasks are neither images nor points on a line.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    records = [{"task": i, "value": row[result.column]} for i, row in enumerate(result.per_task)]
    numbers = worst(records, "value", result.higher_is_better, count)
    seen = [_look(learner, source, result, number) for number in numbers]
    x = seen[0].task.query[0]
    total = len(result.per_task)
    title = (
        f"The {len(seen)} worst of {total:,} {result.protocol.split} tasks"
        if len(seen) < total
        else (f"All {total} {result.protocol.split} tasks, the worst first")
    )
    if x.dim() == 4 and result.metric == "accuracy":
        return _draw_images(seen, source, f"{title}, {_after(result.step)}", path)
    if x.dim() == 2 and x.shape[1] == 1 and seen[0].output.shape == seen[0].task.query[1].shape:
        return _draw_lines(seen, f"{title}, {_after(result.step)}", result.metric, path)
    return None


def _after(steps: int) -> str:
    return f"after {steps} inner step{'' if steps == 1 else 's'}"


def _look(learner: Learner, source: Any, result: Evaluation, number: int) -> _Seen:
    protocol = result.protocol
    [task] = draw(source, seed=protocol.seed, split=protocol.split, indices=[number])
    device = next((p.device for p in learner.parameters()), torch.device("cpu"))
    cuda = [device] if device.type == "cuda" else []
    with torch_random_kept(cuda, seed=protocol.seed * 1_000_003 + number), torch.no_grad():
        outputs = learner.trace(task.to(device), protocol.steps, protocol.norm).outputs[0]
    origin = source.origin(task_rng(protocol.seed, protocol.split, number)) if hasattr(source, "origin") else None
    names, files = (None, None) if origin is None else (origin.classes, origin.query)
    output = outputs[min(result.step, len(outputs) - 1)].double().cpu()
    return _Seen(number, result.per_task[number][result.column], task.to("cpu"), output, names, files)


def _draw_images(seen: Sequence[_Seen], source: Any, title: str, path: Path | str) -> Path:
    rows = [_wrong(one) for one in seen]
    ways = max(min(_CLASSES, int(one.task.support[1].max()) + 1) for one in seen)
    most = max(1, *(min(_WRONG, len(row)) for row in rows))
    across = _LABEL + ways + 0.6 + most
    drawn = figure(max(0.82 * across, 7.0), 0.82 * _TALL * len(seen) + 1.1)
    axes = drawn.subplots()
    for number, (one, row) in enumerate(zip(seen, rows, strict=True)):
        _draw_row(axes, number * _TALL, one, row, source, _LABEL + ways + 0.6)
    axes.set_xlim(0, across)
    axes.set_ylim(_TALL * len(seen), -0.1)
    axes.set_aspect("equal")
    axes.axis("off")
    drawn.suptitle(title, fontsize=11)
    notes = [
        "Left: one support image of each class. Right: queries that were answered wrongly; below each its true "
        "class, and",
        "✗ the class that was answered with its probability.",
    ]
    if any(len(row) > _WRONG for row in rows):
        notes.append(f"At most {_WRONG} wrong queries of a task are shown.")
    note(drawn, notes)
    return save_figure(drawn, path)


def _wrong(one: _Seen) -> list[int]:
    """Return the queries that were answered wrongly; an answer that is not finite is."""
    right = (one.output.argmax(1) == _truth(one)) & torch.isfinite(one.output).all(1)
    return torch.nonzero(~right).flatten().tolist()


def _truth(one: _Seen) -> Tensor:
    y = one.task.query[1]
    return y.argmax(1) if y.dim() == 2 else y


def _draw_row(axes: Any, top: float, one: _Seen, wrong: Sequence[int], source: Any, start: float) -> None:
    (support, labels), (query, _) = one.task.support, one.task.query
    labels = labels.argmax(1) if labels.dim() == 2 else labels
    ways = int(max(labels.max(), _truth(one).max())) + 1
    names, below = _names(one.names, ways)
    images = pictures(torch.cat((support, query)), source, None)
    axes.text(0, top + 0.35, f"task {one.number}", ha="left", va="center", fontsize=10, fontweight="bold")
    axes.text(0, top + 0.66, f"{100 * one.value:.0f} % right", ha="left", va="center", fontsize=9, color="0.25")
    axes.text(
        0, top + 0.92, f"{len(query) - len(wrong)} of {len(query)}", ha="left", va="center", fontsize=8, color="0.4"
    )
    for column in range(min(ways, _CLASSES)):
        rows = torch.nonzero(labels == column).flatten().tolist()
        if rows:
            place(axes, images[rows[0]], _LABEL + column, top)
            frame(axes, _LABEL + column, top, "0.82", 0.7)
        axes.text(_LABEL + column + 0.5, top + 1.0, below[column], ha="center", va="top", fontsize=7)
    chances = one.output.softmax(1)
    for slot, row in enumerate(wrong[:_WRONG]):
        x = start + slot
        place(axes, images[len(labels) + row], x, top)
        frame(axes, x, top, RED, 2.0)
        axes.text(x + 0.5, top + 1.0, names[int(_truth(one)[row])], ha="center", va="top", fontsize=7)
        sure = float(chances[row].max())
        said = f"✗ {names[int(one.output[row].argmax())]} {100 * sure:.0f}%" if np.isfinite(sure) else "✗ not finite"
        axes.text(x + 0.5, top + 1.22, said, ha="center", va="top", fontsize=7, color=RED)


def _names(known: Sequence[str] | None, ways: int) -> tuple[list[str], list[str]]:
    """Return what classes are called beside queries, and below the support images: letters where names are long."""
    if known is None or len(known) < ways:
        return letters(ways), letters(ways)
    if all(short(name) == name for name in known):
        return list(known), list(known)
    return letters(ways), [f"{letter}: {short(name)}" for letter, name in zip(letters(ways), known, strict=True)]


def _draw_lines(seen: Sequence[_Seen], title: str, metric: str, path: Path | str) -> Path:
    columns = min(5, len(seen))
    drawn = figure(2.6 * columns + 0.4, 2.3 * -(-len(seen) // columns) + 1.0)
    grid = drawn.subplots(-(-len(seen) // columns), columns, squeeze=False, sharex=True)
    if not seen:
        only_note(drawn, "no task was measured")
        return save_figure(drawn, path)
    for axes, one in zip(grid.flat, seen, strict=False):
        x, truth = one.task.query[0][:, 0], one.task.query[1][:, 0]
        order = x.argsort()
        axes.plot(x[order], truth[order], color="0.65", linewidth=4, label="truth", solid_capstyle="round")
        axes.plot(x[order], one.output[:, 0][order], color=BLUE, linewidth=1.8, label="answer")
        axes.plot(
            one.task.support[0][:, 0], one.task.support[1][:, 0], "^", color="black", markersize=5, label="support"
        )
        tidy(axes, title=f"task {one.number}: {metric} {one.value:.3g}")
    for axes in grid.flat[len(seen) :]:
        axes.axis("off")
    drawn.suptitle(title, fontsize=11)
    note(drawn, ["Grey: the truth. Blue: what was answered. Triangles: the support points."])
    return save_figure(drawn, path)
