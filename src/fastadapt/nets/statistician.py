"""The networks of the neural statistician: what embeds a sample, what sums up a set, and what generates one."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from fastadapt.errors import ConfigError
from fastadapt.nets.normals import Normal


class StatisticianEncoder(nn.Module):
    """Embed an image as maps: nine 3x3 convolutions with batch norm and ELU, the third, sixth and ninth of stride 2.

    28 pixels become 14, 7, 4. The filters are `width`, twice and four times as many, three convolutions each.

    Args:
        channels: channels of the input, `C`.
        width: filters of the first three.

    Raises:
        ConfigError: if a number is below 1.

    Example:
        >>> import torch
        >>> StatisticianEncoder(1, width=8)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 32, 4, 4])

    References:
        Edwards, Storkey 2017 (arXiv:1606.02185).
    """

    def __init__(self, channels: int, *, width: int = 64) -> None:
        super().__init__()
        if min(channels, width) < 1:
            raise ConfigError(f"StatisticianEncoder needs channels and width >= 1, got {channels} and {width}")
        blocks: list[nn.Module] = []
        for more in (1, 2, 4):
            for stride in (1, 1, 2):
                layer = nn.Conv2d(channels, more * width, 3, stride=stride, padding=1)
                blocks.append(_block(layer, nn.BatchNorm2d(more * width)))
                channels = more * width
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps `[n, 4 width, H', W']` for images `[n, C, H, W]`."""
        return self.blocks(x)


class Statistic(nn.Module):
    """Sum up a set in a distribution of its context, `q(c | D) = N(c; g(mean_j e(h_j)))`.

    `e` is a linear layer, and `g` two and a last one; batch norm and ELU follow each but the last, where one batch norm
    for all numbers follows.

    Args:
        features: the shape of an embedded sample.
        hidden: numbers between the layers.
        context: numbers of the context c.

    Raises:
        ConfigError: if a number is below 1.

    Example:
        >>> import torch
        >>> statistic = Statistic((8, 2, 2), hidden=16, context=4)
        >>> statistic.of(statistic.each(torch.zeros(6, 8, 2, 2)).view(2, 3, 16).mean(1)).mean.shape
        torch.Size([2, 4])
    """

    def __init__(self, features: Sequence[int], *, hidden: int = 256, context: int = 512) -> None:
        super().__init__()
        if min([*features, hidden, context]) < 1 or not features:
            raise ConfigError(
                f"Statistic needs features, hidden and context >= 1, got {tuple(features)}, {hidden} and {context}"
            )
        self.each = nn.Sequential(nn.Flatten(), *_dense(math.prod(features), hidden))
        self.pooled = nn.Sequential(*_dense(hidden, hidden), *_dense(hidden, hidden))
        self.last = _Distribution(hidden, context)

    def of(self, pooled: Tensor) -> Normal:
        """Return `q(c | D)` of the means `[n, hidden]` over the samples of `n` sets."""
        return self.last(self.pooled(pooled))


