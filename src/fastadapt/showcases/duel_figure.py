"""The picture of a duel: error against what a new task gives, one panel a problem; the Gaussian prior in black."""

import textwrap
from collections.abc import Mapping
from typing import Any

from fastadapt.report.style import BLACK, BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, figure, note, tidy

_LEARNED = {"MAML": (BLUE, "o"), "Reptile": (RED, "s"), "CAVIA": (GREEN, "^")}
_RIVALS = ((GREY, "v"), (PINK, "D"), (ORANGE, "P"), (SKY, "X"))


def duel_figure(record: Mapping[str, Any], sentence: str) -> Any:
    """Return the figure: means, with intervals of the difference from the Gaussian, task by task.

    What was meta-trained is in colour, the floor dashed. Tasks differ more than methods do, so that intervals of the
    means themselves would hide what is told apart.

    Args:
        record: a duel, as its result file has it.
        sentence: the one to remember.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    panels = record["panels"]
    drawn = figure(4.6 * len(panels), 6.0)
    for axes, panel in zip(drawn.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _panel(axes, panel)
    drawn.suptitle(record["title"], fontsize=14, fontweight="bold")
    told = textwrap.wrap(sentence, 50 * len(panels))
    note(drawn, [*told, "Bars are 95 % intervals of the difference from the Gaussian, task by task."])
    return drawn


def _panel(axes: Any, panel: Mapping[str, Any]) -> None:
    sizes, others = panel[panel["unit"]], iter(_RIVALS * 2)
    for row in panel["methods"]:
        style = _style(row, others)
        axes.errorbar(sizes, row["mean"], yerr=row.get("gain ci95"), label=row["method"], capsize=2, **style)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    if not panel["higher is better"]:
        _ease(axes, panel)
    better = "higher" if panel["higher is better"] else "lower"
    tidy(axes, title=panel["title"], x=panel["unit"], y=f"{panel['metric']} ({better} is better)")
    axes.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)


def _style(row: Mapping[str, Any], others: Any) -> dict[str, Any]:
    if row["role"] == "gaussian":
        return {"color": BLACK, "linewidth": 2.4, "marker": "o", "markersize": 5, "zorder": 5}
    if row["role"] == "floor":
        return {"color": BLACK, "linewidth": 1.2, "linestyle": "--"}
    thin = {"markersize": 4.5, "linewidth": 1.4}
    if row["role"] == "learned":
        color, marker = next((style for name, style in _LEARNED.items() if row["method"].startswith(name)), (BLUE, "o"))
        return {"color": color, "marker": marker, **thin}
    color, marker = next(others)
    return {"color": color, "marker": marker, "linestyle": ":", **thin}


def _ease(axes: Any, panel: Mapping[str, Any]) -> None:
    """Cut off what is far worse than the others, which would press these together; the arrow says that it goes on."""
    best = [min(column) for column in zip(*(row["mean"] for row in panel["methods"]), strict=True)]
    central = [value for row in panel["methods"] if row["role"] != "rival" for value in row["mean"]]
    high, low = max(central), min(*best, *central)
    worst = max(value for row in panel["methods"] for value in row["mean"])
    if worst > high + 1.0 * (high - low):
        axes.set_ylim(low - 0.12 * (high - low), high + 0.35 * (high - low))
        axes.annotate("some go on above", (0.02, 0.985), xycoords="axes fraction", fontsize=7, va="top", color="0.4")
