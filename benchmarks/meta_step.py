"""Time one exact MAML meta-gradient against the loop people write by hand.

    python benchmarks/meta_step.py [--out benchmarks/results/meta_step.json]

Both are timed in turns in this process, on the same tasks and weights; the ratio is the median of the pairwise
ratios. Before anything is timed, both gradients are compared with a float64 reference.
"""

import argparse
import copy
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from fastadapt import MAML, MLP, SGD, Conv4, CrossEntropy, Tasks, mse

PAIRS = 7


def by_hand(net: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], lr: float, steps: int, tasks: Tasks) -> None:
    """Add the meta-gradient to `.grad`: a Python loop over tasks with `autograd.grad(create_graph=True)`."""
    buffers = dict(net.named_buffers())
    for task in tasks:
        params = dict(net.named_parameters())
        (x, y), (xq, yq) = task.support, task.query
        for _ in range(steps):
            inner = loss(functional_call(net, {**params, **buffers}, (x,)), y)
            grads = torch.autograd.grad(inner, list(params.values()), create_graph=True)
            params = {name: p - lr * g for (name, p), g in zip(params.items(), grads, strict=True)}
        (loss(functional_call(net, {**params, **buffers}, (xq,)), yq) / len(tasks)).backward()


def sinusoids() -> Tasks:
    """Return 25 tasks of 10 support and 10 query points."""
    x = torch.rand(25, 20, 1) * 10 - 5
    y = (torch.rand(25, 1, 1) * 4.9 + 0.1) * torch.sin(x - torch.rand(25, 1, 1) * torch.pi)
    return Tasks((x[:, :10], y[:, :10]), (x[:, 10:], y[:, 10:]))


def characters() -> Tasks:
    """Return 32 tasks of 5 ways, 1 shot and 1 query, with random images of the size of Omniglot's."""
    labels = torch.arange(5).repeat(32, 1)
    return Tasks((torch.rand(32, 5, 1, 28, 28), labels), (torch.rand(32, 5, 1, 28, 28), labels))


def gradient(net: nn.Module, run: Callable[[], None]) -> Tensor:
    """Return the gradient that `run` leaves, as one vector in float64."""
    net.zero_grad(set_to_none=True)
    run()
    return torch.cat([p.grad.double().flatten() for p in net.parameters() if p.grad is not None])


def seconds(run: Callable[[], None]) -> float:
    """Return how long `run` takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def measure(name: str, net: nn.Module, tasks: Tasks, lr: float, steps: int) -> dict[str, object]:
    """Return seconds, ratio and gradient errors of one workload."""
    image = tasks.support[1].dtype == torch.long
    plain_loss = F.cross_entropy if image else F.mse_loss
    loss = CrossEntropy() if image else mse
    learner = MAML(net, loss, rule=SGD(lr), steps=steps)

    def ours() -> None:
        learner(tasks).loss.backward()

    def theirs() -> None:
        by_hand(net, plain_loss, lr, steps, tasks)

    wide = copy.deepcopy(net).double()
    x, y = tasks.support
    xq, yq = tasks.query
    wide_y, wide_yq = (y, yq) if image else (y.double(), yq.double())
    wide_tasks = Tasks((x.double(), wide_y), (xq.double(), wide_yq))
    reference = gradient(wide, lambda: by_hand(wide, plain_loss, lr, steps, wide_tasks))
    errors = [float((gradient(net, f) - reference).norm() / reference.norm()) for f in (ours, theirs)]
    if errors[0] > 10 * errors[1] + 1e-5:
        raise SystemExit(
            f"{name}: our gradient is off by {errors[0]:.1e}, plain autograd by {errors[1]:.1e}; not timed"
        )
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(PAIRS)]
    return {
        "workload": name,
        "seconds": round(statistics.median(a for a, _ in pairs), 5),
        "seconds by hand": round(statistics.median(b for _, b in pairs), 5),
        "ratio": round(statistics.median(b / a for a, b in pairs), 2),
        "relative error": errors[0],
        "relative error by hand": errors[1],
    }


def main() -> None:
    """Measure every workload, print a table and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/meta_step.json"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    rows = []
    for steps in (1, 5):
        mlp = MLP(1, (40, 40), 1, init_std=None)
        rows.append(measure(f"sinusoid, {steps} steps, 25 tasks", mlp, sinusoids(), 0.01, steps))
        conv = Conv4(1, 64, 5, pooled="flatten", affine="both")
        rows.append(measure(f"Conv4-64, 5-way 1-shot, {steps} steps, 32 tasks", conv, characters(), 0.4, steps))
        for row in rows[-2:]:
            print(
                f"{row['workload']:<45} {row['seconds']:.4f} s  by hand {row['seconds by hand']:.4f} s  x{row['ratio']}"
            )
    facts = {"torch": torch.__version__, "threads": options.threads, "machine": platform.machine(), "pairs": PAIRS}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(
        json.dumps({"command": "make bench", **facts, "rows": rows}, indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
