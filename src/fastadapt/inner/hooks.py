"""Hooks that a user has put on parameters (`p.register_hook`): inner gradients pass through them too."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from fastadapt.errors import TaskError

Hooks = Mapping[str, Sequence[Callable[[Tensor], Tensor | None]]]
"""The hooks of each parameter that has some, by its name, in the order in which they were put there."""


def hooks_of(params: Mapping[str, Any]) -> Hooks:
    """Return the hooks of the parameters.

    Example:
        >>> import torch
        >>> w = torch.ones(2, requires_grad=True)
        >>> _ = w.register_hook(lambda g: 2 * g)
        >>> len(hooks_of({"w": w, "b": torch.zeros(1)})["w"])
        1
    """
    return {name: tuple(found.values()) for name, p in params.items() if (found := p._backward_hooks)}


def hooked(grads: Mapping[str, Tensor], hooks: Hooks, through: bool) -> dict[str, Tensor]:
    """Return what the hooks make of the gradients.

    Args:
        grads: the inner gradient, by the names of the parameters.
        hooks: the hooks.
        through: whether the result is differentiated.

    Raises:
        TaskError: if a hook returns something without a graph that is differentiated.
    """
    found = dict(grads)
    for name in hooks.keys() & grads.keys():
        for hook in hooks[name]:
            before = found[name]
            after = hook(before)
            if after is None:
                continue
            if through and before.requires_grad and not after.requires_grad and bool(after.any()):
                raise TaskError(
                    f"a hook on the parameter {name!r} returns a gradient without a graph (.detach(), .data, "
                    "numpy?), so that the exact meta-gradient through it would silently lack its second derivative; "
                    "compute it with torch operations, or take meta_gradient=FirstOrder()"
                )
            found[name] = after
    return found
