"""Max-pooling over windows that don't overlap, in a form that compiles to few fast loops.

A compiler turns the library's pooling into gathers with whole-number indices, forwards, backwards and once more for the
second derivative. Here the map is cut into the `h w` sub-maps that hold the first, second, ... element of every window;
the maximum is a chain of comparisons between them, and the way back lays them side by side again.
"""

from typing import Any

import torch
from torch import Tensor

LARGEST_WINDOW = 16


class _Cut(torch.autograd.Function):
    """Cut `[..., H, W]` into `h w` sub-maps `[..., H / h, W / w]`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, h: int, w: int) -> tuple[Tensor, ...]:  # type: ignore[override]
        return tuple(x[..., i::h, j::w] for i in range(h) for j in range(w))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.window = inputs[1:]

    @staticmethod
    def backward(ctx: Any, *parts: Tensor) -> Any:  # type: ignore[override]
        return _Join.apply(*ctx.window, *parts), None, None


class _Join(torch.autograd.Function):
    """Lay the sub-maps side by side again: the inverse, and the transpose, of `_Cut`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(h: int, w: int, *parts: Tensor) -> Tensor:  # type: ignore[override]
        rows = [torch.stack(parts[i * w : (i + 1) * w], -1).flatten(-2) for i in range(h)]
        return torch.stack(rows, -2).flatten(-3, -2)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.window = inputs[:2]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:  # type: ignore[override]
        return None, None, *_Cut.apply(g, *ctx.window)


def max_pool2d(x: Tensor, kernel_size: Any, stride: Any = None, *_: Any, **__: Any) -> Tensor:
    """Return what `torch.nn.functional.max_pool2d` returns for windows that lie side by side.

    Of equal elements the first one in reading order gets the gradient, as in torch.

    Args:
        x: `[..., H, W]`; rows and columns that fill no window are left out.
        kernel_size: height and width of a window.
        stride: must equal `kernel_size`.

    Example:
        >>> max_pool2d(torch.arange(16.0).view(1, 1, 4, 4), 2)
        tensor([[[[ 5.,  7.],
                  [13., 15.]]]])
    """
    h, w = _window(kernel_size)
    height, width = x.shape[-2] // h * h, x.shape[-1] // w * w
    first, *others = _Cut.apply(x[..., :height, :width], h, w)  # type: ignore[misc]
    for other in others:
        # a NaN wins, as in torch
        first = torch.where((other > first) | (other != other), other, first)
    return first


def covers(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> bool:
    """Whether `max_pool2d` here takes these arguments; torch's own serves the rest."""
    h, w = _window(kernel_size)
    alone = stride is None or stride == [] or _window(stride) == (h, w)
    plain = _window(padding) == (0, 0) and _window(dilation) == (1, 1) and not ceil_mode and not return_indices
    fits = x.shape[-2] >= h and x.shape[-1] >= w
    return alone and plain and fits and 1 < h * w <= LARGEST_WINDOW and x.is_floating_point()


def _window(value: Any) -> tuple[int, int]:
    first, second = (value, value) if isinstance(value, int) else (value * 2 if len(value) == 1 else value)
    return first, second
