"""What a backbone sees of a picture: its size, its colours and the values that they become."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from fastadapt.data.files import read_file, shown
from fastadapt.data.images.flatten import flatten
from fastadapt.data.images.images import MOST_BYTES, NORMALISATIONS, damaged, open_image, upright
from fastadapt.errors import ConfigError, DataError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Values = Literal["unit", "signed", "imagenet", "bytes"]
Resample = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
VALUES: dict[Values, tuple[float, tuple[float, ...], tuple[float, ...]]] = {
    "unit": (1 / 255, (0.0,), (1.0,)),
    "signed": (1 / 255, (0.5,), (0.5,)),
    "imagenet": (1 / 255, NORMALISATIONS["imagenet"][0] or (), NORMALISATIONS["imagenet"][1] or ()),
    "bytes": (1.0, (0.0,), (1.0,)),
}
"""Factor, mean and deviation: values 0..1, -1..1, those of ImageNet with mean 0 and deviation 1, or 0..255."""


_MOST = 2048


@dataclass(frozen=True)
class Sight:
    """Say how a picture becomes what a backbone takes.

    EXIF rotation, transparency, 16 bits and animations are treated as everywhere. The picture is made grey or RGB and
    resized, and of that the centre is taken. Small pictures are made larger. Then `x = (factor v - mean) / std` for a
    value `v`.

    Args:
        height: of what is taken, in pixels.
        width: likewise.
        resize: what the shorter side is brought to, or height and width, to which the picture is squeezed.
        resample: by which filter.
        factor: what values 0..255 are multiplied by.
        mean: taken from each channel after that.
        std: what each channel is divided by after that.
        channels: 1 (grey) or 3 (RGB).
        last: whether channels are the last axis of what the backbone takes.

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> Sight.named("signed", 2).values(torch.full((1, 2, 2, 3), 255, dtype=torch.uint8)).unique()
        tensor([1.])
    """

    height: int
    width: int
    resize: int | tuple[int, int]
    resample: Resample = "bicubic"
    factor: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channels: int = 3
    last: bool = False

    def __post_init__(self) -> None:
        if not (1 <= self.height <= _MOST and 1 <= self.width <= _MOST):
            raise ConfigError(f"a backbone's images have 1 to {_MOST} pixels a side, got {self.height}x{self.width}")
        first = (self.resize, self.resize) if isinstance(self.resize, int) else self.resize
        if not (self.height <= first[0] <= 2 * _MOST and self.width <= first[1] <= 2 * _MOST):
            raise ConfigError(
                f"of a picture that is resized to {self.resize} pixels no {self.height}x{self.width} can be taken"
            )
        if self.resample not in get_args(Resample):
            raise ConfigError(f"resample must be one of {', '.join(get_args(Resample))}, got {self.resample!r}")
        if self.channels not in (1, 3):
            raise ConfigError(f"a backbone takes 1 channel (grey) or 3 (RGB), got {self.channels}")
        for name in ("mean", "std"):
            value = getattr(self, name)
            if len(value) not in (1, self.channels) or (name == "std" and min(value) <= 0):
                positive = "positive " * (name == "std")
                raise ConfigError(
                    f"{name} needs 1 {positive}value, or one for each of {self.channels} channels, got {value}"
                )

    @staticmethod
    def named(values: Values, size: int, channels: int = 3, last: bool = False) -> "Sight":
        """Return the centre square, brought to `size` pixels, with values of a usual kind."""
        if values == "imagenet" and channels == 1:
            raise ConfigError("the values of imagenet are of 3 channels, and the backbone takes 1; choose others")
        factor, mean, std = VALUES[values]
        return Sight(size, size, size, factor=factor, mean=mean, std=std, channels=channels, last=last)

    def to_plain(self) -> dict[str, Any]:
        """Return all settings as JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def read(self, path: str | Path) -> np.ndarray:
        """Return the pixels of the picture in a file, `[height, width, channels]`, uint8.

        Raises:
            DataError: if it can't be read or decoded; one sentence says why.
        """
        content, name = read_file(path, limit=MOST_BYTES, kind="an image"), shown(path)
        try:
            picture = flatten(upright(open_image(content, name)))
            pixels = np.array(self.fitted(picture.convert("L" if self.channels == 1 else "RGB")))
        except DataError:
            raise
        except Exception as error:  # on broken bytes decoders raise anything
            raise damaged(name, error) from error
        return pixels[..., None] if pixels.ndim == 2 else pixels

    def fitted(self, picture: "Picture") -> "Picture":
        """Return the picture at the size that the backbone takes."""
        from PIL import Image

        kind = Image.Resampling[self.resample.upper()]
        if isinstance(self.resize, int):
            short, long = sorted(picture.size)
            longer = int(self.resize * long / short)
            shape = (self.resize, longer) if picture.width <= picture.height else (longer, self.resize)
        else:
            shape = (self.resize[1], self.resize[0])
        resized = picture.resize(shape, kind)
        left, top = (resized.width - self.width) // 2, (resized.height - self.height) // 2
        return resized.crop((left, top, left + self.width, top + self.height))

    def values(self, pixels: Tensor) -> Tensor:
        """Return what the backbone takes, float32, for pixels `[n, height, width, channels]`, uint8."""
        x = pixels.float() * self.factor
        x = (x - torch.tensor(self.mean)) / torch.tensor(self.std)
        return x if self.last else x.permute(0, 3, 1, 2).contiguous()
