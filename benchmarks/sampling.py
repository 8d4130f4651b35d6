"""Time how long a meta-batch takes to draw: at once, against one task after another.

    FASTADAPT_DATA=DIR python benchmarks/sampling.py [--threads 1] [--out benchmarks/results/sampling.json]

Both draw the same tasks, in turns in this process, on new tasks each time; they are compared bit for bit before
anything is timed. Sine waves are made some thousands ahead, so as many meta-batches are timed together and divided.
The ratio is the median of the pairwise ratios of processor time, which a busy machine disturbs less than the clock.
Needs Omniglot and mini-ImageNet.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from fastadapt import Sinusoid, Tasks, TaskSource, draw, group_by_shape, omniglot_tasks
from fastadapt.data import load_mini_imagenet, load_omniglot, mini_imagenet_tasks
from fastadapt.tasks import draw_batch

PAIRS = 51
AHEAD = 120
"""Meta-batches of sine waves that are timed together: about two blocks of what is made ahead."""


def at_once(source: TaskSource, numbers: range) -> list[Tasks]:
    """Draw a meta-batch in one call of the source."""
    return draw_batch(source, seed=0, split="train", indices=numbers)


def one_by_one(source: TaskSource, numbers: range) -> list[Tasks]:
    """Draw task after task, then stack them."""
    return group_by_shape(draw(source, seed=0, split="train", indices=numbers))


def microseconds(run: Callable[[TaskSource, range], list[Tasks]], source: TaskSource, numbers: range) -> np.ndarray:
    """Return how long drawing the tasks with these numbers takes: by the clock, and of this thread's processor time."""
    began = time.perf_counter(), time.thread_time()
    run(source, numbers)
    return 1e6 * (np.array([time.perf_counter(), time.thread_time()]) - began)


def measure(name: str, source: TaskSource, tasks: int, together: int = 1) -> dict[str, object]:
    """Return the microseconds of one meta-batch and their spread over the pairs."""
    batches = [range(i * tasks, (i + 1) * tasks) for i in range((PAIRS + 1) * together)]
    for numbers in batches[:3]:
        [a], [b] = at_once(source, numbers), one_by_one(source, numbers)
        if not all(torch.equal(x, y) for x, y in zip((*a.support, *a.query), (*b.support, *b.query), strict=True)):
            raise SystemExit(f"{name}: the two ways differ in the tasks {numbers}; not timed")
    pairs = []
    for i in range(1, PAIRS + 1):
        some = batches[i * together : (i + 1) * together]
        first, second = (at_once, one_by_one) if i % 2 else (one_by_one, at_once)  # neither always has cold caches
        taken = {run: sum(microseconds(run, source, n) for n in some) / together for run in (first, second)}
        pairs.append((taken[at_once], taken[one_by_one]))
    times = np.array(pairs)  # [pairs, at once or one by one, clock or processor]
    us = np.median(times, axis=0)
    return {
        "workload": name,
        "us": round(us[0, 0]),
        "us, quartiles": [round(q) for q in np.percentile(times[:, 0, 0], (25, 75))],
        "us of processor": round(us[0, 1]),
        "us one by one": round(us[1, 0]),
        "us of processor one by one": round(us[1, 1]),
        "ratio": round(float(np.median(times[:, 1, 1] / times[:, 0, 1])), 1),
    }


def main() -> None:
    """Measure every workload, print a table and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/sampling.json"))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = [measure("sinusoid, 10 + 10 points, 25 tasks", Sinusoid(), 25, AHEAD)]
    data = load_omniglot()
    for ways, shots, queries, tasks in ((5, 1, 1, 32), (5, 1, 15, 32), (20, 1, 1, 16)):
        for rotation in ("none", "per_class"):
            source = omniglot_tasks("train", data, ways=ways, shots=shots, queries=queries, rotation=rotation)
            name = f"Omniglot, {ways}-way {shots}-shot, {queries} queries, turned {rotation}, {tasks} tasks"
            rows.append(measure(name, source, tasks))
    photographs = load_mini_imagenet(part="train")
    for shots, queries, tasks in ((1, 15, 4), (5, 15, 2)):
        source = mini_imagenet_tasks("train", photographs, shots=shots, queries=queries)
        rows.append(measure(f"mini-ImageNet, 5-way {shots}-shot, {queries} queries, {tasks} tasks", source, tasks))
    for row in rows:
        at_once_us, alone_us = (f"{row[f'us of processor{way}']:>6} us" for way in ("", " one by one"))
        print(f"{row['workload']:<66} {at_once_us}  one by one {alone_us}  x{row['ratio']}")
    facts = {
        "command": f"python benchmarks/sampling.py --threads {options.threads}",
        "torch": torch.__version__,
        "numpy": np.__version__,
        "threads": options.threads,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}",
        "pairs": PAIRS,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
