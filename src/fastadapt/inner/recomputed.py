r"""A function that is computed again for its derivative, and once more for its second: only what enters it is kept.

With y = F(x), where x are tensors and F is a block of a network,

    backward:              g  = (dF/dx)^T v                             F is computed again, its graph dropped at once
    backward of that:      d<g, w>/dx, d<g, w>/dv                       F and g are computed again, and dropped too

So a network of L blocks keeps L times `(x, v, w)` for an exact meta-gradient, and the graph of one block, whose first
and second derivatives are whole orders larger, at a time. `torch.utils.checkpoint` does the first line alone: under
`create_graph=True` what its backward computes stays.

References:
    Griewank, Walther 2008, Evaluating Derivatives, chapter 12; Chen, Xu, Zhang, Guestrin 2016 (arXiv:1604.06174).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastadapt.errors import TaskError
from fastadapt.heap import give_back
from fastadapt.inner.graph import other_leaves

Function = Callable[[Sequence[Tensor]], list[Tensor]]


class Recomputable:
    """Hold a function of tensors that gives the same each time it is asked, from wherever.

    Args:
        function: takes tensors and returns tensors; it depends on nothing else that requires a gradient.
        name: whose it is, for messages.
        large: whether the graph of its second derivative is so large that memory is put in order for it.
    """

    def __init__(self, function: Function, name: str, large: bool = False) -> None:
        self.function = function
        self.name = name
        self.large = large
        self.sums: list[Tensor] = []

    def first(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the function's value without a graph, and remember what it sums to."""
        with torch.no_grad():
            values = self.function(tensors)
        self.sums = [value.abs().sum() for value in values if value.is_floating_point()]
        return values

    def again(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the function's value with a graph that rests on `tensors` alone.

        Raises:
            TaskError: if it is another than the first time, or rests on something else.
        """
        values = self.function(tensors)
        floating = [value for value in values if value.is_floating_point()]
        for value, was in zip(floating, self.sums, strict=True):
            now = value.detach().abs().sum()
            if bool((now - was).abs() > torch.finfo(was.dtype).eps ** 0.5 * was):
                raise TaskError(
                    f"{self.name} gives something else when it is computed again (what it reads on the model was "
                    "changed in the meantime, or it draws from a random generator of its own?); take recompute=None"
                )
        others = [leaf for value in values for leaf in other_leaves(value, list(tensors))]
        if others:
            raise TaskError(
                f"{self.name} depends on a tensor of shape {tuple(others[0].shape)} that requires a gradient and is "
                "neither given to it nor its own parameter, so computing it again would lose that gradient; pass it as "
                "an argument, or take recompute=None"
            )
        return values

    def __call__(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the function's value; what its derivatives need is computed anew."""
        return list(_Value.apply(self, *tensors))  # type: ignore[misc]


class _Value(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, again: Recomputable, *tensors: Tensor) -> Any:
        ctx.again = again
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        values = again.first([tensor.detach() for tensor in tensors])
        ctx.mark_non_differentiable(*[value for value in values if not value.is_floating_point()])
        return tuple(values)

    @staticmethod
    def backward(ctx: Any, *along: Tensor | None) -> Any:
        return None, *_Slope.apply(ctx.again, ctx.needs_input_grad[1:], *ctx.saved_tensors, *along)  # type: ignore[misc]


class _Slope(torch.autograd.Function):
    """`(dF/dx)^T v`, a function of x and v."""

    @staticmethod
    def forward(ctx: Any, again: Recomputable, needs: Sequence[bool], *tensors: Tensor | None) -> Any:
        ctx.again, ctx.needs = again, needs
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        return tuple(_slope(again, needs, tensors, twice=False)[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *along: Tensor | None) -> Any:  # type: ignore[override]
        if ctx.saved_tensors[0].device.type == "cpu" and ctx.again.large:
            give_back()  # the graph before this one has left holes, as large as itself; this takes 1 ms
        slopes, at = _slope(ctx.again, ctx.needs, ctx.saved_tensors, twice=True)
        pairs = [
            (g, w) for g, w in zip(slopes, along, strict=True) if g is not None and w is not None and g.requires_grad
        ]
        wanted = [tensor for tensor in at if tensor is not None and tensor.requires_grad]
        found: list[Tensor | None] = [None] * len(wanted)
        if pairs:
            found = list(torch.autograd.grad([g for g, _ in pairs], wanted, [w for _, w in pairs], allow_unused=True))
        results = iter(found)
        return None, None, *[next(results) if t is not None and t.requires_grad else None for t in at]


def _slope(
    again: Recomputable, needs: Sequence[bool], tensors: Sequence[Tensor | None], twice: bool
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """Return `(dF/dx)^T v` for each x that needs it, and the copies of x and v that it rests on."""
    count = len(needs)
    with torch.enable_grad():
        at = [t.detach().requires_grad_(need) for t, need in zip(tensors[:count], needs, strict=True)]  # type: ignore[union-attr]
        along = [None if v is None else v.detach().requires_grad_(twice) for v in tensors[count:]]
        values = again.again(at)
        pairs = [(y, v) for y, v in zip(values, along, strict=True) if v is not None and y.requires_grad]
        wanted = [x for x in at if x.requires_grad]
        found: list[Tensor | None] = [None] * len(wanted)
        if pairs:
            ys, vs = [y for y, _ in pairs], [v for _, v in pairs]
            found = list(torch.autograd.grad(ys, wanted, vs, create_graph=twice, allow_unused=True))
    slopes = iter(found)
    return [next(slopes) if x.requires_grad else None for x in at], [*at, *along]
