"""What starts reach, against the number of steps."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastadapt.report.style import line_style, tidy
from fastadapt.showcases.race import crossing, leads


def draw_curves_by_step(axes: Any, record: Mapping[str, Any], what: str) -> None:
    """Draw a line for each start with its 95 % band over a logarithmic axis of steps, and a ring at each crossing.

    Args:
        axes: of matplotlib.
        record: what `Race.run` returned.
        what: the metric, for the axis.
    """
    steps = np.asarray(record["steps"], float)
    place = np.where(steps > 0, np.log2(np.maximum(steps, 1)) + 1, 0)
    for i, row in enumerate(record["starts"]):
        style = line_style(i)
        mean, half = np.asarray(row["mean"]), np.asarray(row["ci95"])
        axes.fill_between(place, mean - half, mean + half, color=style["color"], alpha=0.15, linewidth=0)
        width = 2.4 if row["learned"] else 1.3
        axes.plot(place, mean, **style, linewidth=width, label=row["name"] + (" (learned)" if row["learned"] else ""))
        at = crossing(dict(record), row["name"]) if row["learned"] else None
        if at is not None and any(lead.gain > 0 for lead in leads(dict(record), row["name"]) if lead.step < at):
            j = record["steps"].index(at)
            axes.plot(place[j], mean[j], "o", markersize=13, markerfacecolor="none", markeredgecolor=style["color"])
            axes.annotate(
                "caught up", (place[j], mean[j]), (0, -16), textcoords="offset points", fontsize=7.5, ha="center"
            )
    axes.set_xticks(place, [f"{int(k)}" for k in steps])
    tidy(axes, x="gradient steps", y=what)
    axes.legend(fontsize=8, frameon=False, loc="upper left")
