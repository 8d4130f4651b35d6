"""A linear head behind the features of a network, for numbers: what regression in closed form gives."""

from typing import Any

import torch
from torch import Tensor, nn


class LinearHead(nn.Module):
    """Answer with `W f(x) + b`.

    Args:
        backbone: any module whose output for `n` samples is `[n, ...]`; what is behind the first axis is flattened.
        features: numbers in the output of one sample, d.
        outputs: numbers of an answer, o.

    Example:
        >>> net = LinearHead(nn.Identity(), features=2, outputs=1)
        >>> net.put(torch.tensor([[1.0, 2.0]]), torch.tensor([0.5]))
        >>> net(torch.tensor([[3.0, 4.0]]))
        tensor([[11.5000]])
    """

    def __init__(self, backbone: nn.Module, *, features: int, outputs: int) -> None:
        super().__init__()
        self.training = backbone.training  # as nothing but its wrapping
        self.backbone = backbone
        self.weight: Tensor
        self.bias: Tensor
        self.register_buffer("weight", torch.zeros(outputs, features))
        self.register_buffer("bias", torch.zeros(outputs))

    def put(self, weight: Tensor, bias: Tensor) -> None:
        """Take copies of `weight: [o, d]` and `bias: [o]`, with their type and device."""
        self.weight, self.bias = (
            value.detach().clone(memory_format=torch.contiguous_format) for value in (weight, bias)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return `[n, o]` for samples `[n, ...]`."""
        return self.backbone(x).flatten(1) @ self.weight.T + self.bias

    def described(self, net: dict[str, Any]) -> dict[str, Any]:
        """Return name and arguments of this module, given those of the backbone."""
        outputs, features = self.weight.shape
        return {"name": "LinearHead", "arguments": {"net": net, "features": features, "outputs": outputs}}
