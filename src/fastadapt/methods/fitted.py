"""What a head makes of a support set: rows of weights, each of which speaks for a class."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Fitted:
    """Hold what a head makes of a support set, see `fastadapt.nets.headed.Headed`.

    Args:
        weight: `[m, d]`.
        bias: `[m]`.
        labels: `[m]`, the number of the class that each row speaks for.
        origin: `[d]`, what is taken from transformed features before they meet a row; None is zero.
    """

    weight: Tensor
    bias: Tensor
    labels: Tensor
    origin: Tensor | None = None

    def named(self) -> dict[str, Tensor]:
        """Return all of them by name."""
        origin = torch.zeros_like(self.weight[0]) if self.origin is None else self.origin
        return {"weight": self.weight, "bias": self.bias, "labels": self.labels, "origin": origin}


def nearest(points: Tensor, labels: Tensor) -> Fitted:
    """Return the rows whose largest is the nearest of points `[m, d]`, counted from their middle.

    Distances are small beside the features' own lengths: less is lost of them from there.
    """
    middle = points.mean(0)
    moved = points - middle
    return Fitted(2 * moved, -moved.square().sum(1), labels, middle)
