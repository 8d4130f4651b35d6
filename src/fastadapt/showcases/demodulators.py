"""Receivers in closed form: what matrix each believes after some pilots, and which symbols it then hears.

All but the bank are a mean of `y = M s + n` given the pilots; a symbol is then the point whose image is nearest, the
most likely one under that matrix.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fastadapt.data.receiver import SYMBOLS
from fastadapt.methods.gaussian_prior import GaussianPrior

Estimate = Callable[[Tensor, Tensor], Tensor]
"""From pilots as they were sent `[T, P, 2]` and heard `[T, P, 2]` to matrices `[T, 2, 2]`."""


def decided(matrices: Tensor, heard: Tensor) -> Tensor:
    """Return the most likely symbols `[T, n]` of what was heard, `[T, n, 2]`, under matrices `[T, 2, 2]`.

    Example:
        >>> decided(torch.eye(2)[None], torch.tensor([[[3.1, -2.8]]]))
        tensor([[12]])
    """
    images = SYMBOLS @ matrices.mT
    return (heard @ images.mT - images.square().sum(-1)[:, None] / 2).argmax(-1)


def least_squares(sent: Tensor, heard: Tensor) -> Tensor:
    """Return the matrix that fits the pilots best; of several the smallest."""
    return (torch.linalg.pinv(sent) @ heard).mT


@dataclass(frozen=True)
class ScalarMMSE:
    """Estimate a complex channel `h ~ CN(0, 1)` and no distortion, as the paper's conventional receiver does.

    `h = s^H y / (s^H s + 2 v)` with the noise variance `v` of each dimension.

    Args:
        noise: `v`.

    References:
        Park, Jang, Simeone, Kang 2021 (arXiv:1908.09049).
    """

    noise: float

    def __call__(self, sent: Tensor, heard: Tensor) -> Tensor:
        """Return `[T, 2, 2]`."""
        s, y = torch.view_as_complex(sent.contiguous()), torch.view_as_complex(heard.contiguous())
        return as_matrix((s.conj() * y).sum(-1) / (s.abs().square().sum(-1) + 2 * self.noise))


@dataclass(frozen=True, eq=False)
class Bank:
    """Average over distortions that were seen before, each with the channel that it would need.

    For a distortion `B_k` all is known but `h ~ CN(0, 1)`: with `u = B_k s` as complex numbers the posterior mean is
    `u^H y / (u^H u + 2 v)`, and the evidence `log p_k = u^H y y^H u / (u^H u + 2 v) / 2 v - log(1 + u^H u / 2 v)`.
    The matrix is `sum_k p_k h_k B_k / sum_k p_k`.

    Args:
        shapes: `B: [K, 2, 2]`.
        noise: `v`.
    """

    shapes: Tensor
    noise: float

    def __call__(self, sent: Tensor, heard: Tensor) -> Tensor:
        """Return `[T, 2, 2]`."""
        u = torch.view_as_complex((sent[:, None] @ self.shapes.mT).contiguous())  # [T, K, P]
        y = torch.view_as_complex(heard.contiguous())[:, None]
        cross, power = (u.conj() * y).sum(-1), u.abs().square().sum(-1)
        h = cross / (power + 2 * self.noise)
        evidence = (cross.conj() * h).real / (2 * self.noise) - (1 + power / (2 * self.noise)).log()
        weights = evidence.softmax(-1)[..., None, None]
        return (weights * (as_matrix(h) @ self.shapes)).sum(1)


@dataclass(frozen=True, eq=False)
class FourNumbers:
    """Estimate the matrix with a Gaussian prior on its four numbers.

    Args:
        prior: a learner of `y = M s`, without a constant, fitted to the pilots of training devices.
    """

    prior: GaussianPrior

    def __call__(self, sent: Tensor, heard: Tensor) -> Tensor:
        """Return `[T, 2, 2]`."""
        alike = bool((sent == sent[:1]).all())
        assert alike  # the pilots are in a fixed order, so that all devices share one gain
        return self.prior.lines(sent[0], heard)[0].to(heard.dtype)


def as_matrix(h: Tensor) -> Tensor:
    """Return multiplication by complex numbers `[...]` as matrices `[..., 2, 2]`."""
    return torch.stack((torch.stack((h.real, -h.imag), -1), torch.stack((h.imag, h.real), -1)), -2)
