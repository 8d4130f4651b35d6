"""Results of groups of tasks: put back into the order in which the tasks were given, and what their gradient is of."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fastadapt.inner.calculus import Captured, Params
from fastadapt.tasks import Tasks


@dataclass(frozen=True)
class Leaves:
    """Hold a group of tasks, those of its tensors that a gradient is wanted of, and these without their graph.

    Args:
        tasks: the tasks, without a graph.
        wanted: the tensors that require a gradient, by name, with their graph.
        asked: the same without.
    """

    tasks: Tasks
    wanted: Params = field(default_factory=dict)
    asked: Params = field(default_factory=dict)


def without_graph(group: Tasks) -> Leaves:
    """Cut stacked tasks from the graph that they come with (an encoder in front, a learned support set)."""
    if not group.stacked:
        return Leaves(group)
    wanted: Params = {}
    cut = {}
    for part in ("support", "query"):
        leaves, structure = pytree.tree_flatten(getattr(group, part))
        for i, leaf in enumerate(leaves):
            if isinstance(leaf, Tensor) and leaf.requires_grad:
                wanted[f"{part} {i}"] = leaf
                leaves[i] = leaf.detach()
        cut[part] = pytree.tree_unflatten(leaves, structure)
    if not wanted:
        return Leaves(group)
    return Leaves(replace(group, **cut), wanted, {f"data {name}": leaf.detach() for name, leaf in wanted.items()})


@dataclass
class Ran:
    """Hold what came of a meta-batch.

    Args:
        mean: the mean over tasks of what is averaged.
        stacked: `(group, what is stacked)` for each group.
        captured: what the meta-objective depends on beside the learner's tensors and the tasks, with gradients.
        groups: the groups, with the tensors that a gradient is wanted of.
        again: runs the same with a weight for each task.
    """

    mean: Any
    stacked: list[tuple[Tasks, Any]]
    captured: Captured | None = None
    groups: list[Leaves] = field(default_factory=list)
    again: "Callable[[Tensor], Ran] | None" = None

    def graph(self, learned: Params, pick: Callable[[Any], Params], for_tasks: bool = False) -> tuple[Params, Any]:
        """Return the tensors that a gradient is of, and the gradients of the mean loss.

        `for_tasks` returns in their stead a function of weights `[T]`, of the gradients of `sum_i w_i loss_i`.
        """
        captured = {} if self.captured is None else self.captured.tensors
        tensors = {**learned, **{f"captured {key}": tensor for key, tensor in captured.items()}}
        for i, group in enumerate(self.groups):
            tensors |= {f"group {i} {name}": leaf for name, leaf in group.wanted.items()}
        if not for_tasks:
            return tensors, self._gradients(pick)

        def weighed(weights: Tensor) -> Params:
            assert self.again is not None
            ran = self.again(weights)
            count = sum(len(group) for group, _ in ran.stacked)
            return {name: grad * count for name, grad in ran._gradients(pick, weights).items()}

        return tensors, weighed

    def _gradients(self, pick: Callable[[Any], Params], weights: Tensor | None = None) -> Params:
        grads = dict(pick(self.mean))
        count = sum(len(group) for group, _ in self.stacked)
        if self.captured is not None:
            grads |= {f"captured {key}": grad / count for key, grad in self.captured.grads.items()}
        for i, (group, (tasks, each)) in enumerate(zip(self.groups, self.stacked, strict=False)):
            for name in group.wanted:
                rows = each["data"][name]
                if weights is not None:
                    chosen = torch.stack([weights[p] for p in tasks.positions])
                    rows = rows * chosen.view(-1, *[1] * (rows.dim() - 1))
                grads[f"group {i} {name}"] = rows / count
        return grads


def in_order(stacked: list[Any], pick: Any) -> list[Tensor]:
    """Return the picked leaf of every task, in the order in which the tasks were given."""
    if len(stacked) == 1 and stacked[0][0].positions == tuple(range(len(stacked[0][0]))):
        leaf = pick(stacked[0][1])
        return [] if leaf is None else list(leaf)
    rows = [
        (p, leaf[i])
        for group, each in stacked
        if (leaf := pick(each)) is not None
        for i, p in enumerate(group.positions)
    ]
    return [leaf for _, leaf in sorted(rows, key=lambda row: row[0])]


def gathered(stacked: list[Any], name: str) -> dict[str, Tensor]:
    """Return the named dictionary of every task, each value stacked `[T, ...]` in the order of the tasks."""
    keys = stacked[0][1].get(name, {})
    return {key: torch.stack(in_order(stacked, lambda each, key=key: each[name][key])) for key in keys}
