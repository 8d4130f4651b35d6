"""The two networks of the Relation Network: an embedding that keeps maps, and the module that relates two of them."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from fastadapt.errors import ConfigError


class RelationEncoder(nn.Module):
    """Embed an image as maps: four blocks of 3x3 convolution, batch norm and ReLU, the first two unpadded and pooled.

    28 pixels become 26, 13, 11, 5, 5, 5; 84 become 82, 41, 39, 19, 19, 19.

    Args:
        channels: channels of the input, `C`.
        width: filters of each block.

    Raises:
        ConfigError: if a number is below 1.

    Example:
        >>> import torch
        >>> RelationEncoder(1)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 64, 5, 5])

    References:
        Sung et al. 2018 (arXiv:1711.06025) and their public code.
    """

    def __init__(self, channels: int, *, width: int = 64) -> None:
        super().__init__()
        if min(channels, width) < 1:
            raise ConfigError(f"RelationEncoder needs channels and width >= 1, got {channels} and {width}")
        self.blocks = nn.Sequential(
            _block(channels, width, padding=0, pool=True),
            _block(width, width, padding=0, pool=True),
            _block(width, width, padding=1, pool=False),
            _block(width, width, padding=1, pool=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return maps `[n, width, H', W']` for images `[n, C, H, W]` of at least 16x16 pixels."""
        if min(x.shape[-2:]) < 16:
            raise ConfigError(
                f"RelationEncoder needs at least 16x16 pixels, got {x.shape[-2]}x{x.shape[-1]}; enlarge them"
            )
        return self.blocks(x)


class Relation(nn.Module):
    """Relate two embedded samples, given side by side, by one number before its sigmoid: `[n, 2 C, H, W] -> [n]`.

    Maps go through two blocks of 3x3 convolution, batch norm, ReLU and 2x2 max-pool, and then through two linear
    layers; features without maps, `[n, 2 d]`, through a linear layer of `width` numbers with a ReLU in place of the
    blocks.

    Args:
        features: the shape of one embedded sample, `(C, H, W)` or `(d,)`.
        width: filters of a block.
        hidden: numbers between the two linear layers.
        padding: of the convolutions: 1 for small maps (Omniglot: 5, 2, 1), 0 for large ones (84 pixels: 19, 8, 3).

    Raises:
        ConfigError: for a setting outside its range, or maps that are too small.

    Example:
        >>> import torch
        >>> Relation((64, 19, 19), padding=0)(torch.zeros(2, 128, 19, 19)).shape
        torch.Size([2])

    References:
        Sung et al. 2018 (arXiv:1711.06025) and their public code.
    """

    def __init__(self, features: Sequence[int], *, width: int = 64, hidden: int = 8, padding: int = 1) -> None:
        super().__init__()
        if min([*features, width, hidden]) < 1 or padding not in (0, 1) or len(features) not in (1, 3):
            raise ConfigError(
                f"Relation needs features (C, H, W) or (d,), width and hidden >= 1 and padding 0 or 1, got "
                f"{tuple(features)}, {width}, {hidden}, {padding}"
            )
        self.blocks: nn.Module
        if len(features) == 1:
            self.blocks, flat = nn.Sequential(nn.Linear(2 * features[0], width), nn.ReLU()), width
        else:
            sides = list(features[1:])
            for _ in range(2):
                sides = [(side - 2 + 2 * padding) // 2 for side in sides]
            if min(sides) < 1:
                raise ConfigError(
                    f"Relation with padding={padding} leaves nothing of maps of {features[1]}x{features[2]}; take "
                    f"{'' if padding else 'padding=1, or '}an embedding with larger maps"
                )
            self.blocks = nn.Sequential(
                _block(2 * features[0], width, padding, pool=True),
                _block(width, width, padding, pool=True),
                nn.Flatten(),
            )
            flat = width * sides[0] * sides[1]
        self.head = nn.Sequential(_linear(flat, hidden), nn.ReLU(), _linear(hidden, 1))

    def forward(self, both: Tensor) -> Tensor:
        """Return a number for each pair, `[n]`."""
        return self.head(self.blocks(both)).squeeze(1)


def _block(inputs: int, width: int, padding: int, pool: bool) -> nn.Sequential:
    """Return a block; its running moments are those of the last batch, as in the public code."""
    layer = nn.Conv2d(inputs, width, 3, padding=padding)
    nn.init.normal_(layer.weight, std=math.sqrt(2 / (9 * width)))
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    block = nn.Sequential(layer, nn.BatchNorm2d(width, momentum=1.0), nn.ReLU())
    return block.append(nn.MaxPool2d(2)) if pool else block


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.ones_(layer.bias)
    return layer
