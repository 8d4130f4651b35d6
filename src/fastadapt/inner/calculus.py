"""Two independent ways to differentiate a function of a dictionary of parameters.

`Functional` uses `torch.func` and works inside a vmap over tasks. `Autograd` uses plain
`torch.autograd.grad`, which runs everything torch can run. Both give the same numbers, and the
engine uses that to check one against the other.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fastadapt.errors import TaskError
from fastadapt.inner.dropped import Look
from fastadapt.inner.generators import random_state
from fastadapt.inner.graph import other_leaves
from fastadapt.inner.unchanged import changed_in_place
from fastadapt.layers.bound import as_then
from fastadapt.layers.kept import running_again
from fastadapt.layers.scope import held

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
        self._looked: set[bool] = set()

    def inner(self, objective: Objective, params: Params, through: bool) -> tuple[Params, Tensor, Any]:
        """Return `(gradient, value, aux)`."""
        through = through and torch.is_grad_enabled()
        with held(), torch.enable_grad():
            if through:
                at = {n: p if p.requires_grad else p.detach().requires_grad_() for n, p in params.items()}
            else:
                at = {n: p.detach().requires_grad_() for n, p in params.items()}
            began = torch.autograd._get_sequence_nr()
            # once is enough, as a look takes a while; but the steps of a long sweep are walked before they are
            # differentiated, and only what is differentiated has a graph that may be dropped
            look = Look() if through and through not in self._looked else None
            drawn = None if look is None else random_state(at)
            with nullcontext() if look is None else look.forward():
                value, aux = objective(at)
            if not self._looked and self.captured is not None:
                others = other_leaves(value, list(at.values()))
                self.captured.see(others, dropped=not through)
            with nullcontext() if look is None else look.backward(value, began):
                grads = _grad(value, list(at.values()), "inner", create_graph=through)
            if look is not None:
                look.check(objective, at, drawn)
            self._looked.add(through)
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
    """Gather the gradients of tensors that a meta-objective depends on beside its arguments.

    A loss may also make tensors of its own that require a gradient, as a penalty on the slope does. They die with the
    graph and are nobody's, so tensors are held weakly here.
    """

    def __init__(self) -> None:
        self._tensors: dict[int, weakref.ref[Tensor]] = {}
        self._dropped: dict[int, weakref.ref[Tensor]] = {}
        self._seen: dict[int, weakref.ref[Tensor]] = {}
        self._grads: dict[int, Tensor] = {}
        self._of_task: dict[int, Tensor] = {}

    def add(self, tensors: list[Tensor], grads: list[Tensor]) -> None:
        """Add to the gradient of each tensor, for the task under way."""
        for tensor, grad in zip(tensors, grads, strict=True):
            key = id(tensor)
            if key in self._tensors and self._tensors[key]() is not tensor:  # of one that is gone
                self._grads.pop(key, None)
                self._of_task.pop(key, None)
            self._tensors[key] = weakref.ref(tensor)
            self._of_task[key] = self._of_task[key] + grad if key in self._of_task else grad

    def open(self) -> None:
        """Begin a task, or begin it anew."""
        self._of_task.clear()

    def close(self, weight: Tensor | None = None) -> None:
        """End a task: add what was gathered for it, times its weight."""
        for key, grad in self._of_task.items():
            grad = grad if weight is None else weight * grad
            self._grads[key] = self._grads[key] + grad if key in self._grads else grad
        self._of_task.clear()

    def see(self, tensors: list[Tensor], dropped: bool) -> None:
        """Note what an inner objective depends on, and whether inner gradients are taken as constants."""
        kept = self._dropped if dropped else self._seen
        kept |= {id(tensor): weakref.ref(tensor) for tensor in tensors}

    @property
    def tensors(self) -> dict[int, Tensor]:
        """The tensors that outlived their graph."""
        return _alive(self._tensors)

    @property
    def grads(self) -> dict[int, Tensor]:
        """Their gradients, summed over tasks."""
        return {key: self._grads[key] for key in self.tensors if key in self._grads}

    def check(self, model: nn.Module, adapted: Iterable[str]) -> None:
        """Refuse what can't be differentiated; where nothing is, only what would not be adapted.

        Args:
            model: the network.
            adapted: the names of the parameters that the inner loop adapts.

        Raises:
            TaskError: if the model reaches a parameter of its own by a way on which it can't be bound, or inner
                gradients depend on a learned tensor and are taken as constants.
        """
        if torch.is_grad_enabled():
            self.check_bound(model, [name for name, _ in model.named_parameters()])
            self.check_dropped({})
        else:
            self.check_bound(model, adapted)

    def check_bound(self, model: nn.Module, names: Iterable[str]) -> None:
        """Refuse a model that reaches one of the named parameters by a way on which it can't be bound."""
        own = {id(p): name for name, p in model.named_parameters()}
        wanted = set(names)
        for key in [*self.tensors, *_alive(self._dropped), *_alive(self._seen)]:
            if own.get(key) in wanted:
                raise TaskError(
                    f"{type(model).__name__} uses its parameter {own[key]!r} by a way on which it can't be replaced "
                    "(an object or a container that keeps it?), so adapting it would have no effect there; use it as "
                    "an attribute of a module"
                )

    def check_dropped(self, own: Mapping[int, str]) -> None:
        """Refuse learned tensors that only inner gradients depend on, but for those that are `own`."""
        for key, tensor in _alive(self._dropped).items():
            if key not in self.tensors and key not in own:
                raise TaskError(
                    f"the inner loss depends on a tensor of shape {tuple(tensor.shape)} that requires a gradient, and "
                    "here inner gradients are taken as constants, which would drop it; take the exact meta-gradient "
                    "(MAML, Exact()), or pass tensor.detach()"
                )


def _alive(tensors: dict[int, "weakref.ref[Tensor]"]) -> dict[int, Tensor]:
    return {key: tensor for key, ref in tensors.items() if (tensor := ref()) is not None}


def _grad(
    value: Tensor, at: list[Tensor], which: str, *, create_graph: bool = False, keep: bool = False
) -> list[Tensor]:
    """Return the gradients, with zeros where the value does not depend on a tensor but on others."""
    if not value.requires_grad:
        raise _no_gradient(which)
    try:
        with running_again(as_then):
            grads = torch.autograd.grad(
                value, at, create_graph=create_graph, retain_graph=keep or create_graph, allow_unused=True
            )
    except RuntimeError as error:
        if "modified by an inplace operation" not in str(error):
            raise
        raise changed_in_place(error) from None
    if all(grad is None for grad in grads):
        raise _no_gradient(which)
    # a function of one's own may return a graph that nobody asked for
    kept = grads if create_graph else [None if grad is None else grad.detach() for grad in grads]
    return [torch.zeros_like(p) if grad is None else grad for p, grad in zip(at, kept, strict=True)]


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
