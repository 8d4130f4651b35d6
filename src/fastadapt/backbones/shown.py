"""Images as tasks have them, shown to a backbone: back to pixels, then its size, its colours and its values."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastadapt.backbones.backbone import Backbone
from fastadapt.data.images.images import NORMALISATIONS
from fastadapt.methods.features import features_of

_LUMA = (0.299, 0.587, 0.114)


class Shown(nn.Module):
    """Give a backbone's features `[n, d]` for images `[n, C, S, S]` as tasks have them.

    What the tasks have done to values is taken back: ink is dark again, means and deviations are put back. Grey
    pictures become RGB where the backbone wants colours, and small ones are made larger: it sees no more than the other
    methods do.

    Args:
        backbone: the backbone.
        recipe: `data.input` of the tasks, `{"kind": "image", "invert": ..., "normalise": ...}`.

    Example:
        >>> from fastadapt.backbones.backbone import find_backbone
        >>> Shown(find_backbone("pixels"), {"kind": "image", "invert": True})(torch.zeros(2, 1, 14, 14)).unique()
        tensor([1.])
    """

    def __init__(self, backbone: Backbone, recipe: Mapping[str, Any]) -> None:
        super().__init__()
        self.net, self.sight = backbone.net, backbone.sight
        self.invert = bool(recipe.get("invert", False))
        self.mean, self.std = NORMALISATIONS[recipe.get("normalise", "none")]

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of images."""
        return features_of(self.net, self.sight.values(self.pixels(x).cpu()).to(x.device))

    def pixels(self, x: Tensor) -> Tensor:
        """Return what the backbone sees of them, `[n, height, width, channels]`, uint8."""
        if self.mean is not None and self.std is not None:
            x = x * x.new_tensor(self.std).view(-1, 1, 1) + x.new_tensor(self.mean).view(-1, 1, 1)
        x = 1 - x if self.invert else x
        if x.shape[1] != self.sight.channels:
            grey = x if x.shape[1] == 1 else torch.einsum("nchw,c->nhw", x, x.new_tensor(_LUMA)).unsqueeze(1)
            x = grey.expand(-1, self.sight.channels, -1, -1)
        sight, resize = self.sight, self.sight.resize
        size = (resize, resize) if isinstance(resize, int) else resize
        if size != tuple(x.shape[2:]):
            x = F.interpolate(x, size=size, mode="bicubic", antialias=True, align_corners=False)
        top, left = (size[0] - sight.height) // 2, (size[1] - sight.width) // 2
        x = x[:, :, top : top + sight.height, left : left + sight.width]
        return (255 * x).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
