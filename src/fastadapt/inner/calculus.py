"""Two independent ways to differentiate a function of a dictionary of parameters.

`Functional` uses `torch.func` and works inside a vmap over tasks. `Autograd` uses plain
`torch.autograd.grad`, which runs everything torch can run. Both give the same numbers, and the
engine uses that to check one against the other.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

Params = dict[str, Tensor]
Objective = Callable[[Params], tuple[Tensor, Any]]


def detached(tree: Any) -> Any:
    """Return the same pytree with every tensor cut from its graph."""
    return pytree.tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, tree)


@contextmanager
def able_to_differentiate() -> Iterator[None]:
    """Leave `torch.inference_mode()`, in which every inner gradient would silently be zero, for `torch.no_grad()`."""
    if torch.is_inference_mode_enabled():
        with torch.inference_mode(False), torch.no_grad():
            yield
    else:
        yield


def differentiable(tree: Any) -> Any:
    """Return the same pytree with tensors made in `torch.inference_mode()`, which autograd refuses, copied."""
    return pytree.tree_map(
        lambda leaf: leaf.clone() if isinstance(leaf, Tensor) and leaf.is_inference() else leaf, tree
    )


class Calculus(Protocol):
    """Differentiate an objective that returns `(scalar, aux)`."""

    def inner(self, objective: Objective, params: Params, through: bool) -> tuple[Params, Tensor, Any]:
        """Return `(gradient, value, aux)`; if `through`, the gradient can itself be differentiated."""
        ...

    def outer(self, objective: Callable[[Any], tuple[Tensor, Any]], at: Any) -> tuple[Any, Tensor, Any]:
        """Return `(gradient, value, aux)` of the meta-objective at a pytree of tensors, all cut from their graphs."""
        ...


class Functional:
    """Differentiate with `torch.func`; composes with `torch.func.vmap`."""

    def inner(self, objective: Objective, params: Params, through: bool) -> tuple[Params, Tensor, Any]:
        """Return `(gradient, value, aux)`."""
        # At detached parameters no second-order graph is built: first order costs first order.
        at = params if through else detached(params)
        grads, (value, aux) = torch.func.grad_and_value(objective, has_aux=True)(at)
        return (grads if through else detached(grads)), value, aux

    def outer(self, objective: Callable[[Any], tuple[Tensor, Any]], at: Any) -> tuple[Any, Tensor, Any]:
        """Return `(gradient, value, aux)`."""
        grads, (value, aux) = torch.func.grad_and_value(objective, has_aux=True)(at)
        return grads, value, aux


class Autograd:
    """Differentiate with `torch.autograd.grad`, one task at a time."""

    def inner(self, objective: Objective, params: Params, through: bool) -> tuple[Params, Tensor, Any]:
        """Return `(gradient, value, aux)`."""
        through = through and torch.is_grad_enabled()
        with torch.enable_grad():
            if through:
                at = {n: p if p.requires_grad else p.detach().requires_grad_() for n, p in params.items()}
            else:
                at = {n: p.detach().requires_grad_() for n, p in params.items()}
            value, aux = objective(at)
            grads = _grad(value, at, create_graph=through)
        return grads, value if through else value.detach(), aux if through else detached(aux)

    def outer(self, objective: Callable[[Any], tuple[Tensor, Any]], at: Any) -> tuple[Any, Tensor, Any]:
        """Return `(gradient, value, aux)`."""
        leaves, structure = pytree.tree_flatten(at)
        with torch.enable_grad():
            named = {str(i): leaf.detach().requires_grad_() for i, leaf in enumerate(leaves)}
            value, aux = objective(pytree.tree_unflatten(list(named.values()), structure))
            grads = _grad(value, named, create_graph=False)
        return pytree.tree_unflatten(list(grads.values()), structure), value.detach(), detached(aux)


def _grad(value: Tensor, at: Params, create_graph: bool) -> Params:
    if not value.requires_grad:  # the loss touches none of them
        return {name: torch.zeros_like(p) for name, p in at.items()}
    grads = torch.autograd.grad(value, list(at.values()), create_graph=create_graph, allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(at.items(), grads, strict=True)}
