"""Images from files: the only door for bytes that nobody vouches for.

Four formats are decoded and no others; the size is read from the header before a pixel is; what a
decoder makes of broken bytes, the caller sees a `DataError`. Pillow is imported at the first image.
"""

import io
import threading
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from fastadapt.data.files import read_file, shown
from fastadapt.data.images.flatten import flatten
from fastadapt.data.images.other_formats import other_format
from fastadapt.errors import ConfigError, DataError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Fit = Literal["refuse", "pad", "crop"]
Normalise = Literal["none", "imagenet"]

NORMALISATIONS: dict[str, tuple[tuple[float, ...] | None, tuple[float, ...] | None]] = {
    "none": (None, None),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Mean and standard deviation of each channel, in units of values 0..1."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
MOST_PIXELS = 16_000_000
MOST_BYTES = 10_000_000
MOST_SCANS = 100
"""Scans of a progressive JPEG; usual ones have ten, and each is decoded over the whole image."""
_LARGEST_SIDE = 1024
_ORIENTATION = 0x0112  # the EXIF tag
# Changing the list of warning filters is not safe between threads.
_opening = threading.Lock()


@dataclass(frozen=True)
class ImageRecipe:
    """Say how a file becomes the tensor that a model was trained on.

    EXIF rotation is applied, transparency is laid on white (on black where white would hide the drawing), 16-bit grey
    is scaled, and of an animation the first frame is taken. Then the image is made grey or RGB, square and small.

    Args:
        size: height and width of the result in pixels, 1..1024.
        channels: 1 (grey) or 3 (RGB), `C`.
        invert: true gives `1 - v/255` (ink 1, paper 0), false gives `v/255`, for a pixel value `v`.
        resize: "lanczos", from 8 bits (MAML's Omniglot); "nearest", grey first cut to black and white
            at mid-grey (Reptile's).
        fit: what becomes of an image that is not square: "refuse" it, "pad" it with the median colour
            of its border, or "crop" its centre.
        normalise: "imagenet" brings the channels to the mean 0 and deviation 1 that they have over ImageNet; "none"
            leaves values 0..1.
        kind: always "image"; it tells recipes apart in a predictor's JSON.

    Raises:
        ConfigError: if a setting is outside its range.

    Example:
        >>> from PIL import Image
        >>> content = io.BytesIO()
        >>> Image.new("L", (32, 32), 255).save(content, "PNG")
        >>> ImageRecipe(28, invert=True).decode(content.getvalue(), "white.png").sum()
        tensor(0.)
    """

    size: int
    channels: Literal[1, 3] = 1
    invert: bool = False
    resize: Literal["lanczos", "nearest"] = "lanczos"
    fit: Fit = "refuse"
    normalise: Normalise = "none"
    kind: Literal["image"] = "image"

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or not 1 <= self.size <= _LARGEST_SIDE:
            raise ConfigError(f"an image's size must be 1..{_LARGEST_SIDE} pixels, got {self.size!r}")
        if self.channels not in (1, 3):
            raise ConfigError(f"an image has 1 channel (grey) or 3 (RGB), got {self.channels!r}")
        if self.resize not in ("lanczos", "nearest"):
            raise ConfigError(f"resize must be 'lanczos' or 'nearest', got {self.resize!r}")
        if self.fit not in get_args(Fit):
            raise ConfigError(f"fit must be 'refuse', 'pad' or 'crop', got {self.fit!r}")
        if self.normalise not in get_args(Normalise) or (self.normalise != "none" and self.channels == 1):
            raise ConfigError(
                f"normalise must be 'none', or 'imagenet' for images of 3 channels, got {self.normalise!r} "
                f"for {self.channels}"
            )
        if self.kind != "image":
            raise ConfigError(f"this is not the recipe of an image but of {self.kind!r}")

    def read(self, path: str | Path) -> Tensor:
        """Return the image in a file as `[C, size, size]`, values 0..1 before they are normalised.

        Args:
            path: a PNG, JPEG, WebP or GIF file of at most 10 MB and 16 million pixels.

        Raises:
            DataError: if the file can't be read, decoded or made to fit; one sentence says why.
        """
        return self.decode(read_file(path, limit=MOST_BYTES, kind="an image"), shown(path))

    def decode(self, content: bytes, name: str) -> Tensor:
        """Return the image in `content`, as `read` does.

        Args:
            content: the bytes of an image file.
            name: what to call it in a message.

        Raises:
            DataError: as `read`.
        """
        pixels = torch.from_numpy(self.pixels(content, name).astype(np.float32)).div_(255)
        pixels = pixels.unsqueeze(0) if self.channels == 1 else pixels.permute(2, 0, 1).contiguous()
        pixels = torch.sub(1.0, pixels) if self.invert else pixels
        mean, std = NORMALISATIONS[self.normalise]
        if mean is not None and std is not None:
            pixels = (pixels - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
        return pixels

    def read_pixels(self, path: str | Path) -> np.ndarray:
        """Return the pixels of the image in a file, as `pixels` does.

        Raises:
            DataError: as `read`.
        """
        return self.pixels(read_file(path, limit=MOST_BYTES, kind="an image"), shown(path))

    def pixels(self, content: bytes, name: str) -> np.ndarray:
        """Return the image in `content` as it is kept: `[size, size]` or `[size, size, 3]`, uint8, not yet inverted.

        Args:
            content: the bytes of an image file.
            name: what to call it in a message.

        Raises:
            DataError: as `read`.
        """
        if len(content) > MOST_BYTES:
            raise DataError(f"{name} is larger than {MOST_BYTES / 1e6:g} MB, the limit for an image; make it smaller")
        try:
            picture = flatten(upright(open_image(content, name)))
            return np.array(self._fitted(picture.convert("L" if self.channels == 1 else "RGB"), name))
        except DataError:
            raise
        except Exception as error:  # on broken bytes decoders raise anything, from EOFError to IndexError
            raise damaged(name, error) from error

    def misfit(self, width: int, height: int, name: str) -> str | None:
        """Return a sentence on why an image of `width` times `height` pixels can't be used, or None if it can."""
        if width != height and self.fit == "refuse":
            return (
                f"{name} is {width}x{height} pixels and the model takes square images; fill it up with --fit pad, "
                "or take its centre with --fit crop"
            )
        if (max if self.fit == "pad" else min)(width, height) < self.size:
            return (
                f"{name} is {width}x{height} pixels, the model needs at least {self.size}x{self.size}; "
                "use a larger image"
            )
        return None

    def _fitted(self, picture: "Picture", name: str) -> "Picture":
        from PIL import Image

        width, height = picture.size
        if problem := self.misfit(width, height, name):
            raise DataError(problem)
        if self.fit == "crop":
            side = min(width, height)
            left, top = (width - side) // 2, (height - side) // 2
            picture = picture.crop((left, top, left + side, top + side))
        if self.resize == "nearest" and self.channels == 1:
            # Cut rather than dither: dots that nearest then picks or misses would be noise.
            picture = picture.convert("1", dither=Image.Dither.NONE)
        # The long side becomes `size`; padding afterwards keeps a very long image from growing into a huge square.
        scale = self.size / max(picture.size)
        shape = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        kind = Image.Resampling.LANCZOS if self.resize == "lanczos" else Image.Resampling.NEAREST
        return _padded(picture.resize(shape, kind).convert("L" if self.channels == 1 else "RGB"), self.size)


def damaged(name: str, error: Exception) -> DataError:
    """Return the error for an image that a decoder could make nothing of."""
    return DataError(f"can't decode {name}: the image is damaged or cut off ({error}); save it again")


def open_image(content: bytes, name: str, most_pixels: int = MOST_PIXELS) -> "Picture":
    """Return the decoded first frame, after the size in the header was found acceptable.

    Raises:
        DataError: if it is no image of a known format, or too large; a decoder may raise anything else.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with _opening, warnings.catch_warnings():
            # Pillow warns from 89 million pixels on, where this refuses anyway.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError as error:
        other = other_format(content)
        what = f"but {other} file" if other else "or is damaged"
        raise DataError(f"{name} is not a PNG, JPEG, WebP or GIF image, {what}; save it as PNG") from error
    except Image.DecompressionBombError as error:
        raise DataError(_too_many(name, "over 178 million", most_pixels)) from error
    width, height = picture.size
    if width * height > most_pixels:
        raise DataError(_too_many(name, f"{width}x{height}", most_pixels))
    # within the packed pixels a byte ff is never followed by da, so this counts the beginnings of scans
    if picture.format == "JPEG" and (scans := content.count(b"\xff\xda")) > MOST_SCANS:
        raise DataError(f"{name} has {scans} scans, the most allowed are {MOST_SCANS}; save it again")
    picture.load()
    return picture


def _too_many(name: str, found: str, most: int) -> str:
    return f"{name} has {found} pixels, the most allowed are {most // 1_000_000} million; make it smaller"


def upright(picture: "Picture") -> "Picture":
    """Return the picture turned as its EXIF data say; unreadable EXIF data are no reason to refuse it."""
    from PIL import Image

    turn = Image.Transpose
    turns = {
        2: turn.FLIP_LEFT_RIGHT,
        3: turn.ROTATE_180,
        4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE,
        6: turn.ROTATE_270,
        7: turn.TRANSVERSE,
        8: turn.ROTATE_90,
    }
    orientation: Any = None
    with suppress(Exception):
        orientation = turns.get(picture.getexif().get(_ORIENTATION, 1))
    return picture if orientation is None else picture.transpose(orientation)


def _padded(picture: "Picture", size: int) -> "Picture":
    """Return the picture in the middle of a square, the rest filled with the median colour of its border."""
    from PIL import Image

    if picture.size == (size, size):
        return picture
    pixels = np.asarray(picture)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    colour = np.median(border, axis=0).astype(np.uint8)
    square = Image.new(picture.mode, (size, size), int(colour) if colour.ndim == 0 else tuple(int(c) for c in colour))
    square.paste(picture, ((size - picture.width) // 2, (size - picture.height) // 2))
    return square
