"""What can be seen of a computation's graph: its nodes, and the leaves that it rests on."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

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
