"""How the pixels of a face become what the network sees."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fastadapt.errors import ConfigError

WINDOW = 7
"""Side of the window over which contrast is normalised."""
SOFT = 0.1
"""What is added to the local deviation, so that flat regions are not blown up into noise."""


@dataclass(frozen=True)
class FaceRecipe:
    """Say how `[n, P, P]` grey pixels of 0..255 become `[n, 1, S, S]`.

    `v = (pixel - 127.5) / 128`, averaged over squares where S is smaller than P. With `contrast` each pixel then is
    `(v - local mean) / (local deviation + 0.1)` over a window of 7 x 7.

    Args:
        pixels: P, side of the images as they are kept.
        size: S, side of what the network sees; P is a multiple of it.
        contrast: normalise local contrast, which takes away most of what light and paper add.

    Raises:
        ConfigError: for sizes that do not fit.

    Example:
        >>> FaceRecipe(4, 2, contrast=False).prepare(np.full((1, 4, 4), 255, dtype=np.uint8))[0, 0, 0, 0]
        tensor(0.9961)
    """

    pixels: int = 64
    size: int = 32
    contrast: bool = True

    def __post_init__(self) -> None:
        if not (0 < self.size <= self.pixels) or self.pixels % self.size:
            raise ConfigError(
                f"faces are averaged from {self.pixels} to {self.size} pixels a side, and that needs a whole number of "
                f"pixels for each; choose a divisor of {self.pixels}"
            )
        if self.contrast and self.size < WINDOW:
            raise ConfigError(f"contrast is normalised over {WINDOW} pixels, and faces of {self.size} are smaller")

    def prepare(self, images: np.ndarray | Tensor) -> Tensor:
        """Return `[n, 1, size, size]` for uint8 pixels `[n, pixels, pixels]`."""
        pixels = torch.as_tensor(images)
        values = (pixels.to(torch.float32).unsqueeze(1) - 127.5) / 128
        if self.size != self.pixels:
            values = F.avg_pool2d(values, self.pixels // self.size)
        return normalised(values) if self.contrast else values


def normalised(images: Tensor) -> Tensor:
    """Return `(x - local mean) / (local deviation + 0.1)` of images `[n, 1, S, S]`, over what the window covers."""

    def local(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, WINDOW, stride=1, padding=WINDOW // 2, count_include_pad=False)

    centred = images - local(images)
    deviation = (local(images.square()) - local(images).square()).clamp(min=0).sqrt()
    return centred / (deviation + SOFT)


def moved(images: Tensor, rng: np.random.Generator, flip: bool, shift: int) -> Tensor:
    """Return images `[n, 1, S, S]`, each mirrored by chance and shifted by up to `shift` pixels; borders repeat.

    Args:
        images: the images.
        rng: where chance comes from.
        flip: whether half of them are mirrored.
        shift: the most pixels to each side; 0 leaves them in place.
    """
    if flip:
        mirrored = torch.from_numpy(rng.random(len(images)) < 0.5)
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    if not shift:
        return images
    side = images.shape[-1]
    wide = F.pad(images, (shift,) * 4, mode="replicate")
    down, right = (torch.from_numpy(rng.integers(0, 2 * shift + 1, len(images))) for _ in range(2))
    steps = torch.arange(side)
    rows, columns = down[:, None] + steps, right[:, None] + steps
    each = torch.arange(len(images))[:, None, None]
    return wide[each, 0, rows[:, :, None], columns[:, None, :]].unsqueeze(1)
