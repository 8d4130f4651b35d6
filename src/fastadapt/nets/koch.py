"""The convolutional network of the first siamese network for one-shot learning."""

from torch import Tensor, nn

from fastadapt.errors import ConfigError


class KochNet(nn.Module):
    """Embed an image of 105x105 pixels, or more, as numbers in (0, 1).

    Four convolutions of 64, 128, 128 and 256 filters of 10, 7, 4 and 4 pixels, each with a ReLU, the first three with a
    2x2 max-pool behind it, and a linear layer with a sigmoid: 105, 96, 48, 42, 21, 18, 9, 6. There is no batch norm.
    Weights start from N(0, 0.01^2), those of the linear layer from N(0, 0.2^2), and biases from N(0.5, 0.01^2).

    Args:
        channels: channels of the input, `C`.
        features: numbers of the embedding.
        size: side of the square input in pixels, at least 65.

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> import torch
        >>> KochNet(1, features=16)(torch.zeros(2, 1, 105, 105)).shape
        torch.Size([2, 16])

    References:
        Koch, Zemel, Salakhutdinov 2015, Siamese Neural Networks for One-shot Image Recognition (ICML deep learning
        workshop).
    """

    def __init__(self, channels: int, *, features: int = 4096, size: int = 105) -> None:
        super().__init__()
        self.blocks = nn.Sequential()
        for i, (width, side) in enumerate(((64, 10), (128, 7), (128, 4), (256, 4))):
            self.blocks.extend([nn.Conv2d(channels, width, side), nn.ReLU()])
            size, channels = size - side + 1, width
            if i < 3:
                self.blocks.append(nn.MaxPool2d(2))
                size //= 2
        if min(channels, features, size) < 1:
            raise ConfigError(
                f"KochNet needs channels and features >= 1 and images of at least 65 pixels, got {features} "
                f"features and a last map of {size} pixels"
            )
        self.embed = nn.Linear(256 * size * size, features)
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.normal_(layer.weight, std=0.2 if layer is self.embed else 0.01)
                nn.init.normal_(layer.bias, 0.5, 0.01)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Return `[n, features]` for images `[n, C, size, size]`."""
        return self.embed(self.blocks(x).flatten(1)).sigmoid()
