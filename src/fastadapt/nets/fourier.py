"""A network on random Fourier features of a position, which is one picture, sound or volume."""

import math

import torch
from torch import Tensor, nn

from fastadapt.errors import ConfigError


class FourierMLP(nn.Module):
    r"""Feed cosines and sines of random frequencies to a network of ReLUs.

        gamma(x) = [cos(2 pi B x), sin(2 pi B x)],      B_ij ~ N(0, scale^2),      f(x) = MLP(gamma(x))

    B is drawn once and stays: it is a buffer, and no inner or outer step moves it. `scale` says how fine a detail the
    network can learn soon: it counts periods in a unit of length, so `scale` on [0, 1] is `scale / 2` on [-1, 1].

    Args:
        inputs: coordinates of a point, d.
        features: random frequencies, F; the network sees 2 F numbers.
        width: units of a hidden layer.
        depth: hidden layers, >= 1.
        outputs: numbers at a point.
        scale: deviation of the frequencies, > 0.
        sigmoid: bound the outputs to (0, 1).

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> net = FourierMLP(2, 64, 128, 3, 1, scale=10.0)
        >>> net(torch.zeros(10, 2)).shape, net.frequencies.shape
        (torch.Size([10, 1]), torch.Size([64, 2]))

    References:
        Tancik et al. 2020, Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional Domains
        (arXiv:2006.10739).
    """

    frequencies: Tensor

    def __init__(
        self,
        inputs: int,
        features: int,
        width: int,
        depth: int,
        outputs: int,
        *,
        scale: float = 10.0,
        sigmoid: bool = False,
    ) -> None:
        super().__init__()
        if min(inputs, features, width, depth, outputs) < 1 or not 0 < scale < float("inf"):
            raise ConfigError(
                "FourierMLP needs inputs, features, width, depth and outputs of at least 1 and a finite scale > 0, got "
                f"{inputs}, {features}, {width}, {depth}, {outputs} and {scale}"
            )
        self.register_buffer("frequencies", scale * torch.randn(features, inputs))
        self.body = nn.Sequential()
        for i in range(depth):
            self.body.append(nn.Linear(width if i else 2 * features, width))
            self.body.append(nn.ReLU())
        self.head = nn.Linear(width, outputs)
        self.sigmoid = sigmoid

    def features(self, x: Tensor) -> Tensor:
        """Return the last hidden layer, `[n, width]`, at positions `[n, inputs]`."""
        phase = 2 * math.pi * (x @ self.frequencies.T)
        return self.body(torch.cat([phase.cos(), phase.sin()], -1))

    def forward(self, x: Tensor) -> Tensor:
        """Return values `[n, outputs]` at positions `[n, inputs]`."""
        output = self.head(self.features(x))
        return output.sigmoid() if self.sigmoid else output
