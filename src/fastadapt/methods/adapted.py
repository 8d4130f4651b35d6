"""Adapt to one task: in the loop, or as a CUDA graph where that was asked for and the shape has come before."""

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fastadapt.inner.calculus import Autograd, Captured, Params, detached
from fastadapt.inner.runner import Inline, Runner
from fastadapt.inner.trajectory import walk
from fastadapt.layers.kernels import on_kernels_that_differentiate
from fastadapt.layers.norm import NormPlan
from fastadapt.methods.loop import InnerLoop, State
from fastadapt.tasks import Task, Tasks, group_by_shape


def adapted(learner: Any, state: State, plan: NormPlan, support: Any, steps: int) -> Params:
    """Return the adapted parameters after `steps` inner steps, without a graph.

    Args:
        learner: a gradient-based learner.
        state: its tensors.
        plan: which statistics normalise what.
        support: the labelled samples.
        steps: inner steps k.
    """
    leaves = pytree.tree_leaves(support)
    if learner.engine.route == "graph" and leaves and all(isinstance(leaf, Tensor) for leaf in leaves):
        return _by_the_engine(learner, state, plan, support, steps)
    captured = Captured()

    def descended() -> Params:
        loop, task = learner._alone(state, plan, support, steps)
        end = loop.theta
        for carry, _ in walk(Inline(Autograd(captured)), loop, loop.start(), loop.fixed, task, steps):
            end = carry[0]
        return detached(end)

    end = on_kernels_that_differentiate(descended)
    captured.check_bound(learner.model, learner.adapted)
    return end


def advanced(loop: InnerLoop, carry: Any, task: dict[str, Any], j: int) -> Any:
    """Return the carry after inner step `j`, computed as `walk` does."""
    captured, at = Captured(), loop.task_at(task, j)
    carry, _ = loop.advance(Autograd(captured), loop.fixed, loop.constants(j), carry, at, through=False)
    captured.check_bound(loop.learner.model, loop.learner.adapted)
    return carry


def _by_the_engine(learner: Any, state: State, plan: NormPlan, support: Any, steps: int) -> Params:
    """Return the same; the engine compares the ways to run it, and watches the Python state that a graph has in it."""

    def f(state: State, support: Any, query: Any, extra: Any, run: Runner) -> tuple[Any, Any]:
        loop = learner._loop(state, plan, support, None, extra, steps)
        end = loop.theta
        for carry, _ in walk(run, loop, loop.start(), loop.fixed, {"support": support, **extra}, steps):
            end = carry[0]
        return {}, detached(end)

    alone = Tasks(pytree.tree_map(lambda leaf: leaf.unsqueeze(0), support), ())
    with torch.no_grad():
        extra = learner._test_batches(group_by_shape([Task(support, support)]), steps)
        ran = learner._run(f, state, [alone], extra, ("adapt", steps, plan.mode))
    [(_, end)] = ran.stacked
    return {name: value[0] for name, value in end.items()}
