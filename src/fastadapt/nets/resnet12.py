"""The residual network of twelve convolutions of the few-shot papers."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from fastadapt.errors import ConfigError

_SMALLEST = 16  # pixels: four times halved, one is left


class ResNet12(nn.Module):
    """Stack four residual blocks, the mean over the last map, and a linear head.

    A block computes `maxpool(lrelu(f(x) + s(x)))`: `f` is three 3x3 convolutions with batch norm, the first two
    followed by LeakyReLU(0.1); `s` is a 1x1 convolution with batch norm; the pool is 2x2. Convolutions have no bias.
    The widths are those of Oreshkin et al. by default (8.0 million parameters); those of Lee et al. are
    `(64, 160, 320, 640)` (12.4 million). The activation is that of Lee et al.; their DropBlock and task-conditioned
    scales and shifts (Oreshkin et al.) are left out.

    Args:
        channels: channels of the input, `C`.
        ways: outputs; None leaves the head out, and the output is what it would see, `[n, widths[3]]`.
        widths: filters of the four blocks.

    Raises:
        ConfigError: for a setting outside its range, and for images below 16 pixels.

    Example:
        >>> import torch
        >>> ResNet12(3, 5, widths=(4, 8, 8, 16))(torch.zeros(2, 3, 84, 84)).shape
        torch.Size([2, 5])

    References:
        Oreshkin, Rodriguez, Lacoste 2018 (arXiv:1805.10123); Lee, Maji, Ravichandran, Soatto 2019
        (arXiv:1904.03758).
    """

    def __init__(self, channels: int, ways: int | None, *, widths: Sequence[int] = (64, 128, 256, 512)) -> None:
        super().__init__()
        if len(widths) != 4 or min(channels, 1 if ways is None else ways, *widths) < 1:
            raise ConfigError(
                f"ResNet12 needs channels, ways >= 1 and four widths >= 1, got {channels}, {ways}, {tuple(widths)}"
            )
        inputs = (channels, *widths[:3])
        self.blocks = nn.Sequential(*(_Block(before, width) for before, width in zip(inputs, widths, strict=True)))
        self.head = None if ways is None else nn.Linear(widths[3], ways)

    def features(self, x: Tensor) -> Tensor:
        """Return what the head sees, `[n, widths[3]]`, for images `[n, C, H, W]` of at least 16x16 pixels."""
        if min(x.shape[-2:]) < _SMALLEST:
            raise ConfigError(
                f"ResNet12 halves the image four times and needs at least {_SMALLEST}x{_SMALLEST} pixels, "
                f"got {x.shape[-2]}x{x.shape[-1]}; enlarge the images or take Conv4"
            )
        return self.blocks(x).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[n, ways]`, or features without a head, for images `[n, C, H, W]` of at least 16x16 pixels."""
        features = self.features(x)
        return features if self.head is None else self.head(features)


class _Block(nn.Module):
    """Compute `maxpool(lrelu(f(x) + s(x)))` for maps `[n, inputs, H, W]`: `[n, width, H // 2, W // 2]`."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(_convolution(inputs, width, 3), nn.LeakyReLU(0.1)),
            *(_convolution(width, width, 3), nn.LeakyReLU(0.1)),
            _convolution(width, width, 3),
        )
        self.shortcut = _convolution(inputs, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.leaky_relu(self.body(x) + self.shortcut(x), 0.1), 2)


def _convolution(inputs: int, width: int, side: int) -> nn.Sequential:
    """Return a convolution that keeps the size of the map, and its batch norm; weights as He et al. (2015)."""
    layer = nn.Conv2d(inputs, width, side, padding=side // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="leaky_relu")
    return nn.Sequential(layer, nn.BatchNorm2d(width))
