"""Where the points of an array lie."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def positions(sizes: Sequence[int]) -> Tensor:
    """Return the centres of an array's cells, each axis over [-1, 1], in the order in which it is flattened.

        x_i = (2 i + 1) / n - 1,      i = 0 .. n-1

    Args:
        sizes: cells along each axis, `(n_1, ..., n_d)`.

    Returns:
        `[n_1 ... n_d, d]`, the coordinates in the order of the axes: (row, column) for pictures.

    Example:
        >>> positions((2, 4))[:3]
        tensor([[-0.5000, -0.7500],
                [-0.5000, -0.2500],
                [-0.5000,  0.2500]])
    """
    axes = [(2 * torch.arange(n, dtype=torch.float64) + 1) / n - 1 for n in sizes]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    return grid.reshape(math.prod(sizes), len(sizes)).float()
