"""What is timed: outer steps of papers' settings on Omniglot, as many processes take them, and the links between them.

Run by `run.py`, through torch's launcher or alone; prints nothing, and writes `OUT` from the first process.
"""

import dataclasses
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import fastadapt as fa
from fastadapt.ranks import Ranks
from fastadapt.runs.presets import PRESETS
from fastadapt.training.launch import join, leave

SECONDS = 4.0
"""How long a job takes its steps, about, of the processor's time: other work stretches the clock's."""
MAML, REPTILE = "maml-omniglot-5w1s", "reptile-omniglot-5w1s"
JOBS: dict[str, list[tuple[str, int, int, str]]] = {
    "1": [
        *((MAML, tasks, 1, "none") for tasks in (4, 8, 16, 32)),
        *((REPTILE, tasks, 1, "none") for tasks in (2, 4, 8)),
    ],
    "2": [
        (MAML, 16, 1, "none"),
        (MAML, 32, 1, "none"),
        (MAML, 32, 1, "full"),
        (REPTILE, 4, 1, "none"),
        (REPTILE, 4, 5, "none"),
        (REPTILE, 8, 1, "none"),
        (REPTILE, 8, 5, "none"),
    ],
}
"""By the number of processes: preset, tasks of a step by all, local steps, sharding."""


def build(preset: str, tasks: int, local: int) -> tuple[Any, Any, fa.Training]:
    """Return learner, source of tasks, and settings of a few steps."""
    config = PRESETS[preset][1]
    if preset == REPTILE:  # the rule's state stays in a task: processes may then step apart
        config = dataclasses.replace(config, method=dataclasses.replace(config.method, inner_state="reset"))
    training = dataclasses.replace(
        config.training, meta_batch=tasks, local_steps=local, schedule="constant", validate_every=0
    )
    torch.manual_seed(0)
    return config.build(), config.data.source("train", config.data.load(None, False)), training


def timed(preset: str, tasks: int, local: int, sharding: str, ranks: Ranks) -> dict[str, Any]:
    """Return the seconds that outer steps took in this process, on the clock and of its processor."""
    learner, source, training = build(preset, tasks, local)
    marks: list[tuple[float, float]] = []
    learner.at_step = lambda step: marks.append((time.perf_counter(), time.process_time()))

    def train(steps: int) -> list[tuple[float, float]]:
        marks.clear()
        long = 1_000_000 // local * local  # nothing is written on the way
        settings = dataclasses.replace(training, steps=steps, log_every=long, checkpoint_every=long)
        fa.meta_train(learner, source, settings, sharding=sharding, quiet=True)
        ends = marks[::local]  # a round counts as one
        return [((b[0] - a[0]) / local, (b[1] - a[1]) / local) for a, b in itertools.pairwise(ends)]

    first = train(5 * local)
    pace = ranks.said(min(own for _, own in first))
    taken = train(local * max(6, round(SECONDS / pace / local)))[2:]
    wall, own = zip(*taken, strict=True)
    return {
        "preset": preset,
        "tasks": tasks,
        "processes": ranks.world,
        "local steps": local,
        "sharding": sharding,
        "parameters": sum(p.numel() for p in learner.parameters() if p.requires_grad),
        "seconds": median(wall),
        "processor seconds": median(own),
        "spread of seconds": [percentile(wall, 0.1), percentile(wall, 0.9)],
        "steps": len(wall) * local,
        "all processor seconds": [round(value, 6) for value in own[:200]],
    }


def links(ranks: Ranks) -> list[dict[str, float]]:
    """Return the seconds of all-reduces of several sizes, and of what a step gathers beside its gradient."""
    rows = []
    for numbers in (1, 256, 16_384, 262_144, 1_048_576, 4_194_304):
        values, taken = torch.ones(numbers), []
        for _ in range(30):
            dist.barrier()
            since = time.perf_counter()
            dist.all_reduce(values)
            taken.append(time.perf_counter() - since)
            values.fill_(1.0)
        rows.append({"bytes": 4 * numbers, "seconds": median(taken), "best": min(taken)})
    taken = []
    for _ in range(30):
        dist.barrier()
        since = time.perf_counter()
        ranks.gathered({"": torch.ones(16), "accuracy": torch.ones(16)})
        taken.append(time.perf_counter() - since)
    return [*rows, {"bytes": -1, "seconds": median(taken), "best": min(taken)}]


def median(values: Any) -> float:
    """Return the median."""
    return percentile(values, 0.5)


def percentile(values: Any, share: float) -> float:
    """Return the value that a share of all are below."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main() -> None:
    """Run the jobs of as many processes as there are."""
    torch.set_num_threads(1)
    ranks, _ = join(torch.device("cpu"))
    rows = []
    for job in JOBS[str(ranks.world)]:
        each = ranks.gathered(timed(*job, ranks))
        rows.append({**each[0], "processor seconds": max(row["processor seconds"] for row in each)})
    found = {"jobs": rows, "links": links(ranks) if ranks.many else []}
    if ranks.first:
        Path(sys.argv[1]).write_text(json.dumps(found), encoding="utf-8")
    leave()


if __name__ == "__main__":
    main()
