"""Rows of weights behind the features of a network: what a head on frozen features gives."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Headed(nn.Module):
    r"""Answer for each class with the largest of its rows, `s_c(x) = max_{j: l_j = c} w_j . (t(f(x)) - o) + b_j`.

    `t` takes the centre from the features and, if wanted, brings them to length 1. A linear classifier has a row for
    each class, and a nearest neighbour one for each sample. The output of a class without a row is the lowest there
    is, so that it is never the answer.

    Args:
        backbone: any module whose output for `n` samples is `[n, ...]`; what is behind the first axis is flattened.
        features: numbers in the output of one sample, d.
        rows: how many rows there are, m.
        ways: outputs.
        unit: whether features are brought to length 1.

    Example:
        >>> net = Headed(nn.Identity(), features=2, rows=2, ways=2, unit=True)
        >>> net.put({"weight": torch.eye(2), "bias": torch.zeros(2), "labels": torch.tensor([1, 0])})
        >>> net(torch.tensor([[3.0, 4.0]]))
        tensor([[0.8000, 0.6000]])
    """

    def __init__(self, backbone: nn.Module, *, features: int, rows: int, ways: int, unit: bool = False) -> None:
        super().__init__()
        self.training = backbone.training  # as nothing but its wrapping
        self.backbone = backbone
        self.ways, self.unit = ways, unit
        self.centre: Tensor
        self.origin: Tensor
        self.weight: Tensor
        self.bias: Tensor
        self.labels: Tensor
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("origin", torch.zeros(features))
        self.register_buffer("weight", torch.zeros(rows, features))
        self.register_buffer("bias", torch.zeros(rows))
        self.register_buffer("labels", torch.zeros(rows, dtype=torch.long))

    def put(self, values: dict[str, Tensor]) -> None:
        """Take copies of the given buffers, by name, with their type and device."""
        for name, value in values.items():
            setattr(self, name, value.detach().clone(memory_format=torch.contiguous_format))

    def forward(self, x: Tensor) -> Tensor:
        """Return an output for each class, `[n, ways]`, for samples `[n, ...]`."""
        features = transformed(self.backbone(x).flatten(1), self.centre, self.unit)
        return answers(features, self.weight, self.bias, self.origin, self.labels, self.ways)

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments beside the backbone, with which it is built again."""
        rows, features = self.weight.shape
        return {"features": features, "rows": rows, "ways": self.ways, "unit": self.unit}

    def described(self, net: dict[str, Any]) -> dict[str, Any]:
        """Return name and arguments of this module, given those of the backbone."""
        return {"name": "Headed", "arguments": {"net": net, **self.arguments}}


def transformed(features: Tensor, centre: Tensor | None, unit: bool) -> Tensor:
    """Return features `[n, d]` without the centre `[d]`, each row brought to length 1 if wanted.

    Example:
        >>> transformed(torch.tensor([[4.0, 4.0]]), torch.tensor([1.0, 0.0]), unit=True)
        tensor([[0.6000, 0.8000]])
    """
    moved = features if centre is None else features - centre
    return F.normalize(moved, dim=1) if unit else moved


def answers(features: Tensor, weight: Tensor, bias: Tensor, origin: Tensor, labels: Tensor, ways: int) -> Tensor:
    """Return the largest row of each class, `[n, ways]`, for transformed features `[n, d]`; see `Headed`."""
    rows = (features - origin) @ weight.T + bias
    # sizes by shape, as len() would fix how many samples an exported program takes
    lowest = rows.new_full((rows.shape[0], ways), torch.finfo(rows.dtype).min / 2)
    return lowest.scatter_reduce(1, labels.expand(rows.shape[0], -1), rows, "amax")