class Generator(nn.Module):
    """Generate the samples of a set by its context: `p(z | c)` and `p(x | z, c)`, beside the guess `q(z | x, c)`.

    Each begins with the sum of linear layers of what it is given and an ELU. Those of z go through a residual block of
    three linear layers with batch norm; images go from maps a eighth of their size through nine convolutions with
    batch norm and ELU, three of which double the size, and samples of one axis through one linear layer.

    Args:
        features: the shape of an embedded sample.
        sample: the shape of a sample, `(C, H, W)` of a square or `(d,)`.
        width: a quarter of the filters of the first convolutions.
        hidden: numbers between the layers.
        context: numbers of the context c.
        latent: numbers of what a sample has of its own, z.

    Raises:
        ConfigError: if a number is below 1, or for samples of another shape.

    Example:
        >>> import torch
        >>> generator = Generator((32, 4, 4), (1, 28, 28), width=8, hidden=16, context=4, latent=3)
        >>> generator(torch.zeros(2, 3), torch.zeros(2, 4)).shape
        torch.Size([2, 1, 28, 28])
    """

    def __init__(
        self,
        features: Sequence[int],
        sample: Sequence[int],
        *,
        width: int = 64,
        hidden: int = 256,
        context: int = 512,
        latent: int = 16,
    ) -> None:
        super().__init__()
        image = len(sample) == 3 and sample[1] == sample[2]
        if min([*features, *sample, width, hidden, context, latent]) < 1 or not (image or len(sample) == 1):
            raise ConfigError(
                f"Generator needs numbers >= 1 and samples that are square images (C, H, W) or rows (d,), got samples "
                f"{tuple(sample)}, features {tuple(features)}, width {width}, hidden {hidden}, context {context} and "
                f"latent {latent}"
            )
        self.seen = nn.Linear(math.prod(features), hidden)
        self.guess_context, self.own_context, self.image_context = (nn.Linear(context, hidden) for _ in range(3))
        self.guess = nn.Sequential(nn.ELU(), _Residual(hidden), _Distribution(hidden, latent))
        self.own = nn.Sequential(nn.ELU(), _Residual(hidden), _Distribution(hidden, latent))
        self.latent = nn.Linear(latent, hidden)
        draw = _drawing(hidden, sample[0], sample[1], width) if image else [nn.Linear(hidden, sample[0])]
        self.draw = nn.Sequential(nn.ELU(), *draw)

    def guessed(self, h: Tensor, c: Tensor) -> Normal:
        """Return `q(z | x, c)` of samples with features `h: [n, ...]` and contexts `c: [n, context]`."""
        return self.guess(self.seen(h.flatten(1)) + self.guess_context(c))

    def expected(self, c: Tensor) -> Normal:
        """Return `p(z | c)`."""
        return self.own(self.own_context(c))

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """Return what says of `x` given z and c: the logits of its pixels, or its means, `[n, ...]`."""
        return self.draw(self.latent(z) + self.image_context(c))


class _Distribution(nn.Module):
    """A linear layer and one batch norm for all of its numbers, the first half of which are means."""

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(inputs, 2 * size), nn.BatchNorm1d(1, eps=1e-3, momentum=0.01)

    def forward(self, x: Tensor) -> Normal:
        mean, log = self.norm(self.layer(x).unsqueeze(1)).squeeze(1).chunk(2, dim=1)
        return Normal(mean, log)


class _Residual(nn.Module):
    """Three linear layers with batch norm, ELU between them, beside what goes into them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_dense(width, width), *_dense(width, width), nn.Linear(width, width), nn.BatchNorm1d(width)
        )
        self.after = nn.ELU()

    def forward(self, x: Tensor) -> Tensor:
        return self.after(x + self.body(x))


class _Cut(nn.Module):
    """Take the first rows and columns of an image."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x[..., : self.size, : self.size]


def _drawing(hidden: int, channels: int, size: int, width: int) -> list[nn.Module]:
    """Return the layers from `hidden` numbers to an image; one convolution is unpadded where that gives the size."""
    side = -(-size // 8)
    padding = 0 if 8 * side - 4 >= size else 1
    first, second, third = 4 * width, 2 * width, width
    plan: list[tuple[int, int, int | None]] = [  # None doubles the size
        (first, first, 1), (first, first, 1), (first, first, None), (first, second, 1), (second, second, 1),
        (second, second, None), (second, third, 1), (third, third, padding), (third, third, None),
    ]  # fmt: skip
    layers: list[nn.Module] = [nn.Linear(hidden, first * side * side), nn.Unflatten(1, (first, side, side))]
    for inputs, outputs, pad in plan:
        if pad is None:
            layer: nn.Module = nn.ConvTranspose2d(inputs, outputs, 2, stride=2)
        else:
            layer = nn.Conv2d(inputs, outputs, 3, padding=pad)
        layers.append(_block(layer, nn.BatchNorm2d(outputs)))
    return [*layers, nn.Conv2d(third, channels, 1), _Cut(size)]


def _dense(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ELU()]


def _block(layer: nn.Module, norm: nn.Module) -> nn.Sequential:
    return nn.Sequential(layer, norm, nn.ELU())
