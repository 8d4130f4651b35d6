"""Normal distributions whose numbers are independent of each other: what a network says of something unknown."""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Normal(NamedTuple):
    r"""Hold `N(mean, diag(exp(log)))`, one along the last axis, or many.

    Args:
        mean: `[..., d]`.
        log: `[..., d]`, the logarithms of the variances.

    Example:
        >>> zero = torch.zeros(2)
        >>> float(Normal(zero + 1, zero).divergence(Normal(zero, zero)))     # half of the squared distance
        1.0
    """

    mean: Tensor
    log: Tensor

    def divergence(self, other: "Normal") -> Tensor:
        r"""Return `KL(self || other) = 1/2 sum(log v' - log v + (v + (m - m')^2) / v' - 1)`, `[...]`."""
        squares = (self.mean - other.mean).square()
        return 0.5 * (other.log - self.log + (self.log - other.log).exp() + squares * (-other.log).exp() - 1).sum(-1)

    def from_standard(self) -> Tensor:
        r"""Return `KL(self || N(0, 1)) = 1/2 sum(v + m^2 - log v - 1)`, `[...]`."""
        return 0.5 * (self.log.exp() + self.mean.square() - self.log - 1).sum(-1)

    def sample(self) -> Tensor:
        """Return one sample of each, `mean + exp(log / 2) e`, with torch's random numbers, the same in every type."""
        noise = torch.randn(self.mean.shape, dtype=torch.float64, device=self.mean.device)
        return self.mean + (self.log / 2).exp() * noise.to(self.mean.dtype)

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Return `log N(x; mean, variance)`, `[...]`."""
        squares = (x - self.mean).square() * (-self.log).exp()
        return -0.5 * (squares + self.log + math.log(2 * math.pi)).sum(-1)
