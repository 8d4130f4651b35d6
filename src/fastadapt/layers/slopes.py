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

_LAYER = ("input", "normalized_shape", "weight", "bias", "eps")
_CHANNELS = ("input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps")
_ARGUMENTS = {
    F.layer_norm: _LAYER,
    torch.layer_norm: _LAYER,
    torch.native_layer_norm: _LAYER,
    F.instance_norm: ("input", "running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum", "eps"),
    torch.instance_norm: tuple("use_input_stats" if name == "training" else name for name in _CHANNELS),
    torch.batch_norm: _CHANNELS,
    torch.native_batch_norm: _CHANNELS,
}
"""The arguments of each norm in its own order, without the switches of kernels behind them."""
NORMS = (F.batch_norm, *_ARGUMENTS)
"""What runs on a kernel whose third derivative is wrong; the first is the business of a task's statistics."""
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


def replaced(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Return what a norm returns, written out; None for a call that has nothing to be written out."""
    names = _ARGUMENTS[func]
    given = {**dict(zip(names, args, strict=False)), **{n: v for n, v in kwargs.items() if n in names}}
    x, weight, bias = given["input"], given.get("weight"), given.get("bias")
    if names is _LAYER:
        over = list(range(-len(given["normalized_shape"]), 0))
        y, mean, rate = _standardised(x, over, weight, bias, given.get("eps", 1e-5))
        return (y, mean, rate) if func is torch.native_layer_norm else y
    if not given.get("training", given.get("use_input_stats", True)):
        return None  # by moments that are kept, whose kernel is right
    batch = "training" in names
    over = [i for i in range(x.dim()) if i > 1 or (batch and i == 0)]
    _move(x, over, given.get("running_mean"), given.get("running_var"), given.get("momentum", 0.1))
    column = [-1] + [1] * (x.dim() - 2)
    scale, shift = (None if p is None else p.view(column) for p in (weight, bias))
    y, mean, rate = _standardised(x, over, scale, shift, given.get("eps", 1e-5))
    return (y, mean.flatten(), rate.flatten()) if func is torch.native_batch_norm else y


@torch.no_grad()
def _move(x: Tensor, over: list[int], mean: Tensor | None, variance: Tensor | None, momentum: float) -> None:
    """Move the moments that a layer keeps, as its kernel does."""
    if mean is None or variance is None:
        return
    seen_variance, seen = torch.var_mean(x.detach(), over)
    for kept, new in ((mean, seen), (variance, seen_variance)):
        kept.lerp_((new.mean(0) if new.dim() == 2 else new).to(kept.dtype), momentum)


def _standardised(
    x: Tensor, over: list[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the result, the mean, and one over the standard deviation."""
    if torch.is_autocast_enabled(x.device.type):
        x = x.float()  # as autocast has it
    variance, mean = torch.var_mean(x, over, correction=0, keepdim=True)
    rate = torch.rsqrt(variance + eps)
    y = (x - mean) * rate
    y = y if weight is None else y * weight
    return (y if bias is None else y + bias), mean, rate
