"""A small embedding of faces, and rows of weights for the identities that train it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastadapt.errors import ConfigError

GROUPS = 4


class FaceNet(nn.Module):
    """Embed grey faces: 3x3 convolutions of stride 2, each with group norm and ReLU, and a linear map.

    Group norm has no statistics of a batch: a batch of several domains and one of a single domain see the same network.

    Args:
        size: side of the square input in pixels.
        widths: filters of each convolution, multiples of 4.
        features: numbers of the embedding, d.

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> FaceNet(32, (8, 16), 4)(torch.zeros(3, 1, 32, 32)).shape
        torch.Size([3, 4])
    """

    def __init__(self, size: int = 32, widths: Sequence[int] = (16, 32, 64), features: int = 64) -> None:
        super().__init__()
        if size < 1 or features < 2 or not widths or any(width < GROUPS or width % GROUPS for width in widths):
            raise ConfigError(
                f"FaceNet needs size >= 1, features >= 2 and widths that are multiples of {GROUPS}, got {size}, "
                f"{features} and {tuple(widths)}"
            )
        layers: list[nn.Module] = []
        channels = 1
        for width in widths:
            layers += [nn.Conv2d(channels, width, 3, 2, 1, bias=False), nn.GroupNorm(GROUPS, width), nn.ReLU()]
            channels, size = width, -(-size // 2)
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(channels * size * size, features)

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings `[n, d]`, not normalised, of images `[n, 1, size, size]`."""
        return self.head(self.body(x).flatten(1))


class WithIdentities(nn.Module):
    """Hold a network and a row of weights for each identity that trains it, which the network does not use.

    Args:
        net: the embedding.
        identities: how many, C.
        features: numbers of the embedding, d.

    Raises:
        ConfigError: if there are no identities.

    Example:
        >>> net = WithIdentities(nn.Linear(3, 2), identities=5, features=2)
        >>> net(torch.zeros(1, 3)).shape, net.identities.shape
        (torch.Size([1, 2]), torch.Size([5, 2]))
    """

    def __init__(self, net: nn.Module, identities: int, features: int) -> None:
        super().__init__()
        if identities < 1 or features < 1:
            raise ConfigError(f"weights of identities are [C, d], both at least 1, got [{identities}, {features}]")
        self.net = net
        self.identities = nn.Parameter(torch.randn(identities, features) / features**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's embeddings of `x`."""
        return self.net(x)
