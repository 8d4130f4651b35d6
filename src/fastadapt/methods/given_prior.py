"""What a Gaussian prior over tasks may be given as, before anything is fitted."""

import math

import torch
from torch import Tensor

from fastadapt.errors import ConfigError


def given_covariance(mean: Tensor, covariance: Tensor | float, noise: float, *, constant: bool) -> Tensor:
    """Return the covariance matrix `[m, m]` of the `m` numbers of `mean`, after a look at all of the prior.

    Args:
        mean: of the coefficients, `[d + 1, o]`; `[d, o]` without a constant.
        covariance: a symmetric matrix `[m, m]`, or a variance > 0 for all numbers.
        noise: the variance > 0 of what tasks do not explain.
        constant: whether the last row of `mean` is the constant's.

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> given_covariance(torch.zeros(2, 1), 4.0, 1.0, constant=True)
        tensor([[4., 0.],
                [0., 4.]])
    """
    if not isinstance(mean, Tensor) or mean.dim() != 2 or not mean.numel() or not mean.is_floating_point():
        got = f"shape {tuple(mean.shape)} of {mean.dtype}" if isinstance(mean, Tensor) else repr(mean)
        raise ConfigError(
            f"mean must be a tensor of numbers, a row for each feature{' and one for the constant' * constant} and "
            f"a column for each output, got {got}; begin with torch.zeros(features{' + 1' * constant}, outputs)"
        )
    for name, value in (("noise", noise), ("covariance", covariance)):
        if not isinstance(value, Tensor) and not 0 < value < math.inf:
            raise ConfigError(f"{name} must be a variance > 0, got {value!r}")
    size = mean.numel()
    given = covariance if isinstance(covariance, Tensor) else torch.eye(size).to(mean) * covariance
    if given.shape != (size, size) or not torch.allclose(given, given.mT, atol=1e-5 * float(given.abs().max())):
        raise ConfigError(
            f"covariance must be a symmetric matrix [{size}, {size}] for the {size} numbers of mean, got shape "
            f"{tuple(given.shape)}; a single variance stands for a multiple of the unit matrix"
        )
    return given
