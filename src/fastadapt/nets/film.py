"""A context that scales and shifts the features of a layer, for an inner loop that adapts nothing else (CAVIA)."""

import torch
from torch import Tensor, nn

from fastadapt.errors import ConfigError


class FiLM(nn.Module):
    r"""Scale and shift each channel by numbers that a linear layer makes of a context z.

        h -> gamma(z) * h + beta(z)        (gamma, beta) = W z + b

    Put it behind any layer of a network, and `CAVIA(net)` adapts z alone: the context of each such layer, and of a
    `WithContext` in front, as it adapts what is named `context`. For one context in several places give them the same
    parameter, `second.context = first.context`.

    z is 0, and b begins such that the layer then changes nothing: gamma = 1, beta = 0. (The public code of CAVIA draws
    it, as torch does for any linear layer.)

    Args:
        channels: channels C of the features, their second axis.
        size: numbers in z, >= 1.

    Raises:
        ConfigError: if a number is below 1, or features have other channels.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 8), FiLM(8, size=2), nn.ReLU(), nn.Linear(8, 1))
        >>> net(torch.zeros(4, 3)).shape, [name for name, _ in net.named_parameters() if "1." in name]
        (torch.Size([4, 1]), ['1.context', '1.film.weight', '1.film.bias'])

    References:
        Perez et al. 2018 (arXiv:1709.07871); Zintgraf et al. 2019, CAVIA (arXiv:1810.03642).
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        if min(channels, size) < 1:
            raise ConfigError(f"FiLM needs channels and size of at least 1, got {channels} and {size}")
        self.channels = channels
        self.context = nn.Parameter(torch.zeros(size))
        self.film = nn.Linear(size, 2 * channels)
        with torch.no_grad():
            self.film.bias.copy_(torch.cat((torch.ones(channels), torch.zeros(channels))))

    def forward(self, x: Tensor) -> Tensor:
        """Return features `[n, C, ...]`, scaled and shifted."""
        if x.dim() < 2 or x.shape[1] != self.channels:
            raise ConfigError(
                f"FiLM was built for {self.channels} channels on the second axis and gets features of shape "
                f"{tuple(x.shape)}; give it their number of channels"
            )
        shape = (1, -1, *(1 for _ in x.shape[2:]))
        gamma, beta = self.film(self.context).chunk(2)
        return gamma.view(shape) * x + beta.view(shape)
