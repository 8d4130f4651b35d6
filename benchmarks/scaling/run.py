"""Measure 1 and 2 processes, fit a model of the step time, and simulate more processes.

    python benchmarks/scaling/run.py [--out benchmarks/results/scaling.json] [--fit-only]

Omniglot lies in FASTADAPT_DATA. Each process has one thread. `--fit-only` fits and simulates anew from the times
in OUT.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "src")]

from model import Network, Work, line, parts, seconds  # noqa: E402

NETWORKS = {
    "Ethernet of 10 Gbit/s (30 us, 1.0 GB/s)": (30e-6, 1.0e9, 30e-6),
    "InfiniBand of 200 Gbit/s (3 us, 20 GB/s)": (3e-6, 20e9, 10e-6),
}
"""Stated, not measured: latency of a message, bytes a second, and the gathering of one process's losses."""
RANKS = (8, 64, 1024)


def measure(world: int) -> Any:
    """Return what `work.py` found with so many processes."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "found.json"
        start = [sys.executable]
        if world > 1:
            start += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
        subprocess.run([*start, str(HERE / "work.py"), str(out)], env=environment, check=True)
        return json.loads(out.read_text(encoding="utf-8"))


def unlinked() -> Any:
    """Return what two programs take at once that know nothing of each other: what this machine grants at best."""
    with tempfile.TemporaryDirectory() as place:
        outs = [Path(place) / f"{i}.json" for i in range(2)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
        started = [subprocess.Popen([sys.executable, str(HERE / "work.py"), str(out)], env=environment) for out in outs]
        if any(process.wait() for process in started):
            raise SystemExit("one of two programs side by side failed")
        return [json.loads(out.read_text(encoding="utf-8"))["jobs"] for out in outs]


def granted(one: Any, pair: Any) -> list[dict[str, Any]]:
    """Return tasks a second of two programs without a link over those of one alone."""
    rows = []
    for alone, *both in zip(one["jobs"], *pair, strict=True):
        rate = sum(1 / row["seconds"] for row in both)
        rows.append({"preset": alone["preset"], "tasks": 2 * alone["tasks"], "gain": rate * alone["seconds"]})
    return rows


def job(found: Any, preset: str, **facts: Any) -> Any:
    """Return the row of a job."""
    rows = [row for row in found["jobs"] if row["preset"] == preset]
    return next(row for row in rows if all(row[name.replace("_", " ")] == value for name, value in facts.items()))


def works(one: Any) -> dict[str, Work]:
    """Return what a step costs one process, by preset: a line through its times at several numbers of tasks.

    They are times of the processor, which other work on the machine does not stretch.
    """
    made = {}
    for preset in dict.fromkeys(row["preset"] for row in one["jobs"]):
        rows = [row for row in one["jobs"] if row["preset"] == preset]
        overhead, task = line([(row["tasks"], row["processor seconds"]) for row in rows])
        jitter = tuple(value / row["processor seconds"] for row in rows for value in row["all processor seconds"])
        made[preset] = Work(overhead, task, 4 * rows[-1]["parameters"], jitter)
    return made


def local_network(two: Any) -> Network:
    """Return latency and rate of the link between two processes here, from the best all-reduces of several sizes."""
    rows = [row for row in two["links"] if row["bytes"] > 0]
    latency, slope = line([(row["bytes"], row["best"]) for row in rows])
    gather = next(row["best"] for row in two["links"] if row["bytes"] < 0)
    return Network(latency / 2, 1 / slope, gather)  # two processes: 2 latencies, and the bytes once


def held(two: Any, made: dict[str, Work], network: Network) -> list[dict[str, Any]]:
    """Return the measured times of two processes beside those of the model, which has not seen them.

    Both are of the processor: what a step of two computes, and the copying of its all-reduce; nothing of waiting.
    """
    rows = []
    for row in two["jobs"]:
        if row["sharding"] != "none":
            continue
        spent = parts(made[row["preset"]], network, 2, row["tasks"], row["local steps"])
        told = sum(value for name, value in spent.items() if name != "waiting for the slowest")
        names = ("preset", "tasks", "local steps", "processor seconds")
        error = told / row["processor seconds"] - 1
        rows.append({**{name: row[name] for name in names}, "model": told, "error": error})
    return rows


def simulated(made: dict[str, Work]) -> list[dict[str, Any]]:
    """Return times and efficiencies of more processes: as many tasks for each (weak), or for all (strong)."""
    rows = []
    quiet = Network(0.0, 1e30, 0.0)
    for preset, work in made.items():
        each = 32 if preset.startswith("maml") else 8
        for name, facts in NETWORKS.items():
            for processes in RANKS:
                for scaling, tasks in (("weak", each * processes), ("strong", 1024)):
                    for local in (1,) if preset.startswith("maml") else (1, 5):
                        spent = parts(work, Network(*facts), processes, tasks, local)
                        total = sum(spent.values())
                        # weak: as long as one process takes for its share; strong: a W-th of what it takes for all
                        alone = seconds(work, quiet, 1, each) if scaling == "weak" else seconds(work, quiet, 1, tasks)
                        alone /= 1 if scaling == "weak" else processes
                        rows.append(
                            {"preset": preset, "network": name, "processes": processes, "scaling": scaling}
                            | {"tasks": tasks, "local steps": local, "seconds": total, "spent": spent}
                            | {"efficiency": alone / total, "breaks first": worst(spent, scaling)}
                        )
    return rows


def worst(spent: dict[str, float], scaling: str) -> str:
    """Return what costs most efficiency: one process has an overhead of the same size where each has as many tasks."""
    own = ("tasks", "overhead") if scaling == "weak" else ("tasks",)
    return max((name for name in spent if name not in own), key=lambda name: spent[name])


def speedups(one: Any, two: Any) -> list[dict[str, Any]]:
    """Return tasks a second of two processes over those of one, on the clock and by the processor's time."""
    rows = []
    for row in two["jobs"]:
        strong = job(one, row["preset"], tasks=row["tasks"])
        weak = job(one, row["preset"], tasks=row["tasks"] // 2)
        names = ("preset", "tasks", "local steps", "sharding")
        rows.append(
            {name: row[name] for name in names}
            | {"strong": strong["seconds"] / row["seconds"], "weak": 2 * weak["seconds"] / row["seconds"]}
            | {"strong by processor": strong["processor seconds"] / row["processor seconds"]}
        )
    return rows


def main() -> None:
    """Measure, fit, simulate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "scaling.json")
    parser.add_argument("--fit-only", action="store_true")
    asked = parser.parse_args()
    if asked.fit_only:
        found = json.loads(asked.out.read_text(encoding="utf-8"))
        one, two, pair = found["measured"]["1"], found["measured"]["2"], found["measured"]["two unlinked"]
    else:
        before = os.getloadavg()[0]
        one, two, pair = measure(1), measure(2), unlinked()
        found = {
            "date": datetime.date.today().isoformat(),
            "processors": os.cpu_count(),
            "load before": before,
            "load after": os.getloadavg()[0],
        }
    made, network = works(one), local_network(two)
    found |= {
        "command": "python benchmarks/scaling/run.py",
        "measured": {"1": one, "2": two, "two unlinked": pair},
        "granted": granted(one, pair),
        "speedups": speedups(one, two),
        "fitted": {
            "works": {k: {"overhead": w.overhead, "task": w.task, "bytes": w.sent} for k, w in made.items()},
            "network here": vars(network),
        },
        "held to": held(two, made, network),
        "networks": {name: dict(zip(("latency", "rate", "gather"), v, strict=True)) for name, v in NETWORKS.items()},
        "simulated": simulated(made),
    }
    asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
