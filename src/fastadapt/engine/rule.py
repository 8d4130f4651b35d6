"""The rule by which "auto" picks a strategy: a table, and no clock, so that the same run always takes the same one.

`benchmarks/routes.py` measures loop and vmap for networks and sizes of each row, `benchmarks/first_step.py` how near
the estimates of time below are; their result files are the evidence. Whatever vmap can't run, or runs with another
result, goes in the loop, and what can't be made a program runs eagerly.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fastadapt.engine.census import Work
from fastadapt.engine.execution import Execution
from fastadapt.tasks import Tasks

Eager = Literal["vmapped", "loop"]
Faster = Literal["graph", "programs", "threads"]

LARGE = 30_000
"""Numbers in support and query of a task, above which images run faster one task after another on a CPU."""


def convolves_on_cpu(model: nn.Module, tasks: Tasks) -> bool:
    """Return whether a network convolves, on a CPU."""
    convolves = any(isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) for m in model.modules())
    return convolves and tasks.device == torch.device("cpu")


def _large_images(model: nn.Module, tasks: Tasks) -> bool:
    images = any(isinstance(m, (nn.Conv2d, nn.Conv3d)) for m in model.modules())
    return images and convolves_on_cpu(model, tasks) and _numbers(tasks) > LARGE


def _numbers(tasks: Tasks) -> int:
    leaves: list[Any] = pytree.tree_leaves((tasks.support, tasks.query))
    return sum(leaf[0].numel() for leaf in leaves if isinstance(leaf, Tensor))


def _on_gpu(model: nn.Module, tasks: Tasks) -> bool:
    return tasks.device is not None and tasks.device.type == "cuda"


@dataclass(frozen=True)
class Row:
    """Hold a row of the table: what it is, whether it is that, how it runs, and how where many steps are ahead."""

    words: str
    fits: Callable[[nn.Module, Tasks], bool]
    eager: Eager
    faster: Faster


ELSE = "all but large images through convolutions on a CPU"
TABLE = (
    Row("on a GPU", _on_gpu, "vmapped", "graph"),
    Row("large images through convolutions, on a CPU", _large_images, "loop", "threads"),
    Row(ELSE, convolves_on_cpu, "vmapped", "threads"),
    Row(ELSE, lambda model, tasks: True, "vmapped", "programs"),
)


def row_of(model: nn.Module, tasks: Tasks) -> Row:
    """Return the first row of the table that fits.

    Example:
        >>> tasks = Tasks((torch.zeros(4, 5, 1), torch.zeros(4, 5, 1)), (torch.zeros(4, 5, 1), torch.zeros(4, 5, 1)))
        >>> row = row_of(nn.Linear(1, 1), tasks)
        >>> row.eager, row.faster
        ('vmapped', 'programs')
    """
    return next(row for row in TABLE if row.fits(model, tasks))


_OF_ROUTE: dict[str, tuple[Eager, Faster]] = {
    "vmap": ("vmapped", "programs"),
    "loop": ("loop", "threads"),
    "programs": ("vmapped", "programs"),
    "threads": ("loop", "threads"),
    "graph": ("vmapped", "graph"),
}


def strategy_for(model: nn.Module, tasks: Tasks, execution: Execution) -> Row:
    """Return how tasks run: the row of the table, or what was asked for.

    Example:
        >>> tasks = Tasks((torch.zeros(4, 5, 1), torch.zeros(4, 5, 1)), (torch.zeros(4, 5, 1), torch.zeros(4, 5, 1)))
        >>> row = strategy_for(nn.Linear(1, 1), tasks, Execution(route="loop"))
        >>> row.eager, row.faster, row.words
        ('loop', 'threads', 'asked for')
    """
    row = row_of(model, tasks)
    eager, faster = _OF_ROUTE.get(execution.route, (row.eager, row.faster))
    if faster == "graph" and execution.compile in ("on", "trace"):
        faster = "programs"
    return Row(row.words if execution.route == "auto" else "asked for", row.fits, eager, faster)


# ---- whether programs pay -----------------------------------------------------------------------

CALL, BATCHED_CALL, SPEED = 12e-6, 24e-6, 40e9
"""Seconds of an operation on small tensors, alone and under a vmap; additions and multiplications a second."""
BUILDING, OF_AN_OPERATION, LONGEST = 5.0, 8e-3, 3000
"""Seconds that building programs takes, for each of up to so many operations."""
SAVED = {"programs": 0.7, "threads": 0.45}
"""The share of the eager time that programs save."""
ENOUGH = 3.0
"""How many times what building costs has to be saved, as all of these are estimates."""


def eager_seconds(work: Work, tasks: int, eager: Eager) -> float:
    """Return about how long a meta-batch takes eagerly.

    With n operations and F of arithmetic in each of T tasks it takes `T (n c + F / s)` in the loop and `n c' + T F / s`
    under a vmap, where an operation costs c or c', and s is the speed.

    Example:
        >>> round(eager_seconds(Work(1000, 4e8), 4, "loop"), 3)
        0.088
    """
    arithmetic = tasks * work.arithmetic / SPEED
    return arithmetic + work.operations * (BATCHED_CALL if eager == "vmapped" else tasks * CALL)


def programs_pay(work: Work, tasks: int, eager: Eager, faster: Faster, calls: int, seconds: float) -> bool:
    """Return whether building programs is worth it for `calls` meta-batches within `seconds`.

    Example:
        >>> [programs_pay(Work(200, 1e5), 25, "vmapped", "programs", calls, 1e9) for calls in (1000, 70_000)]
        [False, True]
    """
    ahead = min(calls * eager_seconds(work, tasks, eager), seconds)
    building = BUILDING + OF_AN_OPERATION * min(work.operations, LONGEST)
    return ahead * SAVED.get(faster, 0.0) > ENOUGH * building
