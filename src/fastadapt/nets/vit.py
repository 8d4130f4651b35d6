"""A small vision transformer: patches, and PyTorch's own encoder layers."""

import torch
from torch import Tensor, nn

from fastadapt.errors import ConfigError


class ViT(nn.Module):
    """Cut an image into patches, put them through a transformer, and average what comes out.

    A patch is brought to `width` numbers by one linear map, a learned vector for its place is added, and `depth` of
    `nn.TransformerEncoderLayer` (normalised first, GELU, no dropout) follow, then a layer norm, the mean over the
    patches and a linear head. The default is meant for small images (0.2 million parameters); there is no batch norm,
    so no answer depends on another sample in any mode.

    Args:
        channels: channels of the input, `C`.
        ways: outputs; None leaves the head out, and the output is what it would see, `[n, width]`.
        size: side of the square input in pixels, a multiple of `patch`.
        patch: side of a patch in pixels.
        width: numbers of each patch, a multiple of `heads`.
        depth: layers.
        heads: attention heads of a layer.

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> ViT(1, 5)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 5])

    References:
        Dosovitskiy et al. 2021 (arXiv:2010.11929); without their class token, as Beyer et al. 2022 (arXiv:2205.01580).
    """

    def __init__(
        self,
        channels: int,
        ways: int | None,
        *,
        size: int = 28,
        patch: int = 4,
        width: int = 64,
        depth: int = 4,
        heads: int = 4,
    ) -> None:
        super().__init__()
        numbers = [channels, 1 if ways is None else ways, size, patch, width, depth, heads]
        if min(numbers) < 1 or size % patch or width % heads:
            raise ConfigError(
                f"ViT needs numbers >= 1, a size that is a multiple of the patch and a width that is one of the heads, "
                f"got size={size}, patch={patch}, width={width}, heads={heads}, depth={depth}, channels={channels} and "
                f"ways={ways}"
            )
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.places = nn.Parameter(torch.empty((size // patch) ** 2, width))
        nn.init.trunc_normal_(self.places, std=0.02)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = None if ways is None else nn.Linear(width, ways)

    def features(self, x: Tensor) -> Tensor:
        """Return what the head sees, `[n, width]`, for images `[n, C, size, size]`."""
        patches = self.patches(x).flatten(2).transpose(1, 2)
        if patches.shape[1] != len(self.places):
            raise ConfigError(
                f"this ViT was built for {len(self.places)} patches of an image, and {x.shape[-2]}x{x.shape[-1]} "
                f"pixels have {patches.shape[1]}; give size= of the images"
            )
        return self.norm(self.encoder(patches + self.places)).mean(1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[n, ways]`, or features without a head, for images `[n, C, size, size]`."""
        features = self.features(x)
        return features if self.head is None else self.head(features)
