r"""Two-dimensional convolution as three bilinear maps that are each other's derivatives.

With `y = x * w` (convolution), the two gradients

    dx = D(g, w)     (input gradient)          dw = W(g, x)     (weight gradient)

are bilinear too, and the derivatives of all three are again one of the three:

    y = x * w:   dx = D(g, w)    dw = W(g, x)
    D(g, w):     dg = u * w      dw = W(g, u)
    W(g, x):     dg = x * u      dx = D(g, u)

So every order of derivative is a call of one of three fast kernels. torch's own second derivative of a weight
gradient is a convolution whose filter is as large as the image, which no kernel is made for.

Under a vmap over tasks the weights of the first inner step are still shared: all tasks then are one ordinary batch.
Later each task has its own, and `fastadapt.layers.forms` says how they are computed: on a CPU one kernel call for each
task is faster than the grouped convolution that torch makes of it on large maps, slower on small ones
(`docs/performance.md` has the figures); on a GPU small ones are matrix products over patches.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastadapt.layers import patches
from fastadapt.layers.forms import Shape, form
from fastadapt.layers.standardise import per_channel

aten = torch.ops.aten


class Geometry(NamedTuple):
    """Hold how a filter moves over a map."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Return what `torch.nn.functional.conv2d` returns, with fast derivatives of every order.

    Args:
        x: `[N, C, H, W]`.
        weight: `[F, C / groups, h, w]`.
        bias: `[F]`.
        stride: rows and columns between two positions of the filter.
        padding: zeros put around the map, in rows and columns.
        dilation: distance between two elements of the filter.
        groups: into how many independent convolutions the channels are divided.

    Returns:
        `[N, F, H', W']`.

    Example:
        >>> x, w = torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3)
        >>> conv2d(x, w, padding=1)[0, 0, 0]
        tensor([4., 6., 4.])
    """
    if torch.is_autocast_enabled(x.device.type):
        lower = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(lower), weight.to(lower), bias if bias is None else bias.to(lower)
    y: Any = _Convolve.apply(x, weight, Geometry(_pair(stride), _pair(padding), _pair(dilation), groups))
    return y if bias is None else y + per_channel(bias, y)


def covers(x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, *_: Any, **__: Any) -> bool:
    """Whether `conv2d` here takes these arguments; torch's own serves the rest (unbatched maps, padding in words)."""
    tensors = isinstance(x, Tensor) and isinstance(weight, Tensor) and x.dim() == weight.dim() == 4
    return tensors and x.is_floating_point() and not isinstance(padding, str)


def _pair(value: Any) -> tuple[int, int]:
    first, second = (value, value) if isinstance(value, int) else (value * 2 if len(value) == 1 else value)
    return first, second


def channels_last(x: Tensor) -> Tensor:
    """Return `x` with its channels innermost in memory, the layout in which the CPU kernels neither copy nor wait.

    A map of one channel has both layouts at once, and torch then takes the other one: its strides are rewritten.
    """
    if x.shape[1] == 1:
        height, width = x.shape[2:]
        return x.contiguous().as_strided(x.shape, (height * width, 1, width, 1))
    return x.contiguous(memory_format=torch.channels_last)


def _laid_out(*maps: Tensor) -> list[Tensor]:
    # not inside a vmap: what the user's module does next may ask for a layout, which a batched tensor can't answer
    return [channels_last(x) if x.device.type == "cpu" else x for x in maps]


def _like(shape: tuple[int, ...], x: Tensor) -> Tensor:
    layout = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)


def _convolve(x: Tensor, w: Tensor, geometry: Geometry) -> Tensor:
    stride, padding, dilation, groups = geometry
    return aten.convolution(x, w, None, stride, padding, dilation, False, (0, 0), groups)


def _input_gradient(g: Tensor, w: Tensor, shape: tuple[int, ...], geometry: Geometry) -> Tensor:
    return _backward(g, _like(shape, w), w, geometry, (True, False, False))[0]


def _weight_gradient(g: Tensor, x: Tensor, shape: tuple[int, ...], geometry: Geometry) -> Tensor:
    return _backward(g, x, _like(shape, x), geometry, (False, True, False))[1]


def _backward(g: Tensor, x: Tensor, w: Tensor, geometry: Geometry, wanted: tuple[bool, bool, bool]) -> Any:
    stride, padding, dilation, groups = geometry
    return aten.convolution_backward(g, x, w, None, stride, padding, dilation, False, (0, 0), groups, wanted)


class _Bilinear(torch.autograd.Function):
    """Apply one of the three maps; the subclasses say which, and what its derivatives are."""

    generate_vmap_rule = False

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        first, second, *ctx.rest = inputs
        ctx.shapes = tuple(first.shape), tuple(second.shape)
        ctx.save_for_backward(first, second)


