"""Products with the Hessian of the divergence by the initial parameters, and the systems that they solve."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Adapted = Callable[[], Sequence[Tensor]]
"""Returns what the divergence is of, theta', as a function of theta as it is now."""
Judged = Callable[[Sequence[Tensor]], tuple[Tensor, Tensor]]
"""Returns the surrogate and the divergence at theta'."""


def hessian_products(
    params: Sequence[Tensor], phi: Sequence[Tensor], leaves: Sequence[Tensor], divergence: Tensor, damping: float
) -> Callable[[Tensor], Tensor]:
    """Return `v -> (J'FJ + damping I) v`.

    J is the derivative of theta' by theta, F the Hessian of the divergence by theta'. J'FJ is the Hessian by theta,
    exactly: its other term is the gradient of the divergence by theta' times a second derivative, and that gradient is
    0 where the divergence is at its minimum.
    """
    slope = torch.autograd.grad(divergence, leaves, create_graph=True, allow_unused=True)
    used = [(s, p) for s, p in zip(slope, leaves, strict=True) if s is not None and s.requires_grad]
    # J v is the derivative of J'y by y, which is linear in y
    y = [torch.zeros_like(p, requires_grad=True) for p in leaves]
    pulled = pulled_back(phi, params, y, create_graph=True)
    shapes = [p.shape for p in params]

    def product(vector: Tensor) -> Tensor:
        pieces = [
            piece.view(shape) for piece, shape in zip(vector.split([s.numel() for s in shapes]), shapes, strict=True)
        ]
        kept = [(a, b) for a, b in zip(pulled, pieces, strict=True) if a is not None]
        ahead = torch.autograd.grad([a for a, _ in kept], y, [b for _, b in kept], retain_graph=True, allow_unused=True)
        moved = {id(p): a for p, a in zip(leaves, ahead, strict=True)}
        turned = torch.autograd.grad(
            [s for s, _ in used], leaves, [moved[id(p)] for _, p in used], retain_graph=True, allow_unused=True
        )
        return flat(pulled_back(phi, params, turned), params) + damping * vector

    return product


def difference_products(
    params: Sequence[Tensor], adapted: Adapted, judged: Judged, damping: float
) -> Callable[[Tensor], Tensor]:
    """Return `v -> (K(theta + e v) - K(theta - e v)) / 2e + damping v`, K the gradient of the divergence."""
    start = [p.detach().clone() for p in params]
    epsilon = 1 / (float(flat(start, params).norm()) + 1e-8)

    def product(vector: Tensor) -> Tensor:
        slopes = []
        for sign in (1.0, -1.0):
            move(params, start, vector, sign * epsilon)
            slopes.append(flat(torch.autograd.grad(judged(adapted())[1], params, allow_unused=True), params))
        move(params, start, vector, 0.0)
        return (slopes[0] - slopes[1]) / (2 * epsilon) + damping * vector

    return product


def pulled_back(
    phi: Sequence[Tensor], params: Sequence[Tensor], slope: Sequence[Tensor | None], create_graph: bool = False
) -> tuple[Tensor | None, ...]:
    """Return `J's`: the gradient by theta, given that by theta'."""
    kept = [(p, s) for p, s in zip(phi, slope, strict=True) if s is not None]
    outputs, given = [p for p, _ in kept], [s for _, s in kept]
    return torch.autograd.grad(outputs, params, given, retain_graph=True, create_graph=create_graph, allow_unused=True)


def conjugate_gradients(
    product: Callable[[Tensor], Tensor], target: Tensor, steps: int = 10, least: float = 1e-10
) -> Tensor:
    """Return x with `A x = target`, for a symmetric positive definite A that is known by its products alone.

    Args:
        product: `A v` of a vector.
        target: `[n]`.
        steps: iterations at most.
        least: squared norm of the residual below which it ends.

    Example:
        >>> a = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
        >>> conjugate_gradients(lambda v: a @ v, torch.tensor([3.0, 4.0]), steps=2).round(decimals=4).tolist()
        [1.0, 1.0]

    References:
        Hestenes, Stiefel 1952, Methods of Conjugate Gradients for Solving Linear Systems.
    """
    x, residual = torch.zeros_like(target), target.clone()
    direction, square = target.clone(), target @ target
    for _ in range(steps):
        if float(square) < least:
            break
        turned = product(direction)
        length = square / (direction @ turned)
        x = x + length * direction
        residual = residual - length * turned
        ahead = residual @ residual
        direction = residual + ahead / square * direction
        square = ahead
    return x


def flat(tensors: Sequence[Tensor | None], like: Sequence[Tensor]) -> Tensor:
    """Return tensors as one vector, zeros where there is none."""
    parts = [torch.zeros_like(p) if t is None else t for t, p in zip(tensors, like, strict=True)]
    return torch.cat([part.reshape(-1) for part in parts])


@torch.no_grad()
def move(params: Sequence[Tensor], start: Sequence[Tensor], direction: Tensor, length: float) -> None:
    """Set parameters, in place, to `start + length * direction`; with length 0 to `start`, bit for bit."""
    pieces = direction.split([p.numel() for p in params])
    for p, s, piece in zip(params, start, pieces, strict=True):
        p.copy_(s if length == 0 else s + length * piece.view_as(p))
