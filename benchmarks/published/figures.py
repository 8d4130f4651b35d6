"""Draw the papers' figures, on the papers' axes, from the committed result files.

    python benchmarks/published/figures.py

They go to docs/images/published/: the error against inner steps and one adapted wave (MAML, figures 3 and 2), one wave
before training, after MAML and after Reptile (Reptile, figure 1), the ten gradient combinations and the overlap
ablation (Reptile). A figure whose results are not there yet is left out.
"""

from pathlib import Path
from typing import Any

import numpy as np

from fastadapt.evaluation import Evaluation, Protocol
from fastadapt.published.gradients import COMBINATIONS, CURVES, FORMULAS, PANELS
from fastadapt.report.curves import smooth
from fastadapt.report.sinusoid import draw_waves
from fastadapt.report.steps import draw_steps
from fastadapt.report.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    add_legend,
    figure,
    line_style,
    note,
    number,
    panels_with_legend,
    save_figure,
    tidy,
)
from fastadapt.report.waves import AdaptedWave
from report import ROOT, results

OUT = ROOT / "docs" / "images" / "published"
SINUSOID = {
    "MAML, K = 10": "maml-sinusoid",
    "MAML, K = 5": "maml-sinusoid-k5",
    "first-order MAML": "fomaml-sinusoid",
    "pretraining": "pretrain-sinusoid",
    "oracle": "oracle-sinusoid",
}


def evaluation(measured: dict[str, Any]) -> Evaluation:
    """Return a measurement of a result file as an evaluation without the single tasks."""
    numbers = {name: [number(v) for v in measured[name]] for name in ("mean", "ci95", "median", "finite_mean")}
    return Evaluation(
        protocol=Protocol(**measured["protocol"]),
        metric=measured["metric"],
        nonfinite=measured["nonfinite"],
        nonfinite_tasks=[],
        transductive=measured["transductive"],
        higher_is_better=measured["higher_is_better"],
        norm=measured["norm"],
        losses=[],
        per_task=[],
        after=measured.get("after") or list(range(len(numbers["mean"]))),
        **numbers,
    )


def steps_figure(found: dict[str, dict]) -> Path | None:
    """Draw the error against the number of gradient steps, K = 5, 10, 20 (MAML, figure 3)."""
    drawn = {}
    for label, name in SINUSOID.items():
        if name in found:
            measurements = found[name]["runs"][0]["measurements"]
            drawn[label] = {int(m["name"].removeprefix("K=")): evaluation(m) for m in measurements}
    return draw_steps(drawn, OUT / "sinusoid-steps.png") if drawn else None


def waves_figure(found: dict[str, dict]) -> Path | None:
    """Draw one wave before and after adaptation (MAML, figure 2)."""
    rows, rates = {}, {}
    for label, name in (("MAML", "maml-sinusoid"), ("pretraining", "pretrain-sinusoid")):
        run = found.get(name, {"runs": [{}]})["runs"][0]
        if "waves" in run:
            rows[label] = [AdaptedWave.from_record(wave) for wave in run["waves"]]
            rated = [m for m in run["measurements"] if "rate" in m]
            rates[label] = {int(m["name"].removeprefix("K=")): float(m["rate"]) for m in rated}
    return draw_waves(rows, OUT / "sinusoid-adaptation.png", rates=rates) if rows else None


def reptile_figure(found: dict[str, dict]) -> Path | None:
    """Draw one wave before training, after MAML and after Reptile, adapted in 32 steps (Reptile, figure 1)."""
    rows = {}
    for label, name, key in (
        ("before training", "reptile-sinusoid", "waves before training"),
        ("MAML", "maml-sinusoid-circle", "waves"),
        ("Reptile", "reptile-sinusoid", "waves"),
    ):
        run = found.get(name, {"runs": [{}]})["runs"][0]
        if key in run:
            rows[label] = [AdaptedWave.from_record(wave) for wave in run[key]]
    return draw_waves(rows, OUT / "sinusoid-reptile.png") if len(rows) == 3 else None


def gradients_figure(found: dict[str, dict]) -> Path | None:
    """Draw accuracy against outer steps for the ten combinations of inner gradients (Reptile, figure 3)."""
    present = [name for name in COMBINATIONS if f"gradients-{name}" in found]
    if not present:
        return None
    colors = {"1": GREY, "2": ORANGE, "3": GREEN, "4": BLUE}
    dashes: dict[str, Any] = {"g": "-", "sum": "-", "mean": (0, (1.5, 1.2)), "last": (0, (5, 1.5))}
    drawn = figure(8.4, 4.8)
    axes = drawn.subplots()
    for name in present:
        run = found[f"gradients-{name}"]["runs"][0]
        steps = [point["step"] for point in run["curve"]]
        accuracy = smooth([number(point["val accuracy"]) for point in run["curve"]], 3)
        style = {"color": colors[name[-1]], "linestyle": dashes[name[:-1]]}
        axes.plot(steps, 100 * accuracy, linewidth=1.8, label=FORMULAS[name], **style)
    tidy(axes, x="outer steps", y="accuracy on 20 validation tasks (%)")
    axes.set_ylim(0, 100)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=3)
    drawn.suptitle("Omniglot, 5-way 5-shot: which gradients make the outer step", fontsize=11)
    remarks = ["Mean over three neighbouring validations; not transductive; 5 inner steps at test."]
    note(drawn, remarks)
    return save_figure(drawn, OUT / "gradients.png")


def overlap_figure(found: dict[str, dict]) -> Path | None:
    """Draw the three panels of the overlap ablation (Reptile, figure of FOMAML's hyper-parameters)."""
    words = {"steps": "inner steps", "batch": "samples of a minibatch", "rate": "outer rate"}
    names = {
        "reptile": "Reptile",
        "separate": "FOMAML, separate tail",
        "cycling": "FOMAML, shared tail, cycling",
        "replacement": "FOMAML, shared tail, replacement",
    }
    if not any(name.startswith("overlap-") for name in found):
        return None
    drawn = figure(12.0, 4.2)
    panels, strip = panels_with_legend(drawn, 1, len(PANELS), sharey=True)
    for axes, (panel, values) in zip(panels[0], PANELS.items(), strict=True):
        for i, curve in enumerate(CURVES):
            points = []
            for value in values:
                content = found.get(f"overlap-{panel}-{value:g}-{curve}")
                if content is not None:
                    measured = content["runs"][0]["measurements"][0]
                    points.append((value, 100 * number(measured["mean"][-1]), 100 * number(measured["ci95"][-1])))
            if points:
                x, mean, half = (np.array(column) for column in zip(*points, strict=True))
                axes.plot(x, mean, label=names[curve], linewidth=1.8, **line_style(i))
                axes.fill_between(x, mean - half, mean + half, color=line_style(i)["color"], alpha=0.15, linewidth=0)
        tidy(axes, x=words[panel])
    panels[0, 0].set_ylabel("test accuracy (%)", fontsize=9)
    panels[0, 0].set_ylim(0, 100)
    add_legend(strip, panels)
    drawn.suptitle("Omniglot, 5-way 5-shot, 20 training shots: the last minibatch and the others", fontsize=11)
    return save_figure(drawn, OUT / "overlap.png")


def main() -> None:
    """Draw all."""
    found = results()
    for draw in (steps_figure, waves_figure, reptile_figure, gradients_figure, overlap_figure):
        print(draw(found) or f"{draw.__name__}: no results yet")


if __name__ == "__main__":
    main()
