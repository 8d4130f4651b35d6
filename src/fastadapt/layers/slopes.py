r"""Normalisation for a loss that differentiates the network itself: a penalty on slopes, a force, a physical residual.

The exact meta-gradient is then a third derivative, and that of torch's kernels for layer norm, and for batch norm by
the batch's own moments (instance norm is computed by it), is wrong in torch 2.13. Written out,

    y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias,

in elementary operations, every order is right, in forward mode too. It takes more passes over memory, so it serves such
losses alone: where one is met for the first time, its step is computed once more.
"""

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

NORMS = (F.layer_norm, torch.layer_norm, F.batch_norm, F.instance_norm, torch.instance_norm)
"""What runs on a kernel whose third derivative is wrong."""
BACKWARD = {torch.autograd.grad: 4, Tensor.backward: 3, torch.autograd.backward: 3}
"""What takes a gradient, and the place of its argument `create_graph`."""
_levels: Any = torch._C._functorch.get_interpreter_stack  # type: ignore[attr-defined]
_SLOPES = (torch._C._functorch.TransformType.Grad, torch._C._functorch.TransformType.Jvp)  # type: ignore[attr-defined]
_SLOPED: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()
_written_out: ContextVar[bool] = ContextVar("written out", default=False)


class Sloped(RuntimeError):  # noqa: N818  no user meets it
    """A loss differentiates a module whose norms ran on kernels; once more, and they are written out."""


def remember(model: nn.Module) -> None:
    """Write the norms of this module out from now on."""
    _SLOPED.add(model)


def known(model: nn.Module | None) -> bool:
    """Whether a loss has differentiated the module."""
    return model is not None and model in _SLOPED


def differentiates(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Return whether this call of torch takes a gradient that will be differentiated.

    Example:
        >>> differentiates(torch.autograd.grad, (), {"create_graph": True})
        True
    """
    place = BACKWARD[func]
    return bool(args[place] if len(args) > place else kwargs.get("create_graph"))


def forward_mode() -> bool:
    """Return whether derivatives are taken in forward mode here (`torch.func.jvp`, `dual_level`)."""
    return forward_ad._current_level >= 0


def depth() -> int:
    """Return how many transforms of `torch.func` are around what runs here."""
    return len(_levels() or ())


def within_a_loss(around: int) -> bool:
    """Return whether the loss itself takes a derivative here, if `around` transforms are around all of it."""
    return forward_mode() or any(level.key() in _SLOPES for level in (_levels() or ())[around:])


@contextmanager
def written_out() -> Iterator[None]:
    """Write norms out in elementary operations."""
    token = _written_out.set(True)
    try:
        yield
    finally:
        _written_out.reset(token)


def wanted() -> bool:
    """Return whether norms are to be written out."""
    return _written_out.get() or forward_mode()


def layer_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: Any,
) -> Tensor:
    """Return what `F.layer_norm` returns."""
    return _standardised(x, list(range(-len(normalized_shape), 0)), weight, bias, eps)


def instance_norm(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *_: Any,
) -> Tensor:
    """Return what `F.instance_norm` returns for moments of the input; those that are kept move as there."""
    inside = list(range(2, x.dim()))
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            variance, mean = torch.var_mean(x.detach(), inside)
            running_mean.lerp_(mean.mean(0).to(running_mean.dtype), momentum)
            running_var.lerp_(variance.mean(0).to(running_var.dtype), momentum)
    column = [-1] + [1] * len(inside)
    scale, shift = (None if p is None else p.view(column) for p in (weight, bias))
    return _standardised(x, inside, scale, shift, eps)


def replaced(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor | None:
    """Return the norm written out, None for a call that has nothing to be written out."""
    if func in (F.layer_norm, torch.layer_norm):
        return layer_norm(*args, **{n: v for n, v in kwargs.items() if n != "cudnn_enable"})
    names = ("input", "running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum", "eps")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    if not given.get("use_input_stats", True):
        return None  # by moments that are kept, whose kernel is right
    return instance_norm(given.pop("input"), **{n: v for n, v in given.items() if n in names})


def _standardised(x: Tensor, over: list[int], weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    if torch.is_autocast_enabled(x.device.type):
        x = x.float()  # as autocast has it
    variance, mean = torch.var_mean(x, over, correction=0, keepdim=True)
    y = (x - mean) * torch.rsqrt(variance + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias
