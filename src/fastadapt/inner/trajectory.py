"""The trajectory of one inner loop: its carries one after another, each step run as a piece."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fastadapt.inner.calculus import Calculus
from fastadapt.inner.runner import Runner

Carry = tuple[dict[str, Tensor], Any]
"""`(theta, state of the update rule)`."""


class Loop(Protocol):
    """Describe the inner loop of one task as pure functions."""

    steps: int
    repeatable: bool
    """Whether a step computed again gives the same result (false for trajectories sampled from the model)."""

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
    run: Runner, loop: Loop, carry: Carry, fixed: Any, task: Any, steps: int, draws: list[Any] | None = None
) -> Iterator[tuple[Carry, Any]]:
    """Yield `(carry, report)` after each of the first `steps` inner steps; nothing is differentiated through them.

    Before each step the state of the random generators is appended to `draws`, so that dropout can be repeated.
    """

    def advance(calculus: Calculus, **at: Any) -> tuple[Carry, Any]:
        return loop.advance(calculus, **at, through=False)

    for j in range(steps):
        if draws is not None:
            draws.append(random_state(carry))
        shared, each = placed(j, carry, fixed, loop.task_at(task, j))
        carry, report = run("advance", advance, {**shared, "constants": loop.constants(j)}, each)
        yield carry, report


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


_repeats: ContextVar[list[str] | None] = ContextVar("repeats", default=None)


@contextmanager
def repeats() -> Iterator[list[str]]:
    """Gather, in the list that is yielded, each time that inner steps are computed again with their random numbers."""
    seen: list[str] = []
    token = _repeats.set(seen)
    try:
        yield seen
    finally:
        _repeats.reset(token)


def random_state(tree: Any) -> list[Any]:
    """Return the states of the random generators that serve the devices of `tree`: the CPU's first.

    None while a CUDA graph is recorded: what it draws has no state then, see `fastadapt.engine.graph`.
    """
    devices = sorted({str(leaf.device) for leaf in pytree.tree_leaves(tree) if leaf.is_cuda})
    if devices and torch.cuda.is_current_stream_capturing():
        return []
    return [torch.get_rng_state(), *((d, torch.cuda.get_rng_state(d)) for d in devices)]


def set_random_state(state: list[Any]) -> None:
    """Put the random generators into a state that `random_state` returned."""
    seen = _repeats.get()
    if seen is not None:
        seen.append("set")
    if not state:
        return
    torch.set_rng_state(state[0])
    for device, value in state[1:]:
        torch.cuda.set_rng_state(value, device)
