"""Pictures of a run on faces: similarities of each domain, ROC curves, and the pairs that were hardest."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from fastadapt.data.domains.face_set import FaceSet
from fastadapt.data.domains.face_settings import FacesData
from fastadapt.faces.measure import scores_of
from fastadapt.faces.verification import Scores, area, roc
from fastadapt.report.curves import draw_curves
from fastadapt.report.style import BLUE, RED, figure, line_style, need_matplotlib, save_figure, tidy

BINS = np.linspace(-1, 1, 81)
PAIRS = 6
"""Hardest pairs of each kind that are drawn."""


def write_face_report(
    folder: Path, model: nn.Module, data: FacesData, faces: FaceSet, records: list[dict[str, Any]], name: str
) -> list[Path]:
    """Write `folder/report/` with `curves.png`, `similarities.png`, `roc.png` and `hardest.png`.

    Args:
        folder: of the run.
        model: the embedding, in evaluation mode.
        data: what it was trained on.
        faces: the faces.
        records: the records of `metrics.jsonl`.
        name: the run's name.

    Returns:
        The files that were written.

    Raises:
        MissingExtraError: if matplotlib is not installed.
        CheckpointError: if a file can't be written.
    """
    need_matplotlib()
    report = folder / "report"
    scores = {
        f"{d} (unseen)": scores_of(model, faces, data.recipe, [d], without=faces.met(d, data.domains))
        for d in data.targets
    }
    for domain in data.domains:
        if len(faces.people([domain], ["test"])) > 1:
            scores[domain] = scores_of(model, faces, data.recipe, [domain], ["test"])
    files = [draw_curves(records, report / "curves.png", name=name)]
    files += [draw_similarities(scores, report / "similarities.png"), draw_roc(scores, report / "roc.png")]
    if data.targets:
        files.append(draw_hardest(model, data, faces, data.targets[0], report / "hardest.png"))
    return files


def draw_similarities(scores: dict[str, Scores], path: Path) -> Path:
    """Draw for each domain how similar pairs of one identity and pairs of two are."""
    columns = min(3, len(scores))
    rows = -(-len(scores) // columns)
    drawn = figure(3.4 * columns, 2.4 * rows)
    panels = np.atleast_1d(drawn.subplots(rows, columns, sharex=True)).ravel()
    for axes, (name, each) in zip(panels, scores.items(), strict=False):
        axes.hist(each.impostor, BINS, density=True, color=RED, alpha=0.5, label="two people")
        axes.hist(each.genuine, BINS, density=True, histtype="step", color=BLUE, linewidth=1.5, label="one person")
        tidy(axes, title=name, x="cosine", y="density")
    for axes in panels[len(scores) :]:
        axes.set_visible(False)
    panels[0].legend(fontsize=8, frameon=False)
    return save_figure(drawn, path)


def draw_roc(scores: dict[str, Scores], path: Path) -> Path:
    """Draw the ROC curve of each domain, false accepts on a logarithmic axis."""
    drawn = figure(6.4, 4.4)
    axes = drawn.subplots()
    for number, (name, each) in enumerate(scores.items()):
        false, true = roc(each.genuine, each.impostor)
        style = {**line_style(number), "marker": ""}
        axes.plot(
            false, true, drawstyle="steps-post", label=f"{name}, AUC {area(each.genuine, each.impostor):.3f}", **style
        )
    axes.set_xscale("log")
    axes.set_xlim(1e-3, 1)
    axes.set_ylim(0, 1.01)
    tidy(axes, title="pairs of one person accepted", x="pairs of two people accepted", y="")
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    return save_figure(drawn, path)


def draw_hardest(model: nn.Module, data: FacesData, faces: FaceSet, domain: str, path: Path) -> Path:
    """Draw the least similar pairs of one person and the most similar pairs of two people of a domain."""
    met = faces.met(domain, data.domains)
    rows = faces.images_of(np.setdiff1d(faces.people([domain]), met))
    scores = scores_of(model, faces, data.recipe, [domain], without=met)
    probes, gallery = rows[~faces.gallery[rows]], rows[faces.gallery[rows]]
    drawn = figure(1.5 * PAIRS, 6.2)
    panels = drawn.subplots(4, PAIRS)
    for top, (same, sign) in enumerate(((True, 1), (False, -1))):
        order = np.where(scores.same == same, sign * scores.matrix, np.inf)
        for column, place in enumerate(_different(order, scores.probe)):
            _pair(
                panels[2 * top : 2 * top + 2, column], faces, gallery[place[1]], probes[place[0]], scores.matrix[place]
            )
    for axes in panels.flat:
        axes.set_axis_off()
    drawn.suptitle(f"{domain}: above one person, least alike; below two people, most alike", fontsize=10)
    return save_figure(drawn, path)


def _different(order: np.ndarray, people: np.ndarray) -> Sequence[tuple[int, int]]:
    """Return the places of the smallest values, each of another identity's probe."""
    found: dict[int, tuple[int, int]] = {}
    for place in np.argsort(order, axis=None):
        row, column = np.unravel_index(place, order.shape)
        if len(found) == PAIRS or not np.isfinite(order[row, column]):
            break
        found.setdefault(int(people[row]), (int(row), int(column)))
    return list(found.values())


def _pair(panels: Any, faces: FaceSet, enrolled: int, probe: int, score: float) -> None:
    for axes, image in zip(panels, (enrolled, probe), strict=True):
        axes.imshow(faces.images[image], cmap="gray", vmin=0, vmax=255)
    panels[0].set_title(f"{score:.2f}", fontsize=8)
