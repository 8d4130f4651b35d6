"""The cross-domain triplet (CDT): one domain's triplets, measured by how another domain's pairs scatter."""

from typing import Literal, get_args

import torch
from torch import Tensor

from fastadapt.errors import ConfigError

Metric = Literal["covariance", "precision", "kissme", "euclid"]


def scatter(differences: Tensor) -> Tensor:
    """Return `mean (f - f')(f - f')^T`, `[d, d]`, of differences `[n, d]` between the two embeddings of n pairs.

    Example:
        >>> scatter(torch.tensor([[2.0, 0.0], [0.0, 0.0]]))
        tensor([[2., 0.],
                [0., 0.]])
    """
    return differences.transpose(-1, -2) @ differences / differences.shape[-2]


def metrics_of(
    positive: Tensor, negative: Tensor, *, kind: Metric = "covariance", shrinkage: float = 0.1, unit_trace: bool = True
) -> tuple[Tensor, Tensor]:
    r"""Return the metrics Sigma+ and Sigma- that a domain's positive and negative pairs give.

        Sigma <- (1 - rho) Sigma + rho (tr Sigma / d) I          shrunk, as fewer pairs than d give a singular one
        Sigma <- Sigma d / tr Sigma                              `unit_trace`: isotropic scatter is then Euclid's

    Args:
        positive: `[n, d]`, differences within pairs of one identity.
        negative: `[m, d]`, differences within pairs of two identities.
        kind: "covariance": the scatter itself, once of positive and once of negative pairs; "precision": its inverse
            (Mahalanobis); "kissme": `Sigma+^-1 - Sigma-^-1` with negative eigenvalues cut off, one metric for both;
            "euclid": the identity, the ordinary triplet.
        shrinkage: rho in 0..1.
        unit_trace: whether metrics are brought to the trace d, so that the margin of the triplet has a scale.

    Returns:
        `(Sigma+, Sigma-)`, `[d, d]` each, symmetric and not negative.

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> plus, minus = metrics_of(torch.eye(2), torch.eye(2))
        >>> plus
        tensor([[1., 0.],
                [0., 1.]])

    References:
        Faraki et al. 2021, Cross-Domain Similarity Learning for Face Recognition in Unseen Domains (arXiv:2103.07503);
        of the paper the abstract and captions were read. Koestinger et al. 2012, Large scale metric learning from
        equivalence constraints (KISSME).
    """
    if kind not in get_args(Metric):
        raise ConfigError(f"metric must be one of {', '.join(get_args(Metric))}, got {kind!r}")
    if not 0 <= shrinkage <= 1:
        raise ConfigError(f"shrinkage is a share and must be in 0..1, got {shrinkage}")
    unit = torch.eye(positive.shape[-1], dtype=positive.dtype, device=positive.device)
    if kind == "euclid":
        return unit, unit
    plus, minus = (_shrunk(scatter(pairs), shrinkage, unit) for pairs in (positive, negative))
    if kind == "precision":
        plus, minus = torch.linalg.inv(plus), torch.linalg.inv(minus)
    if kind == "kissme":
        values, vectors = torch.linalg.eigh(torch.linalg.inv(plus) - torch.linalg.inv(minus))
        plus = minus = vectors * values.clamp(min=0).unsqueeze(-2) @ vectors.transpose(-1, -2)
    return (_of_unit_trace(plus), _of_unit_trace(minus)) if unit_trace else (plus, minus)


def triplet(
    anchor: Tensor, positive: Tensor, negative: Tensor, metrics: tuple[Tensor, Tensor], margin: float
) -> Tensor:
    r"""Return the triplet loss of one domain under the metrics of another.

        L = mean_b [ d^2_{Sigma+}(a_b, p_b) - d^2_{Sigma-}(a_b, n_b) + tau ]_+,   d^2_Sigma(u, v) = (u-v)^T Sigma (u-v)

    Args:
        anchor: `a: [n, d]`.
        positive: `p: [n, d]`, of the anchors' identities.
        negative: `n: [n, d]`, of other identities.
        metrics: `(Sigma+, Sigma-)`; identities give the ordinary triplet.
        margin: tau >= 0.

    Returns:
        A scalar >= 0.

    Example:
        >>> a, p, n = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.3, 0.1]]), torch.tensor([[0.5, 0.5]])
        >>> round(float(triplet(a, p, n, (torch.eye(2), torch.eye(2)), margin=0.5)), 4)
        0.1
    """
    near = distance(anchor, positive, metrics[0])
    far = distance(anchor, negative, metrics[1])
    return (near - far + margin).clamp(min=0).mean()


def distance(u: Tensor, v: Tensor, metric: Tensor) -> Tensor:
    """Return `(u - v)^T Sigma (u - v)` of each row."""
    apart = u - v
    return ((apart @ metric) * apart).sum(-1)


def _shrunk(matrix: Tensor, shrinkage: float, unit: Tensor) -> Tensor:
    mean = matrix.diagonal(dim1=-2, dim2=-1).mean(-1)
    return (1 - shrinkage) * matrix + shrinkage * mean * unit


def _of_unit_trace(matrix: Tensor) -> Tensor:
    mean = matrix.diagonal(dim1=-2, dim2=-1).mean(-1)
    return matrix / mean.clamp(min=torch.finfo(matrix.dtype).tiny)
