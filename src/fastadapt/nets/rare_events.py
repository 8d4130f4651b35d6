"""The network before the memory module."""

from torch import Tensor, nn

from fastadapt.errors import ConfigError


class RareEventsEncoder(nn.Module):
    """Embed an image: twice two 3x3 convolutions with ReLU and a 2x2 max-pool, a linear layer, and dropout.

    28 pixels become 14 and 7. There is no batch norm, so that no answer depends on another sample in any mode. Weights
    start from N(0, 0.1^2) within two deviations, biases from 0.

    Args:
        channels: channels of the input, `C`.
        width: filters of the first two convolutions; the others have twice as many.
        features: numbers of the embedding.
        size: side of the square input in pixels.
        dropout: the share of these numbers that a training leaves out, 0 <= dropout < 1.

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> import torch
        >>> RareEventsEncoder(1, width=8)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 128])

    References:
        Kaiser, Nachum, Roy, Bengio 2017 (arXiv:1703.03129), and their public code.
    """

    def __init__(
        self, channels: int, *, width: int = 64, features: int = 128, size: int = 28, dropout: float = 0.7
    ) -> None:
        super().__init__()
        if min(channels, width, features) < 1 or size < 4 or not 0 <= dropout < 1:
            raise ConfigError(
                f"RareEventsEncoder needs channels, width and features >= 1, a size of at least 4 pixels and dropout "
                f"in [0, 1), got {channels}, {width}, {features}, {size} and {dropout}"
            )
        self.body = nn.Sequential()
        for filters in (width, 2 * width):
            for inputs in (channels, filters):
                self.body.extend([nn.Conv2d(inputs, filters, 3, padding=1), nn.ReLU()])
            self.body.append(nn.MaxPool2d(2))
            channels = filters
        self.embed = nn.Linear(channels * (size // 4) ** 2, features)
        self.drop = nn.Dropout(dropout)
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.trunc_normal_(layer.weight, std=0.1, a=-0.2, b=0.2)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Return `[n, features]` for images `[n, C, size, size]`."""
        return self.drop(self.embed(self.body(x).flatten(1)))
