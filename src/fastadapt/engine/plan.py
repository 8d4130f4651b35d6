"""How the tasks of one shape are run: a record that checkpoints keep, and the words that a log shows."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fastadapt.tasks import Tasks

LOOP_ABOVE_ELEMENTS = 30_000
"""Input elements of one task above which convolutions on a CPU usually run faster in a loop."""


@dataclass
class Plan:
    """Hold how tasks of one shape are run, and why."""

    route: Literal["vmap", "loop"]
    chunk: int | None = None
    compile: Literal["off", "trace", "on"] = "off"
    why: str = ""
    vmap_runs: bool = True
    came: int = 0
    """How often a shape has come that is not worth a look yet."""

    def in_words(self, tasks: int) -> str:
        """Return what a person wants to know of it."""
        how = "tasks at once (vmap)" if self.route == "vmap" else "one task after another (loop)"
        chunk = f", {self.chunk} at a time" if self.chunk and self.chunk < tasks else ""
        form = {"off": "", "trace": ", as recorded programs", "on": ", as compiled programs"}[self.compile]
        return f"{how}{chunk}{form}; {self.why}"


def described(key: Any) -> str:
    """Return an engine's key in words: the function's name and the shapes of a task."""
    (name, *_), shapes, *beside = key
    words = ["x".join(map(str, shape)) or "scalar" for shape, _ in shapes]
    constants = [constant for more in beside if isinstance(more, tuple) for constant in more]
    words += [value if isinstance(value, str) else kind.__name__ for kind, value in constants]
    return f"{name} {' '.join(words)}"


def milliseconds(seconds: float) -> str:
    """Return a time in words."""
    return f"{1e3 * seconds:.3g} ms"


def convolves_on_cpu(model: nn.Module, tasks: Tasks) -> bool:
    """Return whether a network convolves, on a CPU."""
    convolves = any(isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) for m in model.modules())
    return convolves and tasks.device == torch.device("cpu")


def loop_is_usual(model: nn.Module, tasks: Tasks) -> bool:
    """Return whether the loop is taken unless vmap is clearly faster."""
    leaves = pytree.tree_leaves((tasks.support, tasks.query))
    elements = sum(leaf[0].numel() for leaf in leaves if isinstance(leaf, Tensor))
    return convolves_on_cpu(model, tasks) and elements > LOOP_ABOVE_ELEMENTS
