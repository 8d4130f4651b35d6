"""Draw time and memory against inner steps, and time against tasks.

    python benchmarks/speed/figures.py [--results benchmarks/results/speed] [--out docs/images]

It draws what speed.json has of the sweeps.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "src")]

from fastadapt.report import style  # noqa: E402
from report import ORDER, of_group  # noqa: E402

Points = list[dict[str, Any]]


def curves(axes: Any, points: Points, x: str, y: str, scale: float = 1.0) -> None:
    """Draw one line for each implementation."""
    for number, name in enumerate(ORDER):
        found = [(p[x], row[y] * scale) for p in points for row in p["rows"] if row["peer"] == name and y in row]
        if found:
            axes.plot(*zip(*found, strict=True), label=name, **style.line_style(number))
    axes.set_xscale("log")
    axes.set_xticks(sorted({p[x] for p in points}), [str(v) for v in sorted({p[x] for p in points})])
    axes.minorticks_off()
    values = [row[y] * scale for p in points for row in p["rows"] if y in row]
    if values:
        style.logarithmic(axes, min(values) / 1.3, max(values) * 1.3)


def draw(panels: list[tuple[Points, str, str, float, dict[str, str]]], path: Path) -> None:
    """Draw panels side by side, where there is something to draw."""
    panels = [panel for panel in panels if panel[0]]
    if not panels:
        return
    drawn = style.figure(4.2 * len(panels), 3.6)
    grid, strip = style.panels_with_legend(drawn, 1, len(panels))
    for axes, (points, x, y, scale, words) in zip(grid.flat, panels, strict=True):
        curves(axes, points, x, y, scale)
        style.tidy(axes, **words)
    style.add_legend(strip, grid)
    print(style.save_figure(drawn, path))


def main() -> None:
    """Draw the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=HERE.parent / "results" / "speed")
    parser.add_argument("--out", type=Path, default=HERE.parents[1] / "docs" / "images")
    options = parser.parse_args()
    content = json.loads((options.results / "speed.json").read_text(encoding="utf-8"))
    steps, sine, conv = (of_group(content, g) for g in ("steps", "tasks-sinusoid", "tasks-omniglot"))
    inner = {"x": "inner steps k"}
    draw(
        [
            (steps, "steps", "seconds", 1, {**inner, "title": "Conv4-64, 4 tasks", "y": "seconds an outer step"}),
            (steps, "steps", "data peak_mb", 1, {**inner, "title": "its memory", "y": "peak over the data, MB"}),
        ],
        options.out / "speed-inner-steps.png",
    )
    draw(
        [
            (sine, "tasks", "seconds", 1e3, {"x": "tasks", "title": "sinusoid MLP, k = 1", "y": "ms an outer step"}),
            (conv, "tasks", "seconds", 1, {"x": "tasks", "title": "Conv4-64, k = 1", "y": "seconds an outer step"}),
            (conv, "tasks", "data peak_mb", 1, {"x": "tasks", "title": "its memory", "y": "peak over the data, MB"}),
        ],
        options.out / "speed-tasks.png",
    )


if __name__ == "__main__":
    main()
