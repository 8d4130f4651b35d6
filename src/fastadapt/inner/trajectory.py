"""The trajectory of one inner loop: its carries one after another, each step run as a piece."""

from collections.abc import Iterator
from typing import Any, Protocol

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fastadapt.inner.calculus import Calculus
from fastadapt.inner.generators import RandomState, random_state
from fastadapt.inner.hooks import Hooks
from fastadapt.inner.runner import Runner
from fastadapt.layers.layout import Layout

Carry = tuple[dict[str, Tensor], Any]
"""`(theta, state of the update rule)`."""


class Loop(Protocol):
    """Describe the inner loop of one task as pure functions."""

    model: nn.Module
    layout: Layout
    steps: int
    repeatable: bool
    """Whether a step computed again gives the same result (false for trajectories sampled from the model)."""
    hooks: Hooks
    """What inner gradients pass through."""

    def constants(self, j: int) -> dict[str, Any]:
        """Return the tensors that step `j` uses and nobody learns."""
        ...

    def task_at(self, task: dict[str, Any], j: int) -> dict[str, Any]:
        """Return what step `j` needs of the task."""
        ...

    def advance(
        self, calculus: Calculus, fixed: Any, constants: Any, carry: Carry, task: Any, through: bool
    ) -> tuple[Carry, Any]:
        """Return the carry after one inner step, and a report."""
        ...

    def support_loss(self, fixed: Any, constants: Any, theta: dict[str, Tensor], batch: Any) -> tuple[Tensor, Any]:
        """Return the inner objective, and a report."""
        ...

    def data(self, batch: Any, fixed: Any, which: str) -> Any:
        """Return a batch with those of its tensors in place that a gradient is wanted of."""
        ...

    def judge(self, fixed: Any, constants: Any, theta: dict[str, Tensor], task: Any) -> tuple[Tensor, Any]:
        """Return the query loss of adapted parameters, and a report."""
        ...


def walk(
    run: Runner, loop: Loop, carry: Carry, fixed: Any, task: Any, steps: int, draws: list[RandomState] | None = None
) -> Iterator[tuple[Carry, Any]]:
    """Yield `(carry, report)` after each of the first `steps` inner steps; nothing is differentiated through them.

    Before each step the state of the random generators is appended to `draws`, so that dropout and
    whatever else is drawn can be repeated.
    """

    def advance(calculus: Calculus, **at: Any) -> tuple[Carry, Any]:
        return loop.advance(calculus, **at, through=False)

    for j in range(steps):
        if draws is not None:
            draws.append(random_state(carry))
        shared, each = placed(j, carry, fixed, loop.task_at(task, j))
        carry, report = run("advance", advance, {**shared, "constants": loop.constants(j)}, each)
        yield carry, report


def learns(carry: Carry) -> bool:
    """Whether the rule has brought a tensor that requires a gradient into what nothing is differentiated through."""
    return any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in pytree.tree_leaves(carry))


def judged(run: Runner, loop: Loop, carry: Carry, fixed: Any, task: Any) -> Any:
    """Return the gradient of the query loss at the last carry, to the parameters and to what is fixed."""

    def judge(calculus: Calculus, fixed: Any, constants: Any, carry: Carry, task: Any) -> Any:
        return calculus.outer(lambda at: loop.judge(at[1], constants, at[0], task), (carry[0], fixed))

    shared, each = placed(loop.steps, carry, fixed, task)
    return run("judge", judge, {**shared, "constants": loop.constants(loop.steps)}, each)


def placed(j: int, carry: Carry, fixed: Any, task: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the shared arguments and those of each task; before the first step all tasks share the carry."""
    shared, each = {"fixed": fixed}, {"task": task}
    (shared if j == 0 else each)["carry"] = carry  # type: ignore[assignment]
    return shared, each
