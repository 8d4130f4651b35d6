"""A network that answers with the label of the most similar of the samples it remembers."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastadapt.selection import linear_head

ABSENT = -2.0
"""The similarity to a class of which nothing is remembered: below every cosine."""


def headless(model: nn.Module) -> nn.Module:
    """Return a copy of a network that returns what its head, the last linear layer, would see.

    Raises:
        SelectionError: if the network does not end with a linear layer.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 5))
        >>> headless(net)(torch.zeros(7, 2)).shape
        torch.Size([7, 3])
    """
    name, _ = linear_head(model)
    if not name:
        return nn.Identity()
    body = copy.deepcopy(model)
    body.set_submodule(name, nn.Identity())
    return body


class Nearest(nn.Module):
    r"""Compare the features of an image with those of remembered samples, `s_ic = max_{j: y_j = c} cos(f(x_i), f_j)`.

    The largest output is the class of the single most similar sample. The features `f` are what the head of `net`
    sees; its outputs say how many classes there are.

    Args:
        net: a network that ends with a linear layer; copied.
        samples: how many samples are remembered, in the buffers `support: [samples, d]` and `labels: [samples]`.

    Raises:
        SelectionError: if the network does not end with a linear layer.

    Example:
        >>> nearest = Nearest(nn.Linear(2, 2), samples=2)     # the features are the input itself
        >>> nearest.remember(torch.tensor([[3.0, 0.0], [0.0, 1.0]]), torch.tensor([1, 0]))
        >>> nearest(torch.tensor([[4.0, 3.0]]))
        tensor([[0.6000, 0.8000]])
    """

    def __init__(self, net: nn.Module, samples: int) -> None:
        super().__init__()
        _, head = linear_head(net)
        self.ways = head.out_features
        self.body = headless(net)
        weight = head.weight
        self.support: Tensor
        self.labels: Tensor
        self.register_buffer(
            "support", torch.zeros(samples, head.in_features, dtype=weight.dtype, device=weight.device)
        )
        self.register_buffer("labels", torch.zeros(samples, dtype=torch.long, device=weight.device))

    def remember(self, features: Tensor, labels: Tensor) -> None:
        """Keep the features `[samples, d]` and labels `[samples]` to compare with."""
        self.support.copy_(directions(features))
        self.labels.copy_(labels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the largest similarity to a sample of each class, `[n, ways]`, for images `[n, ...]`."""
        similarity = directions(self.body(x)) @ self.support.T
        theirs = self.labels == torch.arange(self.ways, device=self.labels.device).unsqueeze(1)
        return similarity.unsqueeze(1).masked_fill(~theirs, ABSENT).amax(2)

    def described(self, net: dict[str, Any]) -> dict[str, Any]:
        """Return name and arguments of this module, given those of the network it was made from."""
        return {"name": "Nearest", "arguments": {"net": net, "samples": len(self.labels)}}


def directions(features: Tensor) -> Tensor:
    """Return `[n, d]`, each row of the features `[n, ...]` brought to length 1; a row of zeros stays as it is."""
    return F.normalize(features.flatten(1), dim=1)
