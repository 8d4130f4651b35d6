"""The last layer solved for, on a body that others have trained: the rival of a few gradient steps."""

import torch
from torch import Tensor


def closed_form_head(features: Tensor, y: Tensor, ridge: float = 1e-6) -> Tensor:
    r"""Return what a linear layer on `features`, with a bias, gives when it is fitted to `y` by least squares.

        W = argmin ||[H, 1] W - Y||^2 + n r ||W||^2,      returned: [H, 1] W

    Computed in float64, one solve for all outputs.

    Args:
        features: H, `[n, h]`: the last hidden layer at the n points.
        y: Y, `[n, C]`.
        ridge: r >= 0, which keeps the solve in hand where features say the same.

    Returns:
        `[n, C]`, in the type of `y`.

    Example:
        >>> x = torch.linspace(-1, 1, 5)[:, None]
        >>> closed_form_head(x, 3 * x + 2, ridge=1e-12).flatten()
        tensor([-1.0000,  0.5000,  2.0000,  3.5000,  5.0000])
    """
    h = torch.cat([features, torch.ones_like(features[:, :1])], 1).double()
    gram = h.T @ h + len(h) * ridge * torch.eye(h.shape[1], dtype=h.dtype, device=h.device)
    return (h @ torch.linalg.solve(gram, h.T @ y.double())).to(y.dtype)


def linear_bound(signals: Tensor, numbers: int) -> Tensor:
    """Return an orthonormal basis `[n, numbers]` of what linear features common to all signals can say at best.

    No head on `numbers - 1` features and a bias can do better on these signals, in the mean of squares (PCA without a
    mean; computed to a small error by random projections).

    Args:
        signals: `[M, n]`, each a row.
        numbers: at most M and n.
    """
    return torch.svd_lowrank(signals.float(), q=numbers, niter=4)[2]
