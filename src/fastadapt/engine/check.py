"""How far two executions of the same computation are apart, and how long they take."""

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fastadapt.tasks import Tasks


def widened(state: Any, tasks: Tasks, extra: Any) -> tuple[Any, Tasks, Any]:
    """Return the arguments in float64."""

    def wide(leaf: Any) -> Any:
        return leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

    few = Tasks(*pytree.tree_map(wide, (tasks.support, tasks.query)))
    return pytree.tree_map(wide, state), few, pytree.tree_map(wide, extra)


def cuda_devices(tasks: Tasks) -> list[torch.device]:
    """Return the GPUs that hold the tasks."""
    devices = {leaf.device for leaf in pytree.tree_leaves(tasks.support) if isinstance(leaf, Tensor)}
    return [d for d in devices if d.type == "cuda"]


def numbers(averaged: Any, stacked: Any) -> list[Tensor]:
    """Return what two executions are compared by: the gradient, or the losses where there is none."""
    return pytree.tree_leaves(averaged) or [stacked["loss"]]


def distance(numbers: list[Tensor], reference: list[Tensor]) -> float:
    """Return the relative Euclidean distance; 0 where the reference is not finite, because it can't judge then."""
    pairs = list(zip(numbers, reference, strict=True))
    distance = sum(float((a - b).square().sum()) for a, b in pairs) ** 0.5
    size = sum(float(b.square().sum()) for _, b in pairs) ** 0.5
    if distance == 0 or not math.isfinite(size):
        return 0.0
    return distance / size if size > 0 and math.isfinite(distance) else math.inf


def median(values: list[float]) -> float:
    """Return the upper median."""
    return sorted(values)[len(values) // 2]


def random_states(tasks: Tasks) -> list[Tensor]:
    """Return the states of the random generators that tasks can draw from."""
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(d) for d in cuda_devices(tasks))]


LONG = 2.0
"""Seconds above which one run is measurement enough."""


def seconds(run: Callable[[], Any], tasks: Tasks) -> float:
    """Return how long `run` takes, at best of two after one to warm up."""
    devices = cuda_devices(tasks)

    def once() -> float:
        began = time.perf_counter()
        run()
        for device in devices:
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    warming = once()
    return warming if warming > LONG else min(once(), once())
