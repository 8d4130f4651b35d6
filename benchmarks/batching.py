"""Whether it pays to adapt several users' tasks at once, as one vmap, rather than one after another.

    python benchmarks/batching.py       # two minutes; writes the result file and the table of docs/serve.md

The shipped model `drawing`, 5 classes, one drawing each, 10 steps, one question: what the service's users ask for. One
thread, as in the service. The routes take turns; the medians of all rounds are compared.
"""

import copy
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch

import fastadapt as fa
from fastadapt.atomic import write_text
from fastadapt.engine.engine import Engine

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "results" / "batching.json"
PAGE = ROOT / "docs" / "serve.md"
BEGIN, END = "<!-- batching -->", "<!-- /batching -->"
WAYS, STEPS, ROUNDS = 5, 10, 7
EQUAL = "vmap's answers are the loop's, bit for bit"


def tasks(count: int) -> list[fa.Task]:
    """Return tasks of noise: what is in the pictures does not change the time."""
    torch.manual_seed(0)
    y = torch.arange(WAYS)
    return [fa.Task((torch.rand(WAYS, 1, 28, 28), y), (torch.rand(1, 1, 28, 28), y[:1])) for _ in range(count)]


def table(content: dict[str, Any]) -> str:
    """Return the table of the documentation."""
    rows = [
        f"| {row['tasks at once']} | {row['loop, ms a task']:.0f} ms | {row['vmap, ms a task']:.0f} ms | "
        f"{'yes' if row[EQUAL] else 'no'} |"
        for row in content["rows"]
    ]
    head = "| tasks | one after another | at once (vmap) | the same bits |\n|---|---|---|---|\n"
    return f"{BEGIN}\n`{content['command']}`, milliseconds a task:\n\n{head}" + "\n".join(rows) + f"\n{END}"


def main() -> None:
    """Measure, print and write."""
    torch.set_num_threads(1)
    run = fa.load_run("drawing").narrowed(WAYS)
    learners: dict[str, Any] = {"loop": run.learner, "vmap": copy.deepcopy(run.learner)}
    for route, learner in learners.items():
        learner.engine = Engine(fa.Execution(route="loop" if route == "loop" else "vmap", compile="off"))
    rows = []
    for count in (1, 4, 8, 16):
        batch = tasks(count)
        took: dict[str, list[float]] = {"loop": [], "vmap": []}
        outputs = {}
        for turn in range(ROUNDS + 1):
            for route, learner in learners.items():
                began = time.perf_counter()
                outputs[route] = learner.trace(batch, STEPS).outputs
                if turn:  # the first one chooses and warms up
                    took[route].append(time.perf_counter() - began)
        loop, vmap = (statistics.median(took[route]) / count for route in ("loop", "vmap"))
        equal = all(torch.equal(a, b) for a, b in zip(outputs["loop"], outputs["vmap"], strict=True))
        rows.append(
            {
                "tasks at once": count,
                "loop, ms a task": round(1e3 * loop, 1),
                "vmap, ms a task": round(1e3 * vmap, 1),
                EQUAL: equal,
            }
        )
        print(rows[-1], flush=True)
    content = {
        "command": "python benchmarks/batching.py",
        "versions": {"fastadapt": fa.__version__, "torch": torch.__version__},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "rows": rows,
    }
    write_text(OUT, json.dumps(content, indent=1) + "\n")
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(before + table(content) + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
