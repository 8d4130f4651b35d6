"""Time what an outer step of a small network is made of: the learner, its program, the optimizer, the tasks.

    python benchmarks/outer_step.py [--threads 1] [--out benchmarks/results/outer_step.json]

The network is MAML's for sine waves, 25 tasks and one inner step. A step as it is written by hand,
`learner(tasks).loss.backward(); optimizer.step()`, and as a training takes it, with their parts, run in turns in this
process. Each figure is the least of all turns, of processor time, which other processes disturb least.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import fastadapt as fa
from fastadapt.tasks import draw_batch
from fastadapt.training.adam_at_once import move
from fastadapt.training.outer_step import outer_step
from fastadapt.training.programmed import ProgrammedStep

TASKS, TURNS, TOGETHER, AHEAD = 25, 60, 20, 120
"""Tasks of a meta-batch, turns, steps of a turn, and meta-batches that are drawn together: two blocks of sine waves."""


def measured() -> dict[str, float]:
    """Return the microseconds of each part."""
    learner = fa.MAML(fa.MLP(1, (40, 40), 1, init_std=None), rule=fa.SGD(0.01), route=fa.Execution(compile="on"))
    optimizer = torch.optim.Adam(learner.parameters(), lr=1e-3)
    training, take = fa.Training(), ProgrammedStep()

    def tasks(step: int) -> list[fa.Tasks]:
        return draw_batch(fa.Sinusoid(), seed=0, split="train", indices=range(step * TASKS, (step + 1) * TASKS))

    batch = tasks(0)
    for _ in range(3):
        take(learner, batch, optimizer, training)
    call: Any = take._call
    assert call is not None and call.fits(learner, batch, optimizer)
    leaves = (*call.state, *batch[0].support, *batch[0].query)
    parts: dict[str, Callable[[], object]] = {
        "step by hand": lambda: outer_step(learner, batch, optimizer, training),
        "step of a training": lambda: take(learner, batch, optimizer, training),
        "looking whether the program fits": lambda: call.fits(learner, batch, optimizer),
        "the program": lambda: call.program(*leaves),
        "torch's Adam": optimizer.step,
        "the same on lists": lambda: move(optimizer),
    }
    least = dict.fromkeys(parts, float("inf"))
    for _ in range(TURNS):
        for name, part in parts.items():
            began = time.thread_time()
            for _ in range(TOGETHER):
                part()
            least[name] = min(least[name], (time.thread_time() - began) / TOGETHER)
    drawn = []
    for turn in range(5):
        began = time.thread_time()
        for step in range(1 + turn * AHEAD, 1 + (turn + 1) * AHEAD):
            tasks(step)
        drawn.append((time.thread_time() - began) / AHEAD)
    return {name: round(1e6 * seconds, 1) for name, seconds in {**least, "drawing the tasks": min(drawn)}.items()}


def main() -> None:
    """Measure, print and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/outer_step.json"))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    parts = measured()
    facts = {
        "command": f"python benchmarks/outer_step.py --threads {options.threads}",
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}",
        "us of processor": parts,
        "drawing, share of a step": round(parts["drawing the tasks"] / parts["step of a training"], 3),
    }
    print(json.dumps(facts, indent=1))
    options.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
