"""The figures as text: what the command prints, and the best variant of each peer."""

from collections.abc import Callable
from typing import Any

Row = dict[str, Any]


def best_by_peer(rows: list[Row]) -> dict[str, Row]:
    """Return each peer's fastest variant, or the first one where none was timed."""
    found: dict[str, Row] = {}
    for row in rows:
        known = found.get(row["peer"])
        if known is None or row.get("seconds", float("inf")) < known.get("seconds", float("inf")):
            found[row["peer"]] = row
    return found


def seconds(value: float) -> str:
    """Return a duration with three significant digits."""
    return f"{value:.3g} s" if value >= 1 else f"{1000 * value:.3g} ms"


def lines(result: dict[str, Any]) -> list[str]:
    """Return one workload as lines of text."""
    ours = next((r for r in result["rows"] if r["variant"] == "fastadapt" and "seconds" in r), None)
    found = [
        f"{result['title']} ({result['GFLOP']:.3g} GFLOP)",
        f"  {'':<20}{'a step':>9}{'min':>10}{'max':>10}{'ratio':>8}{'data MB':>9}{'memory':>8}"
        f"{'GFLOP/s':>9}{'of GEMM':>9}{'error':>9}{'of all':>9}{'first':>9}",
    ]
    for row in result["rows"]:
        error = f"{row['error']:.1e}" if "error" in row else ""
        error += f"{row['error of all tasks']:>9.1e}" if error else ""
        if "seconds" not in row:
            found.append(f"  {row['variant']:<20}{row['status']} {error}")
            continue
        cell: Callable[[float | None, str], str] = lambda v, form: "" if v is None else format(v, form)  # noqa: E731
        memory = row["data peak_mb"] / ours["data peak_mb"] if ours else None
        found.append(
            f"  {row['variant']:<20}{seconds(row['seconds']):>9}{seconds(row['seconds min']):>10}"
            f"{seconds(row['seconds max']):>10}{cell(row['ratio'], '.2f'):>8}{row['data peak_mb']:>9.0f}"
            f"{cell(memory, '.2f'):>8}{row['GFLOP/s']:>9.1f}{row['share of GEMM']:>9.1%}{error:>18}"
            f"{seconds(row['first step s']):>9}" + ("" if row["status"] == "ok" else f"  {row['status']}")
        )
    return found
