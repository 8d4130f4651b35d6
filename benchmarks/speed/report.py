"""Write the tables of docs/performance.md from the committed measurement.

    python benchmarks/speed/report.py [--check]

A test holds the page to the file (--check), so no number there can be without one.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import side_tables  # noqa: E402
from table import Row, best_by_peer, seconds  # noqa: E402

ROOT = HERE.parents[1]
PAGE = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "benchmarks" / "results" / "speed" / "speed.json"
BEGIN, END = "<!-- speed -->", "<!-- /speed -->"
ORDER = ("fastadapt", "fastadapt-eager", "plain", "learn2learn", "higher", "torchopt", "jax")
SWEEPS = {
    "steps": ("Inner steps", "k", "steps"),
    "tasks-sinusoid": ("Tasks of the sinusoid MLP", "tasks", "tasks"),
    "tasks-omniglot": ("Tasks of Conv4-64", "tasks", "tasks"),
}
Content = dict[str, Any]
Cell = Callable[[Row, Row | None], str]


def of_group(content: Content, group: str) -> list[dict[str, Any]]:
    """Return the workloads of one group, in the order of their steps and tasks where it is a sweep."""
    found = [w for w in content["workloads"].values() if w["group"] == group]
    return found if group == "main" else sorted(found, key=lambda w: (w["steps"], w["tasks"]))


def per_peer(title: str, workloads: list[dict[str, Any]], cell: Cell, label: str = "title") -> list[str]:
    """Return a table of workloads against peers, each by its fastest variant."""
    present = {row["peer"] for w in workloads for row in w["rows"]}
    names = [name for name in ORDER if name in present]
    found = [f"| {title} | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for workload in workloads:
        best = best_by_peer(workload["rows"])
        ours = best.get("fastadapt", {})
        texts = [
            cell(best[n], ours if "seconds" in ours else None) if n in best and "seconds" in best[n] else "-"
            for n in names
        ]
        found.append(f"| {workload[label]} | {' | '.join(texts)} |")
    return [*found, ""]


def duration(row: Row, ours: Row | None) -> str:
    """Return a time: our own with its range, another's with the ratio and its range."""
    if row is ours or ours is None:
        return f"{seconds(row['seconds'])} ({seconds(row['seconds min'])} to {seconds(row['seconds max'])})"
    low, high = row["ratio range"]
    return f"{seconds(row['seconds'])}, **{row['ratio']:.2f}x** ({low:.2f} to {high:.2f})"


def megabytes(row: Row, ours: Row | None) -> str:
    """Return the peak memory over the data, with the ratio to ours."""
    own = f"{row['data peak_mb']:.0f} MB"
    return own if row is ours or ours is None else f"{own}, {row['data peak_mb'] / ours['data peak_mb']:.2f}x"


def facts(content: Content) -> list[str]:
    """Return machine, command and versions of each run."""
    found = []
    for date, run in content["runs"].items():
        machine = run["machine"]
        peaks = " and ".join(f"{p:.0f} at {n}" for n, p in machine["GEMM GFLOP/s by threads"].items())
        workloads = [w for w in content["workloads"].values() if w["run"] == date]
        versions = {lib: v for w in workloads for row in w["rows"] for lib, v in row.get("versions", {}).items()}
        found += [
            f"`{run['command']}`, {date[:10]}, {len(workloads)} workloads: {run['threads']} threads of "
            f"{machine['cores']} cores with {machine['instructions']}, {machine['memory GiB']} GiB; a matrix product "
            f"reaches (GFLOP/s at threads) {peaks}. "
            + ", ".join(f"{lib} {v}" for lib, v in versions.items())
            + f", Python {machine['python']}.",
            "",
        ]
    return found


def arithmetic(workloads: list[dict[str, Any]]) -> list[str]:
    """Return the table of GFLOP/s and of their share of the matrix-product peak."""
    cell: Cell = lambda row, _: f"{row['GFLOP/s']:.3g}, {row['share of GEMM']:.0%}"  # noqa: E731
    titled = [{**w, "title": f"{w['title']}: {w['GFLOP']:.3g} GFLOP"} for w in workloads]
    return per_peer("GFLOP/s, share of the GEMM peak", titled, cell)


def sweeps(content: Content) -> list[str]:
    """Return time and memory against inner steps and tasks."""
    found = []
    for group, (title, column, label) in SWEEPS.items():
        points = of_group(content, group)
        if not points:
            continue
        found += [f"**{title}.** Time of an outer step:", "", *per_peer(column, points, duration, label)]
        found += ["Peak memory over the data:", "", *per_peer(column, points, megabytes, label)]
        found += growth(points) if group == "steps" else []
    return found


def growth(points: list[dict[str, Any]]) -> list[str]:
    """Return how memory grows from 5 to 50 inner steps."""
    at = {p["steps"]: best_by_peer(p["rows"]) for p in points}
    if not {5, 50} <= set(at):
        return []
    ratios = [
        f"{name} {at[50][name]['data peak_mb'] / at[5][name]['data peak_mb']:.2f}x"
        for name in ORDER
        if all("data peak_mb" in at[k].get(name, {}) for k in (5, 50))
    ]
    return [f"Memory at 50 steps against 5: {', '.join(ratios)}.", ""]


def not_timed(content: Content) -> list[str]:
    """Return what was not measured, and why, and the installation's tricks."""
    found: dict[str, list[str]] = {}
    for name, workload in content["workloads"].items():
        for row in workload["rows"]:
            if row["status"] != "ok" and not row["status"].startswith("timed once"):
                found.setdefault(f"{row['variant']}: {row['status']}", []).append(name)
    notes = {f"{p}: {n}" for run in content["runs"].values() for p, ns in run["peers"].items() for n in ns}
    lines = [f"- {text} ({', '.join(names)})" for text, names in found.items()]
    lines += [f"- {note}" for note in sorted(notes)]
    return ["Not timed, or installed with tricks:", "", *lines, ""] if lines else []


def section(results: Path) -> str:
    """Return the whole section, between its marks."""
    if not results.is_file():
        return "\n".join([BEGIN, "Not measured yet; `make speed` writes the figures.", END])
    content = json.loads(results.read_text(encoding="utf-8"))
    main = of_group(content, "main")
    error: Cell = lambda row, _: f"{row['error']:.1e}"  # noqa: E731
    lines = [*facts(content)]
    if main:
        lines += per_peer("an outer step", main, duration)
        lines += per_peer("peak memory over the data", main, megabytes)
        lines += per_peer("error of the gradient", main, error)
        lines += arithmetic(main)
    lines += [*sweeps(content), *not_timed(content)]
    return "\n".join([BEGIN, *lines[:-1], END])


def between(text: str, begin: str, end: str, new: str) -> str:
    """Return `text` with what lies between two marks, marks included, replaced; unchanged where there are none."""
    if begin not in text:
        return text
    before, rest = text.split(begin)
    _, after = rest.split(end)
    return before + new + after


def main(words: list[str] | None = None) -> None:
    """Put the section into the page, or compare it with the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where the page says something else")
    options = parser.parse_args(words)
    text = options.page.read_text(encoding="utf-8")
    wanted = between(text, BEGIN, END, section(options.results))
    for name, lines in side_tables.SECTIONS.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        wanted = between(wanted, begin, end, "\n".join([begin, *lines(), end]))
    if options.check and wanted != text:
        raise SystemExit(f"{options.page} is not what {options.results} says; run python benchmarks/speed/report.py")
    if not options.check:
        options.page.write_text(wanted, encoding="utf-8")


if __name__ == "__main__":
    main()
