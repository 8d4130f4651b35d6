"""Measure how far float32 gradients are from float64: ours, compiled, and plain autograd's, over many tasks.

    python benchmarks/rounding.py [--tasks 15] [--workloads NAME ...] [--out benchmarks/results/rounding.json]

Each task is a meta-batch of its own, with tasks and weights of `benchmarks/speed`; the error is the relative L2
distance of its gradient. Rounding flips a maximum or the sign before a ReLU in a task now and then, which is then off
by orders more, whoever computes it: so the medians are compared, and quartiles are told. One convolution is compared as
well, with channels innermost in memory and without.
"""

import argparse
import dataclasses
import json
import os
import platform
import re
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "speed"), str(HERE / "speed" / "workers")]
sys.argv, OPTIONS = ["rounding.py", "on"], sys.argv[1:]  # the worker reads there whether it compiles

import inputs  # noqa: E402
from by_fastadapt import Fastadapt  # noqa: E402
from by_plain import Plain  # noqa: E402
from on_torch import OnTorch  # noqa: E402
from workloads import WORKLOADS, Workload  # noqa: E402

from fastadapt.layers.convolution import channels_last  # noqa: E402

ROWS = ("omniglot-k1-q1-exact", "omniglot-k5-q1-exact", "omniglot-k5-q15-exact", "reptile-omniglot")


def gradient(worker: OnTorch, task: int) -> dict[str, np.ndarray]:
    """Return the gradient of a meta-batch that is one task."""
    worker.use([part[task : task + 1] for part in worker.whole])
    worker.optimizer.zero_grad()
    worker.meta_gradient()
    return {n: p.grad.double().numpy().copy() for n, p in worker.net.named_parameters() if p.grad is not None}


def error(found: dict[str, np.ndarray], reference: dict[str, np.ndarray], ignored: str) -> float:
    """Return the relative L2 distance over the parameters that are not ignored."""
    names = [n for n in reference if not (ignored and re.fullmatch(ignored, n))]
    off = sum(float(np.square(found[n] - reference[n]).sum()) for n in names)
    return (off / sum(float(np.square(reference[n]).sum()) for n in names)) ** 0.5


def measured(name: str, workload: Workload) -> dict[str, Any]:
    """Return medians and quartiles of both errors over the tasks of a workload."""
    arrays = inputs.arrays(workload)
    workers: dict[str, OnTorch] = {"reference": Plain(), "plain": Plain(), "fastadapt": Fastadapt()}
    for who, worker in workers.items():
        worker.load(workload.spec("float64" if who == "reference" else "float32", {}), arrays)
    errors: dict[str, list[float]] = {"plain": [], "fastadapt": []}
    for task in range(workload.tasks):
        reference = gradient(workers["reference"], task)
        for who, found in errors.items():
            found.append(error(gradient(workers[who], task), reference, workload.ignored))
    medians = {who: statistics.median(found) for who, found in errors.items()}
    row: dict[str, Any] = {"workload": name, "tasks": workload.tasks}
    for who, found in errors.items():
        row[who] = float(f"{medians[who]:.3g}")
        row[f"{who}, quartiles"] = [float(f"{q:.3g}") for q in np.percentile(found, (25, 75))]
    return {**row, "ratio": round(medians["fastadapt"] / medians["plain"], 2)}


def convolutions() -> list[dict[str, Any]]:
    """Return the errors of one 3x3 convolution of 64 channels and of its two gradients, in both layouts."""
    rows = []
    for samples, side in ((5, 14), (5, 7), (5, 3), (75, 14)):
        torch.manual_seed(0)
        maps = torch.randn(samples, 64, side, side).relu()
        filters, g = torch.randn(64, 64, 3, 3) / 24, torch.randn(samples, 64, side, side)
        exact = _three(maps.double(), filters.double(), g.double())
        row: dict[str, Any] = {"samples": samples, "side": side}
        for layout, laid in (("channels last", channels_last), ("as it is", torch.Tensor.contiguous)):
            found = _three(laid(maps), laid(filters), laid(g))
            row[layout] = [
                float(f"{float((a.double() - b).norm() / b.norm()):.2g}") for a, b in zip(found, exact, strict=True)
            ]
        rows.append(row)
    return rows


def _three(x: torch.Tensor, w: torch.Tensor, g: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the convolution, and the gradients to its maps and to its filters."""
    settings = [1, 1], [1, 1], [1, 1], False, [0, 0], 1
    y = torch.ops.aten.convolution(x, w, None, *settings)
    return y, *torch.ops.aten.convolution_backward(g, x, w, None, *settings, [True, True, False])[:2]


def main() -> None:
    """Measure every workload, and write the file after each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", type=int, default=15)
    parser.add_argument("--workloads", nargs="+", default=list(ROWS), choices=list(WORKLOADS))
    parser.add_argument("--out", type=Path, default=HERE / "results" / "rounding.json")
    options = parser.parse_args(OPTIONS)
    torch.set_num_threads(1)
    before = json.loads(options.out.read_text(encoding="utf-8"))["rows"] if options.out.is_file() else []
    rows = {row["workload"]: row for row in before}
    for name in options.workloads:
        rows[name] = measured(name, dataclasses.replace(WORKLOADS[name], tasks=options.tasks))
        print(json.dumps(rows[name]), flush=True)
        facts = {
            "command": f"python benchmarks/rounding.py --tasks {options.tasks}",
            "torch": torch.__version__,
            "threads": 1,
            "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores",
            "one convolution: output, gradient to the maps, gradient to the filters": convolutions(),
            "rows": list(rows.values()),
        }
        options.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
