"""The four-block convolutional network of the few-shot papers."""

from typing import Literal, get_args

from torch import Tensor, nn

from fastadapt.errors import ConfigError
from fastadapt.nets.film import FiLM
from fastadapt.nets.mlp import shift_only

Down = Literal["stride", "max", "max_same"]
Pooled = Literal["mean", "flatten"]
Affine = Literal["shift", "both"]


class Conv4(nn.Module):
    """Stack four blocks of 3x3 convolution, batch norm and ReLU, and a linear head.

    MAML's Omniglot network is `Conv4(1, 64, ways)`: stride 2, the 2x2 map averaged, batch norm with a shift only.
    Reptile's is the same with `pooled="flatten"` and `affine="both"`. MAML's mini-ImageNet network is
    `Conv4(3, 32, ways, size=84, down="max", pooled="flatten")`: 84, 42, 21, 10, 5. Reptile's is the same with
    `down="max_same"` and `affine="both"`: 84, 42, 21, 11, 6; its code pools before the ReLU, which gives the same maps,
    as the ReLU keeps the order of values.

    Args:
        channels: channels of the input, `C`.
        width: filters of each block.
        ways: outputs; None leaves the head out, and the output is what it would see, `[n, features]`.
        size: side of the square input in pixels, at least 16.
        down: how each block halves the map: "stride" (convolution of stride 2), "max" (2x2 max-pool; the last row and
            column of an odd map are dropped) or "max_same" (they are pooled by themselves).
        pooled: what the linear head sees: "mean" over the last map, or the "flatten"ed map.
        affine: learned parameters of the batch norm: "shift" (MAML) or "both" scale and shift (Reptile).
        head_std: standard deviation of the head's normal initialisation (MAML's code: 1.0); None is Glorot.
        film: numbers of a context that scales and shifts the maps of the third block, ahead of its ReLU (CAVIA); 0 is
            none.

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> import torch
        >>> Conv4(1, 8, 5)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 5])

    References:
        Vinyals et al. 2016 (arXiv:1606.04080); Finn et al. 2017 (arXiv:1703.03400); Nichol et al. 2018
        (arXiv:1803.02999).
    """

    def __init__(
        self,
        channels: int,
        width: int,
        ways: int | None,
        *,
        size: int = 28,
        down: Down = "stride",
        pooled: Pooled = "mean",
        affine: Affine = "shift",
        head_std: float | None = None,
        film: int = 0,
    ) -> None:
        super().__init__()
        if min(channels, width, 1 if ways is None else ways) < 1 or size < 16:
            raise ConfigError(
                f"Conv4 needs channels, width, ways >= 1 and size >= 16, got {channels}, {width}, {ways}, {size}"
            )
        known = down in get_args(Down) and pooled in get_args(Pooled) and affine in get_args(Affine)
        if not known:
            raise ConfigError(f"Conv4 does not know down={down!r}, pooled={pooled!r}, affine={affine!r}")
        if film < 0:
            raise ConfigError(f"film counts the numbers of a context and must be >= 0, got {film}")
        self.pooled = pooled
        blocks = []
        for i in range(4):
            norm = nn.BatchNorm2d(width, eps=1e-3)
            conv = nn.Conv2d(channels if i == 0 else width, width, 3, stride=2 if down == "stride" else 1, padding=1)
            nn.init.xavier_uniform_(conv.weight)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
            layers = [conv, shift_only(norm) if affine == "shift" else norm, nn.ReLU()]
            if film and i == 2:
                layers.insert(2, FiLM(width, film))
            if down != "stride":
                layers.append(nn.MaxPool2d(2, ceil_mode=down == "max_same"))
            blocks.append(nn.Sequential(*layers))
            size = size // 2 if down == "max" else -(-size // 2)
        self.blocks = nn.Sequential(*blocks)
        self.head: nn.Linear | None = None
        if ways is None:
            return
        self.head = nn.Linear(width if pooled == "mean" else width * size * size, ways)
        if head_std is None:
            nn.init.xavier_uniform_(self.head.weight)
        else:
            nn.init.normal_(self.head.weight, std=head_std)
        nn.init.zeros_(self.head.bias)

    def features(self, x: Tensor) -> Tensor:
        """Return what the head sees, `[n, features]`, for images `[n, C, size, size]`."""
        maps = self.blocks(x)
        return maps.mean((2, 3)) if self.pooled == "mean" else maps.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[n, ways]`, or features without a head, for images `[n, C, size, size]`."""
        features = self.features(x)
        return features if self.head is None else self.head(features)
