"""How long a meta-gradient takes by each of the two routes: the evidence for `fastadapt.engine.rule`.

    python benchmarks/routes.py       # about two minutes; writes the result file

Both routes are timed in turn, the best of five each, in one process.
"""

import json
import platform
import time
from pathlib import Path

import torch
from torch import nn

import fastadapt as fa
from fastadapt.atomic import write_text
from fastadapt.engine.rule import row_of

OUT = Path(__file__).parent / "results" / "routes.json"
SETTINGS = ((1, "exact"), (5, "exact"), (1, "first_order"))
ROUNDS, SECONDS = 5, 6.0


def classes(ways, queries, shape, count):
    def task():
        x = torch.randn(ways + queries, *shape)
        y = torch.arange(ways + queries) % ways
        return fa.Task((x[:ways], y[:ways]), (x[ways:], y[ways:]))

    return fa.group_by_shape([task() for _ in range(count)])


def amounts(rows, inputs, count):
    draw = [(torch.randn(2 * rows, inputs), torch.randn(2 * rows, 1)) for _ in range(count)]
    return fa.group_by_shape([fa.Task((x[:rows], y[:rows]), (x[rows:], y[rows:])) for x, y in draw])


class Transformer(nn.Module):
    """Read sequences of eight numbers."""

    def __init__(self, width, depth):
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True)
        self.embed, self.head = nn.Linear(8, width), nn.Linear(width, 5)
        self.layers = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)

    def forward(self, x):
        """Return five logits."""
        return self.head(self.layers(self.embed(x)).mean(1))


def signals():
    first, second = nn.Conv1d(2, 16, 5, padding=2), nn.Conv1d(16, 16, 5, padding=2)
    pool = (nn.AdaptiveAvgPool1d(1), nn.Flatten())
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), *pool, nn.Linear(16, 5))


ROWS = {
    "sine waves, 40-40": (lambda: fa.MLP(1, (40, 40), 1), lambda: amounts(10, 1, 25)),
    "a table, 64-64": (lambda: fa.MLP(20, (64, 64), 1), lambda: amounts(10, 20, 16)),
    "512-512": (lambda: fa.MLP(100, (512, 512), 1), lambda: amounts(20, 100, 8)),
    "Omniglot without convolutions": (
        lambda: fa.MLP(784, (256, 128, 64, 64), 5, norm=True),
        lambda: classes(5, 5, (784,), 32),
    ),
    "Omniglot, Conv4-64, 1 query a class": (
        lambda: fa.Conv4(1, 64, 5, size=28),
        lambda: classes(5, 5, (1, 28, 28), 32),
    ),
    "Omniglot, Conv4-64, 15 queries a class": (
        lambda: fa.Conv4(1, 64, 5, size=28),
        lambda: classes(5, 75, (1, 28, 28), 8),
    ),
    "Omniglot, Conv4-64, 20 ways": (lambda: fa.Conv4(1, 64, 20, size=28), lambda: classes(20, 20, (1, 28, 28), 4)),
    "84x84, Conv4-32": (
        lambda: fa.Conv4(3, 32, 5, size=84, down="max", pooled="flatten", affine="both"),
        lambda: classes(5, 15, (3, 84, 84), 4),
    ),
    "signals, two 1-d convolutions": (signals, lambda: classes(5, 15, (2, 64), 16)),
    "transformer, 2 layers of 32": (lambda: Transformer(32, 2), lambda: classes(5, 10, (16, 8), 8)),
    "transformer, 4 layers of 128": (lambda: Transformer(128, 4), lambda: classes(5, 10, (32, 8), 4)),
}


def milliseconds(learner, tasks):
    learner(tasks).loss.backward()
    best, began = float("inf"), time.perf_counter()
    for _ in range(ROUNDS):
        start = time.perf_counter()
        learner(tasks).loss.backward()
        best = min(best, time.perf_counter() - start)
        if time.perf_counter() - began > SECONDS:
            break
    return round(1e3 * best, 1)


def row(net, tasks):
    torch.manual_seed(0)
    drawn, found = tasks(), {}
    loss = fa.mse if drawn[0].query[1].is_floating_point() else fa.cross_entropy
    for steps, kind in SETTINGS:
        times = {}
        for route in ("vmap", "loop"):
            torch.manual_seed(0)
            learner = fa.MAML(net(), loss, rule=fa.SGD(0.05), steps=steps, meta_gradient=kind, route=route)
            times[route] = milliseconds(learner, drawn)
        found[f"{kind}, k = {steps}"] = {**times, "loop / vmap": round(times["loop"] / times["vmap"], 2)}
    return {
        "tasks": len(drawn[0]),
        "rule": {"vmapped": "vmap", "loop": "loop"}[row_of(net(), drawn[0]).eager],
        "milliseconds": found,
    }


def main():
    rows = {}
    for name, (net, tasks) in ROWS.items():
        rows[name] = row(net, tasks)
        ratios = ", ".join(f"{found['loop / vmap']:.2f}" for found in rows[name]["milliseconds"].values())
        print(f"{name}: the rule takes {rows[name]['rule']}; loop / vmap {ratios}", flush=True)
    facts = {"threads": torch.get_num_threads(), "torch": torch.__version__, "machine": platform.processor()}
    write_text(OUT, json.dumps({"command": "python benchmarks/routes.py", **facts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