class _Convolve(_Bilinear):
    @staticmethod
    def forward(x: Tensor, w: Tensor, geometry: Geometry) -> Tensor:  # type: ignore[override]
        x, w = _laid_out(x, w)
        return _convolve(x, w, geometry)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:  # type: ignore[override]
        (x, w), (geometry,), (of_x, of_w) = ctx.saved_tensors, ctx.rest, ctx.shapes
        dx = _InputGradient.apply(g, w, of_x, geometry) if ctx.needs_input_grad[0] else None
        dw = _WeightGradient.apply(g, x, of_w, geometry) if ctx.needs_input_grad[1] else None
        return dx, dw, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *operands: Any) -> tuple[Tensor, int]:
        x, w, geometry = operands
        tasks = info.batch_size
        if in_dims[1] is None:
            return _unfold(_convolve(_fold(x, in_dims[0]), w, geometry), tasks), 0
        if _by_patches(tasks, x, _without(x, in_dims[0]), _without(w, in_dims[1]), geometry):
            return patches.convolved(x, w, in_dims[:2], geometry), 0
        return _each(tasks, lambda x, w: _convolve(x, w, geometry), (x, w), in_dims), 0


class _InputGradient(_Bilinear):
    @staticmethod
    def forward(g: Tensor, w: Tensor, shape: tuple[int, ...], geometry: Geometry) -> Tensor:  # type: ignore[override]
        g, w = _laid_out(g, w)
        return _input_gradient(g, w, shape, geometry)

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> Any:  # type: ignore[override]
        (g, w), (_, geometry), (_, of_w) = ctx.saved_tensors, ctx.rest, ctx.shapes
        dg = _Convolve.apply(u, w, geometry) if ctx.needs_input_grad[0] else None
        dw = _WeightGradient.apply(g, u, of_w, geometry) if ctx.needs_input_grad[1] else None
        return dg, dw, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *operands: Any) -> tuple[Tensor, int]:
        g, w, shape, geometry = operands
        tasks = info.batch_size
        if in_dims[1] is None:
            folded = (tasks * shape[0], *shape[1:])
            return _unfold(_input_gradient(_fold(g, in_dims[0]), w, folded, geometry), tasks), 0
        if _by_patches(tasks, g, shape, _without(w, in_dims[1]), geometry):
            return patches.map_gradient(g, w, in_dims[:2], shape, geometry), 0
        return _each(tasks, lambda g, w: _input_gradient(g, w, shape, geometry), (g, w), in_dims), 0


class _WeightGradient(_Bilinear):
    @staticmethod
    def forward(g: Tensor, x: Tensor, shape: tuple[int, ...], geometry: Geometry) -> Tensor:  # type: ignore[override]
        g, x = _laid_out(g, x)
        return _weight_gradient(g, x, shape, geometry)

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> Any:  # type: ignore[override]
        (g, x), (_, geometry), (_, of_x) = ctx.saved_tensors, ctx.rest, ctx.shapes
        dg = _Convolve.apply(x, u, geometry) if ctx.needs_input_grad[0] else None
        dx = _InputGradient.apply(g, u, of_x, geometry) if ctx.needs_input_grad[1] else None
        return dg, dx, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *operands: Any) -> tuple[Tensor, int]:
        g, x, shape, geometry = operands
        if _by_patches(info.batch_size, x, _without(x, in_dims[1]), shape, geometry):
            return patches.filter_gradient(g, x, in_dims[:2], shape, geometry), 0
        return _each(info.batch_size, lambda g, x: _weight_gradient(g, x, shape, geometry), (g, x), in_dims), 0


def _without(x: Tensor, dim: int | None) -> tuple[int, ...]:
    """Return the shape of one task's tensor."""
    return tuple(size for i, size in enumerate(x.shape) if i != dim)


def _by_patches(tasks: int, like: Tensor, of_x: tuple[int, ...], of_w: tuple[int, ...], geometry: Geometry) -> bool:
    """Whether one of the three maps, for maps and filters of these shapes, is computed over patches."""
    samples, channels, height, width = of_x
    filters, _, h, w = of_w
    places = samples * -(-height // geometry.stride[0]) * -(-width // geometry.stride[1])
    shape = Shape(
        like.device.type, tasks, channels * h * w, places, max(1, filters // geometry.groups), like.element_size()
    )
    return form(shape) == "patches"


def _fold(x: Tensor, dim: int) -> Tensor:
    """Return `[T, N, ...]`, whose task axis is `dim`, as one batch `[T N, ...]`."""
    return x.movedim(dim, 0).flatten(0, 1)


def _unfold(x: Tensor, tasks: int) -> Tensor:
    return x.unflatten(0, (tasks, -1))


def _each(tasks: int, kernel: Callable[[Tensor, Tensor], Tensor], operands: Any, in_dims: Any) -> Tensor:
    """Return the stacked results of one kernel call for each task."""

    def of(t: int) -> list[Tensor]:
        return [
            operand if dim is None else operand.select(dim, t)
            for operand, dim in zip(operands, in_dims[:2], strict=True)
        ]

    return torch.stack([kernel(*of(t)) for t in range(tasks)])
