"""The smaller tables of the performance page: convolutions, drawing tasks, memory of large networks, a GPU."""

import json
from pathlib import Path

import gpu_table

RESULTS = Path(__file__).resolve().parents[1] / "results"
WHO = ("fastadapt", "plain")
WAYS = ("one by one", "one by one, channels last", "grouped", "patches")


def convolution() -> list[str]:
    """Return GFLOP/s of every way to convolve, for each shape."""
    path = RESULTS / "convolution.json"
    if not path.is_file():
        return ["Not measured yet; `python benchmarks/convolution.py` does it."]
    content = json.loads(path.read_text(encoding="utf-8"))
    lines = [
        f"`{content['command']}`: GFLOP/s of 3x3 convolutions of {content['tasks']} tasks, each with its own filters.",
        "",
        f"| images of a task, channels, map | what | {' | '.join(WAYS)} |",
        "|---" * (len(WAYS) + 2) + "|",
    ]
    for row in content["rows"]:
        best = max(row[way] for way in WAYS)
        cells = [f"**{row[way]:g}**" if row[way] == best else f"{row[way]:g}" for way in WAYS]
        shape = f"{row['images']}, {row['channels']} to {row['filters']}, {row['side']}x{row['side']}"
        lines.append(f"| {shape} | {row['what']} | {' | '.join(cells)} |")
    return lines


def sampling() -> list[str]:
    """Return what drawing a meta-batch costs."""
    content = json.loads((RESULTS / "sampling.json").read_text(encoding="utf-8"))
    lines = [
        f"`{content['command']}` on {content['machine']}; processor time:",
        "",
        "| meta-batch | at once | task by task | ratio |",
        "|---|---|---|---|",
    ]
    for row in content["rows"]:
        at_once, single = row["us of processor"] / 1e3, row["us of processor one by one"] / 1e3
        lines.append(f"| {row['workload']} | {at_once:.3g} ms | {single:.3g} ms | {row['ratio']:g}x |")
    return lines


def gpu() -> list[str]:
    """Return what was measured on a GPU."""
    return gpu_table.lines(RESULTS / "speed" / "gpu.json")


def memory() -> list[str]:
    """Return the peak memory of a large network's meta-gradients."""
    content = json.loads((RESULTS / "memory.json").read_text(encoding="utf-8"))
    lines = [
        f"`{content['command']}` on {content['machine']}, torch {content['torch']}: {content['network']}, float32.",
        "",
        "| sequences, support and query | what | inner steps | memory over the weights | of an ordinary step |",
        "|---|---|---|---|---|",
    ]
    for row in content["rows"]:
        steps = row["steps"] or "-"
        lines.append(f"| {row['sequences']} | {row['what']} | {steps} | {row['MB']} MB | {row['ratio']:.2f}x |")
    return lines


def rounding() -> list[str]:
    """Return how far float32 gradients are from float64."""
    content = json.loads((RESULTS / "rounding.json").read_text(encoding="utf-8"))
    lines = [
        f"`{content['command']}`, torch {content['torch']}, {content['machine']}: median, quartiles over single tasks.",
        "",
        "| workload | tasks | fastadapt | plain autograd | ratio of medians |",
        "|---|---|---|---|---|",
    ]
    for row in content["rows"]:
        cells = [f"{row[who]:.1e} ({' to '.join(f'{q:.1e}' for q in row[f'{who}, quartiles'])})" for who in WHO]
        lines.append(f"| {row['workload']} | {row['tasks']} | {' | '.join(cells)} | {row['ratio']:g} |")
    one = content["one convolution: output, gradient to the maps, gradient to the filters"]
    lines += [
        "",
        "| 3x3, 64 channels | channels innermost: output, gradient to maps, to filters | as torch lays them |",
        "|---|---|---|",
    ]
    for row in one:
        cells = [", ".join(f"{e:.1e}" for e in row[layout]) for layout in ("channels last", "as it is")]
        lines.append(f"| {row['samples']} maps of {row['side']}x{row['side']} | {' | '.join(cells)} |")
    return lines


def outer_step() -> list[str]:
    """Return what an outer step of a small network is made of."""
    content = json.loads((RESULTS / "outer_step.json").read_text(encoding="utf-8"))
    lines = [
        f"`{content['command']}` on {content['machine']}, torch {content['torch']}; least processor time of turns:",
        "",
        "| sinusoid MLP, 25 tasks, k = 1 | microseconds |",
        "|---|---|",
    ]
    return [*lines, *(f"| {name} | {us:.0f} |" for name, us in content["us of processor"].items())]


SECTIONS = {
    "convolution": convolution,
    "sampling": sampling,
    "memory": memory,
    "gpu": gpu,
    "rounding": rounding,
    "outer step": outer_step,
}
