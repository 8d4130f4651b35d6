r"""Convolutions with filters of each task as matrix products over patches, of all tasks by one call.

A map `x: [T, N, C, H, W]` is cut into its patches `P(x): [T, C h w, N L]`, one column for each of the `L` places of the
filter. With the filters `w: [T, F, C h w]` and a gradient `g: [T, F, N L]` to the output, for each task

    y = w P(x),      dw = g P(x)^T,      dx = w' P'(g),

where `P'` cuts `g`, spread out by the stride and padded to the size of `x`, and `w'` has the filters turned by 180
degrees and the two kinds of channels exchanged. So all three maps of `fastadapt.layers.convolution` are one copy and
one product.

The first layer's maps are the data, whose patches depend on no parameter: they are cut once and serve every inner step,
its gradient and the derivative of that (`kept`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree as pytree

Pair = tuple[int, int]

_kept: ContextVar[dict[int, tuple[Tensor, dict[Any, Tensor]]]] = ContextVar("patches", default={})  # noqa: B039


@contextmanager
def kept(data: Any) -> Iterator[None]:
    """Keep the patches of the tensors of a pytree until the block ends.

    Args:
        data: the tasks. What is computed from them is not kept.
    """
    leaves = [leaf for leaf in pytree.tree_leaves(data) if isinstance(leaf, Tensor)]
    token = _kept.set({id(leaf): (leaf, {}) for leaf in leaves})
    try:
        yield
    finally:
        _kept.reset(token)


def convolved(x: Tensor, w: Tensor, in_dims: tuple[Any, Any], geometry: Any) -> Tensor:
    """Return `y: [T, N, F, H', W']`.

    Args:
        x: `[N, C, H, W]` with a task axis at `in_dims[0]`, or without where that is None.
        w: `[F, C / groups, h, w]`, with a task axis likewise.
        in_dims: where the task axes are.
        geometry: how the filters move.
    """
    stride, padding, dilation, groups = geometry
    w = _tasks_first(w, in_dims[1])
    filters, window = w.shape[1], (w.shape[3], w.shape[4])
    columns = _of_data(x, in_dims[0], window, stride, padding, dilation, groups)
    rows = w.reshape(w.shape[0], groups, filters // groups, -1)
    shape = _tasks_first(x, in_dims[0]).shape
    size = [_places(shape[3 + i], window[i], stride[i], 2 * padding[i], dilation[i]) for i in (0, 1)]
    return _maps(rows @ columns, filters, shape[1], size)


def filter_gradient(g: Tensor, x: Tensor, in_dims: tuple[Any, Any], shape: tuple[int, ...], geometry: Any) -> Tensor:
    """Return `dw: [T, F, C / groups, h, w]`, where `shape` is that of one task's filters."""
    stride, padding, dilation, groups = geometry
    columns = _of_data(x, in_dims[1], (shape[2], shape[3]), stride, padding, dilation, groups)
    g = _tasks_first(g, in_dims[0]).transpose(1, 2)
    rows = g.reshape(g.shape[0], groups, shape[0] // groups, -1)
    product = rows @ columns.transpose(-1, -2)
    return product.reshape(product.shape[0], *shape)


def map_gradient(g: Tensor, w: Tensor, in_dims: tuple[Any, Any], shape: tuple[int, ...], geometry: Any) -> Tensor:
    """Return `dx: [T, N, C, H, W]`, where `shape` is that of one task's maps."""
    stride, padding, dilation, groups = geometry
    g, w = _tasks_first(g, in_dims[0]), _tasks_first(w, in_dims[1])
    window = w.shape[3], w.shape[4]
    reach = [dilation[i] * (window[i] - 1) for i in (0, 1)]
    spread = _spread(g, stride)
    # what the last filter doesn't reach of the map gets no gradient: rows and columns of zeros
    beyond = [shape[2 + i] + 2 * padding[i] - reach[i] - spread.shape[3 + i] for i in (0, 1)]
    top, left = (reach[i] - padding[i] for i in (0, 1))
    spread = F.pad(spread, (left, left + beyond[1], top, top + beyond[0]))
    columns = _cut(spread, window, (1, 1), dilation, groups)
    turned = w.flip(3, 4).unflatten(1, (groups, -1)).transpose(2, 3)
    rows = turned.reshape(turned.shape[0], groups, shape[1] // groups, -1)
    return _maps(rows @ columns, shape[1], shape[0], list(shape[2:]))


def _tasks_first(x: Tensor, dim: int | None) -> Tensor:
    """Return a tensor with its task axis in front; a single one that all share where it has none."""
    return x.unsqueeze(0) if dim is None else x.movedim(dim, 0)


def _of_data(
    x: Tensor, dim: int | None, window: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Tensor:
    """Return the patches of a map, kept ones where it is data that were cut like this before."""

    def fresh() -> Tensor:
        padded = F.pad(_tasks_first(x, dim), (padding[1], padding[1], padding[0], padding[0]))
        return _cut(padded, window, stride, dilation, groups)

    found = _kept.get().get(id(x))
    if found is None or found[0] is not x:
        return fresh()
    key = (x._version, dim, window, stride, padding, dilation, groups)
    if key not in found[1]:
        found[1][key] = fresh()
    return found[1][key]


def _cut(x: Tensor, window: Pair, stride: Pair, dilation: Pair, groups: int) -> Tensor:
    """Return the patches `[T, groups, C h w / groups, N L]` of `x: [T, N, C, H, W]`, already padded."""
    (h, w), (down, right) = window, dilation
    views = x.unfold(3, down * (h - 1) + 1, stride[0]).unfold(4, right * (w - 1) + 1, stride[1])[..., ::down, ::right]
    return views.permute(0, 2, 5, 6, 1, 3, 4).reshape(x.shape[0], groups, x.shape[2] // groups * h * w, -1)


def _spread(g: Tensor, stride: Pair) -> Tensor:
    """Return `g` with `stride - 1` zeros between its rows and its columns."""
    if stride == (1, 1):
        return g
    size = [stride[i] * (g.shape[3 + i] - 1) + 1 for i in (0, 1)]
    spread = g.new_zeros(*g.shape[:3], *size)
    spread[..., :: stride[0], :: stride[1]] = g
    return spread


def _places(size: int, window: int, stride: int, padding: int, dilation: int) -> int:
    return (size + padding - dilation * (window - 1) - 1) // stride + 1


def _maps(product: Tensor, channels: int, samples: int, size: list[int]) -> Tensor:
    """Return the maps `[T, N, channels, *size]` in the order in which a kernel of the library would lay them.

    What the user's module does next may ask for that order, as `x.view(len(x), -1)` does.
    """
    return product.reshape(product.shape[0], channels, samples, *size).transpose(1, 2).contiguous()
