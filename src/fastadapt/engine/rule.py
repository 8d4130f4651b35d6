"""The rule by which "auto" picks a route: a table, and no clock, so that the same run always takes the same one.

`benchmarks/routes.py` measures both routes for networks and sizes of each row, and `benchmarks/results/routes.json` is
what it found. Whatever vmap can't run, or runs with another result, goes in the loop.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fastadapt.tasks import Tasks

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


Route = Literal["vmap", "loop"]
ELSE = "all but large images through convolutions on a CPU"
TABLE: tuple[tuple[str, Callable[[nn.Module, Tasks], bool], Route], ...] = (
    ("large images through convolutions, on a CPU", _large_images, "loop"),
    (ELSE, lambda model, tasks: True, "vmap"),
)
"""What it is, whether it is that, the route: the first row that fits."""


def usual_route(model: nn.Module, tasks: Tasks) -> tuple[Route, str]:
    """Return the route of the first row of the table that fits, and the row in words.

    Example:
        >>> tasks = Tasks((torch.zeros(4, 5, 1), torch.zeros(4, 5, 1)), (torch.zeros(4, 5, 1), torch.zeros(4, 5, 1)))
        >>> usual_route(nn.Linear(1, 1), tasks)
        ('vmap', 'all but large images through convolutions on a CPU')
    """
    return next((route, words) for words, fits, route in TABLE if fits(model, tasks))
