r"""Standardise every channel by its own batch, with derivatives in closed form.

    m = mean(x),  r = 1 / sqrt(var(x) + eps),  z = (x - m) r          (mean over batch and positions)

With `<a> = mean(a)`, the gradient to x for a gradient g to z is, in one pass for the means and one for the result,

    S(g) = r (g - <g> - z <g z>),

and S is self-adjoint in g. The derivative of `<u, S(g)>` to x, which the exact meta-gradient needs, is

    -r^2 ( a z + <g z> (u - <u> - z <u z>) + <u z> (g - <g> - z <g z>) ),   a = <u g> - <u><g> - <u z><g z>.

Automatic differentiation of the written-out formula reaches the same numbers by twice as many passes over memory.
z and S run on the library's fused kernels, and written out inside a vmap or a program for a compiler. On a GPU the
written-out forms take few kernels: one for both moments, and a product with a sum in one.

References:
    Ioffe, Szegedy 2015, Batch Normalization (arXiv:1502.03167), section 3 (first derivative).
"""

from typing import Any

import torch
from torch import Tensor

from fastadapt.layers.forms import few_kernels
from fastadapt.layers.tracing import is_for

aten = torch.ops.aten


def standardise(x: Tensor, eps: float) -> Tensor:
    """Return `z: [n, C, ...]` for `x: [n, C, ...]`.

    Args:
        x: the batch.
        eps: added to the variance, > 0.

    Example:
        >>> standardise(torch.tensor([[1.0], [3.0]]), eps=1e-12).flatten()
        tensor([-1.,  1.])
    """
    z, _, _ = _Standardise.apply(x, eps)  # type: ignore[misc]
    return z


def _written_out(x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    if few_kernels(x):
        variance, mean = torch.var_mean(x, _all_but_channels(x), correction=0, keepdim=True)
        r = torch.rsqrt(variance + eps)
        return (x - mean) * r, mean.flatten(), r.flatten()
    mean = _over(x)  # two passes: they compile to plain loops, one pass to a slow recurrence
    r = torch.rsqrt(_over((x - mean).square()) + eps)
    return (x - mean) * r, mean.flatten(), r.flatten()


def _gradient_written_out(g: Tensor, x: Tensor, mean: Tensor, r: Tensor) -> Tensor:
    z, r = _z(x, mean, r), _column(r, x)
    if few_kernels(x):
        return torch.addcmul(g - _over(g), z, -_over(g * z)) * r
    return r * (g - _over(g) - z * _over(g * z))


def _z(x: Tensor, mean: Tensor, r: Tensor) -> Tensor:
    return (x - _column(mean, x)) * _column(r, x)


def _column(value: Tensor, x: Tensor) -> Tensor:
    """Return one value per channel such that it broadcasts against `x`."""
    return value.view([1, -1] + [1] * (x.dim() - 2))


def _over(x: Tensor) -> Tensor:
    """Return the mean of every channel, of each sample first: one sample stays in the cache."""
    if few_kernels(x):
        return x.mean(_all_but_channels(x), keepdim=True)
    inside = list(range(2, x.dim()))
    return (x.mean(inside, keepdim=True) if inside else x).mean(0, keepdim=True)


def _all_but_channels(x: Tensor) -> list[int]:
    return [d for d in range(x.dim()) if d != 1]


class _Standardise(torch.autograd.Function):
    """Return z, and the mean and r of each channel, which carry no gradient."""

    generate_vmap_rule = False

    @staticmethod
    def forward(x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        if is_for("compiler"):
            return _written_out(x, eps)
        return aten.native_batch_norm(x, None, None, None, None, True, 0.0, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, ctx.eps = inputs
        _, mean, r = output
        ctx.mark_non_differentiable(mean, r)
        ctx.save_for_backward(x, mean, r)

    @staticmethod
    def backward(ctx: Any, g: Tensor, *_: Any) -> Any:  # type: ignore[override]
        return _InputGradient.apply(g, *ctx.saved_tensors, ctx.eps), None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *operands: Any) -> Any:
        x, eps = operands
        return torch.func.vmap(lambda x: _written_out(x, eps), in_dims[0])(x), (0, 0, 0)


class _InputGradient(torch.autograd.Function):
    """Return S(g)."""

    generate_vmap_rule = False

    @staticmethod
    def forward(g: Tensor, x: Tensor, mean: Tensor, r: Tensor, eps: float) -> Tensor:  # type: ignore[override]
        if is_for("compiler"):
            return _gradient_written_out(g, x, mean, r)
        wanted = [True, False, False]
        return aten.native_batch_norm_backward(g, x, None, None, None, mean, r, True, eps, wanted)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        g, x, mean, r, ctx.eps = inputs
        ctx.save_for_backward(g, x, mean, r)

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> Any:  # type: ignore[override]
        g, x, mean, r = ctx.saved_tensors
        to_g = _InputGradient.apply(u, x, mean, r, ctx.eps) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return to_g, None, None, None, None
        # z and r as functions of x, so that derivatives of third and higher order are right as well
        z: Any = _Standardise.apply(x, ctx.eps)[0]  # type: ignore[index]
        scale: Any = _Scale.apply(x, mean, r, ctx.eps)

        mean_u, mean_g, u_z, g_z = _over(u), _over(g), _over(u * z), _over(g * z)
        a = _over(u * g) - mean_u * mean_g - u_z * g_z
        if few_kernels(x):  # the three products and sums by one kernel each
            by = -scale * scale
            to_x = torch.addcmul(-by * (g_z * mean_u + u_z * mean_g), u, by * g_z)
            to_x = torch.addcmul(torch.addcmul(to_x, g, by * u_z), z, by * (a - 2 * g_z * u_z))
            return to_g, to_x, None, None, None
        # collected by u, g and z: three products for each element
        to_x = -(scale * scale) * (g_z * u + u_z * g + (a - 2 * g_z * u_z) * z - (g_z * mean_u + u_z * mean_g))
        return to_g, to_x, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *operands: Any) -> Any:
        *tensors, _ = operands
        return torch.func.vmap(_gradient_written_out, tuple(in_dims[:4]))(*tensors), 0


class _Scale(torch.autograd.Function):
    """Return r as a function of x; its derivative is `-r^2 z / count`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, mean: Tensor, r: Tensor, eps: float) -> Tensor:  # type: ignore[override]
        return _column(r, x).clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, mean, r, ctx.eps = inputs
        ctx.save_for_backward(x, mean, r)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:  # type: ignore[override]
        x, mean, r = ctx.saved_tensors
        z: Any = _Standardise.apply(x, ctx.eps)[0]  # type: ignore[index]
        scale: Any = _Scale.apply(x, mean, r, ctx.eps)
        count = x.numel() // x.shape[1]
        return -g * scale * scale * z / count, None, None, None


def per_channel(value: Tensor, x: Tensor) -> Tensor:
    """Return one value per channel, `[C]`, as `[n, C, 1, ...]`, which broadcasts against `x: [n, C, ...]`.

    It is repeated for every sample, so that its gradient is summed over each sample first, which stays in the cache.
    """
    return _column(value, x).expand([x.shape[0], -1] + [1] * (x.dim() - 2))
