"""Measure the peak memory of exact meta-gradients of a large network against that of one ordinary training step.

    python benchmarks/memory.py [--threads 2] [--out benchmarks/results/memory.json]

The network is a GPT-2 of 12 layers with low-rank adapters, random weights and a vocabulary cut to 4096 words
(`benchmarks/gpt2.py`). The ordinary step is one forward and one backward pass of the same sequences to the adapters, on
torch's own fused attention. Each row is a process of its own; its memory is the peak of the resident memory during one
meta-gradient, less what was resident with imports and weights loaded.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
WORDS, LENGTH = 4096, 512
ROWS = [
    {"what": "ordinary step", "steps": 0},
    {"what": "exact, blocks computed again", "steps": 1, "recompute": "blocks"},
    {"what": "exact, blocks computed again", "steps": 5, "recompute": "blocks"},
    {"what": "exact, blocks computed again", "steps": 20, "recompute": "blocks"},
    {"what": "exact, every step's graph", "steps": 1},
    {"what": "exact, segments of one step", "steps": 5, "segment": 1},
]


def measured(row: dict[str, Any], sequences: int, threads: int) -> dict[str, Any]:
    """Return a row with its megabytes and seconds, measured in this process."""
    sys.path[:0] = [str(HERE / "speed" / "workers"), str(HERE)]
    import memory as resident  # of the speed benchmark's workers
    import torch
    from gpt2 import GPT2, next_token

    import fastadapt as fa

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    net = GPT2(words=WORDS, length=LENGTH)
    support, query = (torch.randint(WORDS, (sequences, LENGTH + 1)) for _ in range(2))
    with torch.no_grad():
        next_token(net, (support[:1, :32],))  # what the first product of matrices loads
    exact = fa.Exact(segment=row.get("segment"), recompute=row.get("recompute"))
    learner = fa.MAML(net, next_token, rule=fa.SGD(0.1), steps=row["steps"], meta_gradient=exact, route="loop")
    before = resident.resident_mb()
    resident.reset_peak()
    began = time.perf_counter()
    loss = learner(fa.Task((support,), (query,))).loss if row["steps"] else next_token(net, (support,))
    loss.backward()
    took = time.perf_counter() - began
    return {**row, "MB": round(resident.peak_mb() - before), "seconds": round(took, 1)}


def main() -> None:
    """Measure every row in a process of its own, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "results" / "memory.json")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sequences", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--row", type=json.loads, help="measure this row alone, in this process")
    options = parser.parse_args()
    if options.row is not None:
        print(json.dumps(measured(options.row, options.sequences[0], options.threads)))
        return
    import torch

    rows = []
    for sequences in options.sequences:
        for row in ROWS if sequences == 1 else [row for row in ROWS if row["steps"] in (0, 5)]:
            asked = ["--row", json.dumps(row), "--sequences", str(sequences), "--threads", str(options.threads)]
            ran = subprocess.run([sys.executable, __file__, *asked], capture_output=True, text=True, check=True)
            rows.append({"sequences": sequences, **json.loads(ran.stdout.splitlines()[-1])})
            step = next(r["MB"] for r in rows if r["sequences"] == sequences)
            rows[-1]["ratio"] = round(rows[-1]["MB"] / step, 2)
            print(json.dumps(rows[-1]), flush=True)
            facts = {
                "command": f"python benchmarks/memory.py --threads {options.threads}",
                "torch": torch.__version__,
                "network": f"GPT-2, 12 layers of width 768, {WORDS} words, adapters of rank 8, {LENGTH} tokens",
                "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            }
            options.out.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
