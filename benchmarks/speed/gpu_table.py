"""The table of the performance page of what was measured on a GPU."""

import json
from pathlib import Path
from typing import Any

from table import seconds
from workloads import WORKLOADS

Rows = list[dict[str, Any]]


def lines(path: Path) -> list[str]:
    """Return the tables of a result file, or that there is none.

    Args:
        path: what `gpu.py` wrote.
    """
    if not path.is_file():
        return ["Not measured: no GPU has run this since there are graphs. `make speed-gpu` does, and writes tables."]
    content = json.loads(path.read_text(encoding="utf-8"))
    machine, parts = content["machine"], content["parts"]
    found = [
        f"`{content['command']}`, {content['date'][:10]}: {machine['device']}, torch {machine['torch']} "
        f"(CUDA {machine['cuda']}), Python {machine['python']}.",
        "",
    ]
    steps = {name: rows for name, rows in parts.items() if name not in ("train", "convolutions")}
    for title, cell in (("an outer step", _time), ("error of the gradient", _error), ("peak memory", _peak)):
        found += [*_table(title, steps, cell), ""]
    for row in parts.get("train", []):
        rate = f"{row['steps/s']:.3g} outer steps a second" if "steps/s" in row else row["status"]
        found += [f"`fastadapt {row['way']}`: {rate}, of {row.get('data', 'no tasks')}.", ""]
    shapes = _by_shape(parts.get("convolutions", []))
    if shapes:
        found += [*_table("a convolution of each task's own filters, and both gradients", shapes, _time), ""]
    refused = {
        f"- {row['way']}: {row['status']} ({name})"
        for name, rows in parts.items()
        for row in rows
        if row["status"] != "ok"
    }
    return found[:-1] + (["", "Not measured:", "", *sorted(refused)] if refused else [])


def _table(title: str, parts: dict[str, Rows], cell: Any) -> list[str]:
    """Return a table of parts against the ways to compute them."""
    ways = list(dict.fromkeys(row["way"] for rows in parts.values() for row in rows if "seconds" in row))
    table = [f"| {title} | {' | '.join(ways)} |", "|---" * (len(ways) + 1) + "|"]
    for name, rows in parts.items():
        at = {row["way"]: row for row in rows if "seconds" in row}
        texts = [cell(at[way]) if way in at else "-" for way in ways]
        table.append(f"| {_titled(name)} | {' | '.join(texts)} |")
    return table


def _titled(name: str) -> str:
    return WORKLOADS[name].title if name in WORKLOADS else name


def _by_shape(rows: Rows) -> dict[str, Rows]:
    found: dict[str, Rows] = {}
    for row in rows:
        if "images" in row:
            side = f"{row['side']}x{row['side']}"
            shape = f"{row['tasks']} tasks of {row['images']}, {row['channels']} to {row['filters']}, {side}"
            found.setdefault(shape, []).append(row)
    return found


def _time(row: dict[str, Any]) -> str:
    return seconds(row["seconds"])


def _error(row: dict[str, Any]) -> str:
    return "-" if row.get("error") is None else f"{row['error']:.1e}"


def _peak(row: dict[str, Any]) -> str:
    return f"{row['peak_mb']:.0f} MB" if "peak_mb" in row else "-"
