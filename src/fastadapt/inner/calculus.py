"""Two independent ways to differentiate a function of a dictionary of parameters.

`Functional` uses `torch.func` and works inside a vmap over tasks. `Autograd` uses plain
`torch.autograd.grad`, which runs everything torch can run. Both give the same numbers, and the
engine uses that to check one against the other.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fastadapt.errors import TaskError
from fastadapt.inner.graph import no_graph_dropped, other_leaves
from fastadapt.layers.binding import held, running_again
from fastadapt.layers.bound import as_then

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
    """Differentiate an objective that returns `(scalar, aux)`.

    What the objective binds to a module stays bound until it has been differentiated.
    """

    def inner(self, objective: Objective, params: Params, through: bool) -> tuple[Params, Tensor, Any]:
        """Return `(gradient, value, aux)`; if `through`, the gradient can itself be differentiated.

        Raises:
            TaskError: if no parameter receives a gradient.
        """
        ...

    def outer(self, objective: Callable[[Any], tuple[Tensor, Any]], at: Any) -> tuple[Any, Tensor, Any]:
        """Return `(gradient, value, aux)` of the meta-objective at a pytree of tensors, all cut from their graphs.

        Raises:
            TaskError: if none of the tensors receives a gradient.
        """
        ...


class Functional:
    """Differentiate with `torch.func`; composes with `torch.func.vmap`."""

    def inner(self, objective: Objective, params: Params, through: bool) -> tuple[Params, Tensor, Any]:
        """Return `(gradient, value, aux)`."""
        # At detached parameters no second-order graph is built: first order costs first order.
        at = params if through else detached(params)
        with held():
            grads, (value, aux) = torch.func.grad_and_value(objective, has_aux=True)(at)
        return (grads if through else detached(grads)), value, aux

    def outer(self, objective: Callable[[Any], tuple[Tensor, Any]], at: Any) -> tuple[Any, Tensor, Any]:
        """Return `(gradient, value, aux)`."""
        with held():
            grads, (value, aux) = torch.func.grad_and_value(objective, has_aux=True)(at)
        return grads, value, aux


class Autograd:
    """Differentiate with `torch.autograd.grad`, one task at a time.

    Args:
        captured: gathers what the meta-objective depends on beside its arguments (a `Parameter` in a closure, a
            network in front of the tasks), with the gradient of each; None leaves them alone.
    """

    def __init__(self, captured: "Captured | None" = None) -> None:
        self.captured = captured
        self._looked = False

    def inner(self, objective: Objective, params: Params, through: bool) -> tuple[Params, Tensor, Any]:
        """Return `(gradient, value, aux)`."""
        through = through and torch.is_grad_enabled()
        with held(), torch.enable_grad():
            if through:
                at = {n: p if p.requires_grad else p.detach().requires_grad_() for n, p in params.items()}
            else:
                at = {n: p.detach().requires_grad_() for n, p in params.items()}
            began = torch.autograd._get_sequence_nr()
            value, aux = objective(at)
            looks = not self._looked  # once is enough, and a look takes a while
            others = (
                other_leaves(value, list(at.values())) if looks and self.captured is not None and not through else []
            )
            with no_graph_dropped(value, began) if looks and through else nullcontext():
                grads = _grad(value, list(at.values()), "inner", create_graph=through)
            if others and self.captured is not None:
                self.captured.drop(others)
            self._looked = True
        grads = dict(zip(at, grads, strict=True))
        return grads, value if through else value.detach(), aux if through else detached(aux)

    def outer(self, objective: Callable[[Any], tuple[Tensor, Any]], at: Any) -> tuple[Any, Tensor, Any]:
        """Return `(gradient, value, aux)`."""
        leaves, structure = pytree.tree_flatten(at)
        with held(), torch.enable_grad():
            copies = [leaf.detach().requires_grad_() for leaf in leaves]
            value, aux = objective(pytree.tree_unflatten(copies, structure))
            others = other_leaves(value, copies) if self.captured is not None else []
            grads = _grad(value, [*copies, *others], "outer", keep=bool(others))
        if self.captured is not None:
            self.captured.add(others, grads[len(copies) :])
        return pytree.tree_unflatten(grads[: len(copies)], structure), value.detach(), detached(aux)


class Captured:
    """Gather the gradients of tensors that a meta-objective depends on beside its arguments."""

    def __init__(self) -> None:
        self.tensors: dict[int, Tensor] = {}
        self.grads: dict[int, Tensor] = {}
        self.dropped: dict[int, Tensor] = {}
        self._of_task: dict[int, Tensor] = {}

    def add(self, tensors: list[Tensor], grads: list[Tensor]) -> None:
        """Add to the gradient of each tensor, for the task under way."""
        for tensor, grad in zip(tensors, grads, strict=True):
            self.tensors[id(tensor)] = tensor
            self._of_task[id(tensor)] = self._of_task[id(tensor)] + grad if id(tensor) in self._of_task else grad

    def open(self) -> None:
        """Begin a task, or begin it anew."""
        self._of_task.clear()

    def close(self, weight: Tensor | None = None) -> None:
        """End a task: add what was gathered for it, times its weight."""
        for key, grad in self._of_task.items():
            grad = grad if weight is None else weight * grad
            self.grads[key] = self.grads[key] + grad if key in self.grads else grad
        self._of_task.clear()

    def drop(self, tensors: list[Tensor]) -> None:
        """Note what an inner objective depends on where inner gradients are taken as constants."""
        self.dropped |= {id(tensor): tensor for tensor in tensors}

    def check(self, model: nn.Module) -> None:
        """Refuse what can't be differentiated.

        Raises:
            TaskError: if the model reaches a parameter of its own by a way on which it can't be bound, or inner
                gradients depend on a learned tensor and are taken as constants.
        """
        own = {id(p): name for name, p in model.named_parameters()}
        for key in [*self.tensors, *self.dropped]:
            if key in own:
                raise TaskError(
                    f"{type(model).__name__} uses its parameter {own[key]!r} by a way on which it can't be replaced (a "
                    "variable in a closure?), so adapting it would have no effect there; use it as an attribute of a "
                    "module"
                )
        for key, tensor in self.dropped.items():
            if key not in self.tensors:
                raise TaskError(
                    f"the inner loss depends on a tensor of shape {tuple(tensor.shape)} that requires a gradient, and "
                    "here inner gradients are taken as constants, which would drop it; take meta_gradient='exact', or "
                    "pass tensor.detach()"
                )


def _grad(
    value: Tensor, at: list[Tensor], which: str, *, create_graph: bool = False, keep: bool = False
) -> list[Tensor]:
    """Return the gradients, with zeros where the value does not depend on a tensor but on others."""
    if not value.requires_grad:
        raise _no_gradient(which)
    with running_again(as_then):
        grads = torch.autograd.grad(
            value, at, create_graph=create_graph, retain_graph=keep or create_graph, allow_unused=True
        )
    if all(grad is None for grad in grads):
        raise _no_gradient(which)
    return [torch.zeros_like(p) if grad is None else _dense(grad) for p, grad in zip(at, grads, strict=True)]


def _dense(grad: Tensor) -> Tensor:
    """Return the gradient of a sparse embedding as the update rules take it."""
    return grad.to_dense() if grad.is_sparse else grad


def _no_gradient(which: str) -> TaskError:
    whom = (
        "no adapted parameter receives a gradient from the inner loss"
        if which == "inner"
        else ("no meta-parameter receives a gradient from the meta-objective")
    )
    return TaskError(
        f"{whom}: what the loss returns does not depend on them in a way that torch can differentiate; look for "
        ".detach(), .item(), torch.no_grad() or numpy in the model and in the loss"
    )
