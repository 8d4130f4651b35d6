"""The two ways to run a function of one task over many tasks, and the same with compiled pieces."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap
from torch.utils import _pytree as pytree

from fastadapt.engine.check import python_states
from fastadapt.engine.threads import run_on_threads
from fastadapt.inner.calculus import Autograd, Captured, Functional
from fastadapt.inner.generators import random_state, set_random_state
from fastadapt.inner.runner import Inline, Runner
from fastadapt.layers.kernels import on_kernels_that_differentiate
from fastadapt.layers.rewrites import tell_once
from fastadapt.layers.tracing import written_for
from fastadapt.leaves import map_tensors, task_axes
from fastadapt.tasks import Tasks

TaskFunction = Callable[[Any, Any, Any, Any, Runner], tuple[Any, Any]]
"""`f(state, support, query, extra, run) -> (to be averaged over tasks, to be stacked)`."""


def looped(
    f: TaskFunction,
    state: Any,
    tasks: Tasks,
    extra: Any,
    segment: int | None = None,
    captured: Captured | None = None,
) -> tuple[Any, Any]:
    """Run one task after another with plain autograd.

    `captured` gathers the gradients of what else they depend on, summed over tasks, with a task's weight of
    `extra["weight"]`.
    """
    run = Inline(Autograd(captured), segment)

    def one(t: int) -> tuple[Any, Any]:
        task, rest = tasks[t], pytree.tree_map(lambda leaf: leaf[t], extra)

        def run_task() -> tuple[Any, Any]:
            if captured is not None:
                captured.open()
            return f(state, task.support, task.query, rest, run)

        result = on_kernels_that_differentiate(run_task)
        if captured is not None:
            captured.close(rest.get("weight") if rest else None)
        return result

    with written_for("autograd"):
        return _mean_and_stack(len(tasks), map(one, range(len(tasks))))


def on_threads(
    run: Runner, f: TaskFunction, state: Any, tasks: Tasks, extra: Any, threads: int | None = None
) -> tuple[Any, Any]:
    """Run one task after another, several of them at the same time."""

    def one(t: int) -> tuple[Any, Any]:
        task, rest = tasks[t], pytree.tree_map(lambda leaf: leaf[t], extra)
        return f(state, task.support, task.query, rest, run)

    return _mean_and_stack(len(tasks), run_on_threads(one, len(tasks), threads or torch.get_num_threads()))


def vmapped(f: TaskFunction, state: Any, tasks: Tasks, extra: Any, segment: int | None = None) -> tuple[Any, Any]:
    """Run all tasks at once, or in a loop where Python code draws random numbers, which all of them would share."""
    before, stood = random_state(state), python_states()

    def one(support: Any, query: Any, rest: Any) -> tuple[Any, Any]:
        return f(state, support, query, rest, Inline(Functional(), segment))

    axes = (task_axes(tasks.support), task_axes(tasks.query), 0)
    averaged, stacked = vmap(one, in_dims=axes, randomness="different")(tasks.support, tasks.query, extra)
    if python_states() != stood:  # code that the watch does not look into (a library's), or did not yet see drawing
        tell_once("tasks run in a loop, because something draws from Python's or numpy's random numbers now")
        set_random_state(before)
        return looped(f, state, tasks, extra, segment)
    return pytree.tree_map(lambda leaf: leaf.mean(0), averaged), stacked


def all_at_once(
    f: TaskFunction, segment: int | None, state: Any, support: Any, query: Any, extra: Any
) -> tuple[Any, Any]:
    """Run all tasks at once, as a function of tensors alone."""
    return vmapped(f, state, Tasks(support, query), extra, segment)


def batched(run: Runner, f: TaskFunction, state: Any, tasks: Tasks, extra: Any) -> tuple[Any, Any]:
    """Run all tasks at once through a runner whose pieces take a leading task axis."""
    averaged, stacked = f(state, tasks.support, tasks.query, extra, run)
    return pytree.tree_map(lambda leaf: leaf.mean(0), averaged), stacked


def in_chunks(
    chunk: int | None, tasks: Tasks, extra: Any, run: Callable[[Tasks, Any], tuple[Any, Any]]
) -> tuple[Any, Any]:
    """Run `chunk` tasks at once, and put the results together."""
    if chunk is None or chunk >= len(tasks):
        return run(tasks, extra)
    total: Any = None
    parts = []
    for start in range(0, len(tasks), chunk):
        part = slice(start, start + chunk)
        support, query, rest = map_tensors(lambda leaf, p=part: leaf[p], (tasks.support, tasks.query, extra))
        few = Tasks(support, query)
        averaged, stacked = run(few, rest)
        share = len(few) / len(tasks)
        averaged = pytree.tree_map(lambda leaf, s=share: leaf * s, averaged)
        total = averaged if total is None else pytree.tree_map(torch.add, total, averaged)
        parts.append(stacked)
    return total, pytree.tree_map(lambda *leaves: torch.cat(leaves), *parts)


def _mean_and_stack(count: int, results: Any) -> tuple[Any, Any]:
    total: Any = None
    each = []
    for averaged, stacked in results:
        # a running sum: memory does not grow with the number of tasks
        total = averaged if total is None else pytree.tree_map(torch.add, total, averaged)
        each.append(stacked)
    return pytree.tree_map(lambda leaf: leaf / count, total), pytree.tree_map(_stack, *each)


def _stack(*leaves: Tensor) -> Tensor | list[Tensor]:
    return torch.stack(leaves) if len({leaf.shape for leaf in leaves}) == 1 else list(leaves)


def first(count: int, tasks: Tasks, extra: Any) -> tuple[Tasks, Any]:
    """Return the first tasks."""
    few = Tasks(*map_tensors(lambda leaf: leaf[:count], (tasks.support, tasks.query)))
    return few, pytree.tree_map(lambda leaf: leaf[:count], extra)


def singly(tasks: Tasks, extra: Any) -> list[tuple[Tasks, Any]]:
    """Return every task alone."""

    def one(tree: Any, t: int) -> Any:
        return map_tensors(lambda leaf: leaf[t : t + 1], tree)

    return [(Tasks(*one((tasks.support, tasks.query), t)), one(extra, t)) for t in range(len(tasks))]
