"""What can be seen of a computation's graph: the leaves that it rests on, and where a graph ends before its time."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from fastadapt.errors import TaskError

_LEAF: Any = type(get_gradient_edge(torch.ones((), requires_grad=True)).node)


def nodes_of(value: Tensor, since: int = 0, beyond: Collection[Any] = ()) -> list[Any]:
    """Return every node that `value` was computed by, each once.

    Only those made since `torch` counted so far, and none of `beyond` or what only they were computed by.
    """
    if value.grad_fn is None:
        return []
    seen = {None, value.grad_fn, *beyond}
    found: list[Any] = [value.grad_fn]
    for node in found:  # grows on the way; every task is looked through, so this is written to be fast
        for before, _ in node.next_functions:
            if before not in seen:
                seen.add(before)
                if not since or before._sequence_nr() >= since:
                    found.append(before)
    return found


def other_leaves(value: Tensor, known: list[Tensor]) -> list[Tensor]:
    """Return the leaves that require a gradient and that `value` depends on, but for `known` tensors.

    Example:
        >>> a, b = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
        >>> [leaf is b for leaf in other_leaves((a * b.exp()).sum(), [a])]
        [True]
    """
    mine = {id(tensor) for tensor in known}
    computed = {tensor.grad_fn for tensor in known if tensor.grad_fn is not None}
    if value.grad_fn is None:
        return [value] if value.requires_grad and id(value) not in mine else []
    leaves = [node.variable for node in nodes_of(value, beyond=computed) if type(node) is _LEAF]
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and id(leaf) not in mine]


@contextmanager
def no_graph_dropped(value: Tensor, since: int) -> Iterator[None]:
    """While a gradient is taken that will be differentiated again, refuse functions whose backward has no graph.

    An adjoint solver computes its gradient under `no_grad`: a second derivative through it would silently be 0.
    """
    own = (n for n in nodes_of(value, since) if isinstance(n, torch.autograd.function.BackwardCFunction))
    custom = [node for node in own if not type(node).__module__.startswith("fastadapt.")]
    faulty: list[str] = []

    def look(name: str, to_inputs: Any, from_outputs: Any) -> None:
        asked = any(isinstance(g, Tensor) and g.requires_grad for g in from_outputs)
        given = [g for g in to_inputs if isinstance(g, Tensor)]
        if asked and given and not any(g.requires_grad for g in given):
            faulty.append(name)

    hooks = [node.register_hook(partial(look, type(node).__name__.removesuffix("Backward"))) for node in custom]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    if faulty:
        raise TaskError(
            f"{faulty[0]} computes its gradient without a graph, so that the exact meta-gradient through it would "
            "silently lack its second derivative; take meta_gradient=FirstOrder()"
        )
