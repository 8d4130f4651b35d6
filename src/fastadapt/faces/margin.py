"""Softmax over identities with a margin: CosFace and ArcFace, with a row of weights for each training identity."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fastadapt.errors import ConfigError

Margin = Literal["cosface", "arcface"]


def margin_logits(
    features: Tensor, weights: Tensor, labels: Tensor, *, kind: Margin = "cosface", scale: float, margin: float
) -> Tensor:
    r"""Return logits in which the true identity has to win by a margin.

    With theta_c the angle between a feature and the weights of identity c, both of length 1, all logits are
    `s cos theta_c` but that of the true identity y:

        CosFace  s (cos theta_y - m)
        ArcFace  s cos(theta_y + m),  and  s (cos theta_y - m sin m)  where theta_y + m > pi, so that it stays monotone

    `cos(theta + m)` is computed as `cos theta cos m - sin theta sin m`, without an arc cosine.

    Args:
        features: `[n, d]`, of any length; normalised here.
        weights: `[C, d]`, a row for each identity; normalised here.
        labels: `[n]`, whole numbers in 0..C-1.
        kind: "cosface" or "arcface".
        scale: s > 0.
        margin: m >= 0, a cosine for CosFace and an angle in radians for ArcFace.

    Returns:
        `[n, C]`, to be given to a cross-entropy.

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> x, w = torch.eye(2), torch.eye(2)
        >>> margin_logits(x, w, torch.tensor([0, 1]), scale=4.0, margin=0.5)
        tensor([[2., 0.],
                [0., 2.]])

    References:
        Wang et al. 2018, CosFace (arXiv:1801.09414); Deng et al. 2019, ArcFace (arXiv:1801.07698).
    """
    check_margin(kind, scale, margin)
    cosines = F.normalize(features, dim=-1) @ F.normalize(weights, dim=-1).T
    true = labels.unsqueeze(-1) == torch.arange(weights.shape[0], device=labels.device)
    if kind == "cosface":
        return scale * torch.where(true, cosines - margin, cosines)
    square = 1 - cosines.square()
    above = square > torch.finfo(cosines.dtype).eps  # the root has no slope at 0
    sines = torch.where(above, torch.where(above, square, 1.0).sqrt(), 0.0)
    added = cosines * math.cos(margin) - sines * math.sin(margin)
    beyond = cosines < -math.cos(margin)
    added = torch.where(beyond, cosines - margin * math.sin(margin), added)
    return scale * torch.where(true, added, cosines)


def margin_softmax(
    features: Tensor, weights: Tensor, labels: Tensor, *, kind: Margin = "cosface", scale: float, margin: float
) -> Tensor:
    """Return the mean cross-entropy of `margin_logits`, a scalar; the arguments are the same.

    Example:
        >>> x, w = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
        >>> round(float(margin_softmax(x, w, torch.tensor([1, 0]), scale=4.0, margin=0.35)), 4)
        0.5578
    """
    return F.cross_entropy(margin_logits(features, weights, labels, kind=kind, scale=scale, margin=margin), labels)


def check_margin(kind: str, scale: float, margin: float) -> None:
    """Raise `ConfigError` for a kind, scale or margin outside its range."""
    if kind not in ("cosface", "arcface"):
        raise ConfigError(f"the margin is of kind 'cosface' or 'arcface', got {kind!r}")
    if not 0 < scale < math.inf:
        raise ConfigError(f"the scale s of {kind} multiplies cosines and must be > 0, got {scale}")
    if not 0 <= margin < math.pi / 2:
        raise ConfigError(f"the margin m of {kind} must be in 0..pi/2, got {margin}")
