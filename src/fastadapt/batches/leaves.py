"""The leaves of a task's support and query: what each is, how it moves, and what tells two tasks apart.

* tensors are stacked along a task axis;
* constants (None, numbers, text, functions inside a batch, ...) ride along: tasks share a stack only if they are equal;
* a `Collector` gathers the batch with the model as adapted so far;
* any other object is data that can't be stacked (a graph batch, a module): such tasks run one after another.
"""

import copy
import dataclasses
import enum
import functools
import types
from collections.abc import Callable
from typing import Any, Literal, TypeGuard

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fastadapt.errors import TaskError

FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial, type)
CONSTANTS = (type(None), int, float, complex, str, bytes, enum.Enum, np.generic, torch.dtype, torch.device, *FUNCTIONS)
Kind = Literal["tensor", "constant", "collector", "object"]


class Collector:
    """Gather a support or query set with the model as adapted so far (reinforcement learning, active learning).

    Given in place of a batch it is asked anew at every inner step; what it does is not differentiated. Only a
    `Collector` collects: a graph, a module or another object that happens to be callable is data.

    Args:
        collect: `collect(model) -> batch`; a class of your own may derive from this one and define the method instead.

    Example:
        >>> collector = Collector(lambda model: (model(1), model(2)))
        >>> collector.collect(lambda x: 10 * x)
        (10, 20)
    """

    def __init__(self, collect: Callable[[Any], Any]) -> None:
        self._collect = collect

    def collect(self, model: Any) -> Any:
        """Return a batch that was gathered with `model`."""
        return self._collect(model)

    def __call__(self, model: Any) -> Any:
        """Return the same; what is called in its place can be a plain function."""
        return self.collect(model)


def is_collector(leaf: Any) -> TypeGuard[Collector]:
    """Return whether a support or query is gathered with the model instead of given."""
    return isinstance(leaf, Collector)


def kind_of(leaf: Any) -> Kind:
    """Return what a leaf is."""
    if isinstance(leaf, Tensor):
        return "object" if leaf.is_nested else "tensor"
    return "constant" if isinstance(leaf, CONSTANTS) else "collector" if is_collector(leaf) else "object"


def checked(batch: Any, what: str) -> list[Any]:
    """Return the leaves of a support or query set.

    Raises:
        TaskError: if a function or a class stands where a batch or a `Collector` has to, a collector is only a part
            of it, or an array is not a tensor.
    """
    if isinstance(batch, FUNCTIONS):
        name = getattr(batch, "__name__", type(batch).__name__)
        raise TaskError(
            f"the {what} is the {'class' if isinstance(batch, type) else 'function'} {name!r}, and a batch is made of "
            "tensors; write fastadapt.tasks.Collector(collect), with collect(model) -> batch, if it gathers the batch"
        )
    leaves = pytree.tree_leaves(batch)
    for leaf in leaves:
        if isinstance(leaf, np.ndarray):
            raise TaskError(
                f"the leaves of a task must be tensors, got {type(leaf).__name__} in the {what}; "
                "convert with torch.as_tensor(...)"
            )
        if is_collector(leaf) and leaf is not batch:
            raise TaskError(
                f"a collector gathers the whole {what}, but here it is a part of a {type(batch).__name__}; "
                "let its collect(model) return all parts"
            )
    return leaves


def leaves_of(batch: Any) -> list[Any]:
    """Return the leaves of a pytree; those of a plain tuple of tensors at once, as a walk takes longer than a draw."""
    if type(batch) is tuple and all(type(leaf) is Tensor for leaf in batch):
        return list(batch)
    return pytree.tree_leaves(batch)


def label(leaf: Any) -> Any:
    """Return what two tasks have to agree in at this leaf to be stacked, None where they never can."""
    kind = kind_of(leaf)
    if kind == "tensor":
        return tuple(leaf.shape), leaf.dtype
    if kind != "constant":
        return None
    return type(leaf), id(leaf) if isinstance(leaf, FUNCTIONS) else repr(leaf)


def map_tensors(f: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Return the pytree with `f` applied to its tensors, together with those of `others`; the rest rides along.

    Example:
        >>> map_tensors(lambda t: t + 1, {"x": torch.zeros(2), "name": "a"})
        {'x': tensor([1., 1.]), 'name': 'a'}
    """
    return pytree.tree_map(lambda leaf, *more: f(leaf, *more) if isinstance(leaf, Tensor) else leaf, tree, *others)


def first_tensor(tree: Any) -> Tensor | None:
    """Return the first tensor of a pytree, None if there is none."""
    return next((leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)), None)


def task_axes(tree: Any) -> Any:
    """Return `in_dims` for `torch.func.vmap`: the first axis of every tensor, and none of a constant."""
    return pytree.tree_map(lambda leaf: 0 if isinstance(leaf, Tensor) else None, tree)


def moved(tree: Any, device: Any, dtype: torch.dtype | None, non_blocking: bool) -> Any:
    """Return the pytree with its tensors on `device` and, where they are not whole numbers, of `dtype`.

    Objects with a `.to` of their own are moved to the device by it, dataclasses field by field, and anything else
    rides along.
    """

    def move(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return leaf.to(device=device, dtype=_of_kind(leaf, dtype), non_blocking=non_blocking)
        if _moves_itself(leaf):
            return leaf if device is None else _moved_by_itself(leaf, device, non_blocking)
        if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            return _with_fields(leaf, lambda value: moved(value, device, dtype, non_blocking))
        return leaf

    return pytree.tree_map(move, tree, is_leaf=_moves_itself)


def pinned(tree: Any) -> Any:
    """Return the pytree with its tensors in pinned memory, from where they are copied to a GPU in the background."""

    def pin(leaf: Any) -> Any:
        return leaf.pin_memory() if callable(getattr(type(leaf), "pin_memory", None)) else leaf

    return pytree.tree_map(pin, tree, is_leaf=lambda leaf: callable(getattr(type(leaf), "pin_memory", None)))


def _moves_itself(leaf: Any) -> bool:
    return not isinstance(leaf, (Tensor, type)) and callable(getattr(type(leaf), "to", None))


def _moved_by_itself(leaf: Any, device: Any, non_blocking: bool) -> Any:
    if non_blocking:
        try:
            there = leaf.to(device, non_blocking=True)
        except TypeError:  # many have no such argument
            there = leaf.to(device)
    else:
        there = leaf.to(device)
    return leaf if there is None else there  # some move in place and return nothing


def _of_kind(leaf: Tensor, dtype: torch.dtype | None) -> torch.dtype | None:
    """Return the type a tensor is converted to: numbers stay whole, real or complex, whichever they are."""
    if dtype is None or not (leaf.is_floating_point() or leaf.is_complex()):
        return None
    return dtype.to_complex() if leaf.is_complex() else dtype


def _with_fields(leaf: Any, f: Callable[[Any], Any]) -> Any:
    old = {field.name: getattr(leaf, field.name) for field in dataclasses.fields(leaf)}
    new = {name: f(value) for name, value in old.items()}
    if all(same(old[name], new[name]) for name in old):
        return leaf
    twin = copy.copy(leaf)
    for name, value in new.items():
        object.__setattr__(twin, name, value)  # the class may be frozen
    return twin


def same(tree: Any, other: Any) -> bool:
    """Return whether two pytrees of one structure hold the same objects."""
    ours, theirs = pytree.tree_leaves(tree), pytree.tree_leaves(other)
    return len(ours) == len(theirs) and all(a is b for a, b in zip(ours, theirs, strict=True))
