"""Time the ways to convolve many tasks of a few images, each with filters of its own: value and both gradients.

    python benchmarks/convolution.py [--threads 1] [--out benchmarks/results/convolution.json]

All ways give the same numbers, which is checked before anything is timed; they are timed in turns in this process.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from fastadapt.layers.convolution import channels_last

aten = torch.ops.aten
TASKS, ROUNDS = 32, 7
SHAPES = [
    (5, 1, 64, 28),
    (5, 64, 64, 14),
    (5, 64, 64, 7),
    (5, 64, 64, 3),
    (75, 64, 64, 14),
    (75, 64, 64, 3),
    (25, 32, 32, 42),
]
"""Images of a task, channels in and out, side of the map."""
SAME = ([1, 1], [1, 1], [1, 1], False, [0, 0])
Three = tuple[Callable[[], Tensor], Callable[[], Tensor], Callable[[], Tensor]]


def gradient(g: Tensor, x: Tensor, w: Tensor, groups: int, which: int) -> Tensor:
    """Return the gradient to the input (0) or to the filter (1)."""
    return aten.convolution_backward(g, x, w, None, *SAME, groups, [which == 0, which == 1, False])[which]


def one_by_one(x: Tensor, w: Tensor, g: Tensor, layout: Callable[[Tensor], Tensor]) -> Three:
    """Call the kernel once for each task."""
    xs, ws, gs = ([layout(t) for t in many] for many in (x, w, g))
    return (
        lambda: torch.stack([F.conv2d(a, b, padding=1) for a, b in zip(xs, ws, strict=True)]),
        lambda: torch.stack([gradient(c, a, b, 1, 0) for a, b, c in zip(xs, ws, gs, strict=True)]),
        lambda: torch.stack([gradient(c, a, b, 1, 1) for a, b, c in zip(xs, ws, gs, strict=True)]),
    )


def grouped(x: Tensor, w: Tensor, g: Tensor) -> Three:
    """Make one convolution with a group for each task, as a vmap of the library's convolution does."""
    tasks = len(x)
    a, c = (t.transpose(0, 1).flatten(1, 2).contiguous() for t in (x, g))
    b = w.flatten(0, 1)
    return (
        lambda: F.conv2d(a, b, padding=1, groups=tasks).unflatten(1, (tasks, -1)).transpose(0, 1),
        lambda: gradient(c, a, b, tasks, 0).unflatten(1, (tasks, -1)).transpose(0, 1),
        lambda: gradient(c, a, b, tasks, 1).unflatten(0, (tasks, -1)),
    )


def patches(x: Tensor, w: Tensor, g: Tensor) -> Three:
    """Multiply matrices of patches, all tasks in one batched product."""
    tasks, n, _, side, _ = x.shape
    flat = w.flatten(2)

    def cut(t: Tensor) -> Tensor:  # [T, 9 C, N H W]
        return F.unfold(t.flatten(0, 1), 3, padding=1).unflatten(0, (tasks, n)).permute(0, 2, 1, 3).flatten(2)

    def rows(t: Tensor) -> Tensor:  # [T, F, N H W]
        return t.transpose(1, 2).flatten(2)

    def value() -> Tensor:
        return torch.bmm(flat, cut(x)).unflatten(2, (n, side, side)).transpose(1, 2)

    def to_input() -> Tensor:
        columns = torch.bmm(flat.transpose(1, 2), rows(g)).unflatten(2, (n, -1)).permute(0, 2, 1, 3).flatten(0, 1)
        return F.fold(columns, (side, side), 3, padding=1).unflatten(0, (tasks, n))

    return value, to_input, lambda: torch.bmm(rows(g), cut(x).transpose(1, 2)).view_as(w)


def measure(n: int, channels: int, filters: int, side: int) -> list[dict[str, object]]:
    """Return GFLOP/s of every way for one shape."""
    x = torch.randn(TASKS, n, channels, side, side)
    w, g = torch.randn(TASKS, filters, channels, 3, 3), torch.randn(TASKS, n, filters, side, side)
    ways = {
        "one by one": one_by_one(x, w, g, lambda t: t.contiguous()),
        "one by one, channels last": one_by_one(x, w, g, channels_last),
        "grouped": grouped(x, w, g),
        "patches": patches(x, w, g),
    }
    work = 2e-9 * TASKS * n * side * side * filters * channels * 9
    rows: list[dict[str, object]] = []
    for i, what in enumerate(("value", "input gradient", "filter gradient")):
        results = {name: way[i]() for name, way in ways.items()}
        for name, result in results.items():
            torch.testing.assert_close(result, results["one by one"], rtol=1e-3, atol=1e-2, msg=name)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, way in ways.items():
                began = time.perf_counter()
                way[i]()
                seconds[name].append(time.perf_counter() - began)
        speeds = {name: round(work / statistics.median(s), 1) for name, s in seconds.items()}
        rows.append({"images": n, "channels": channels, "filters": filters, "side": side, "what": what, **speeds})
        print(f"{n:3d} x {channels:3d} -> {filters}, {side:2d}x{side:<2d} {what:<16}", speeds)
    return rows


def main() -> None:
    """Measure every shape, print and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/convolution.json"))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    rows = [row for shape in SHAPES for row in measure(*shape)]
    facts = {"torch": torch.__version__, "threads": options.threads, "machine": platform.machine(), "tasks": TASKS}
    command = f"python benchmarks/convolution.py --threads {options.threads}"
    content = {"command": command, "unit": "GFLOP/s", **facts, "rounds": ROUNDS, "rows": rows}
    options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
