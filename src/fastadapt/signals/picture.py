"""The middle square of a picture, as a photograph to be fitted, and the picture of what a network makes of it."""

import io
from typing import TYPE_CHECKING

import numpy as np

from fastadapt.data.images.flatten import flatten
from fastadapt.data.images.images import damaged, open_image, upright
from fastadapt.errors import ConfigError, DataError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

MOST_PIXELS = 120_000_000
"""Of a user's own file on the user's own machine; the service takes less."""
SIDE = 64
"""Pixels a side unless said otherwise: those at which the start was learned."""
SMALLEST, LARGEST_SIDE = 16, 256


def check_side(side: int) -> None:
    """Raise `ConfigError` unless a photograph can be fitted at so many pixels a side."""
    if not SMALLEST <= side <= LARGEST_SIDE:
        raise ConfigError(f"a photograph is fitted at {SMALLEST} to {LARGEST_SIDE} pixels a side, got {side}")


def square(content: bytes, name: str, side: int, most_pixels: int = MOST_PIXELS) -> np.ndarray:
    """Return the middle square of a picture, `[n, n, 3]`, uint8.

    EXIF rotation is applied, transparency laid on white (on black where white would hide what is drawn), 16-bit grey
    scaled; of an animation the first frame is taken.

    Args:
        content: the bytes of a PNG, JPEG, WebP or GIF file.
        name: what to call it in a message.
        side: pixels a side; a smaller picture keeps its own, n.
        most_pixels: that are decoded.

    Raises:
        ConfigError: for a side outside 16..256.
        DataError: if it can't be decoded, or is too small or too large.
    """
    check_side(side)
    from PIL import Image

    try:
        picture = _smaller(upright(open_image(content, name, most_pixels)), side)
        picture = flatten(picture).convert("RGB")
    except DataError:
        raise
    except Exception as error:  # on broken bytes decoders raise anything
        raise damaged(name, error) from error
    width, height = picture.size
    cut = min(width, height)
    if cut < SMALLEST:
        raise DataError(f"{name} is {width}x{height} pixels; give a picture of at least {SMALLEST}x{SMALLEST}")
    left, top = (width - cut) // 2, (height - cut) // 2
    box = (left, top, left + cut, top + cut)
    n = min(side, cut)
    return np.array(picture.resize((n, n), Image.Resampling.LANCZOS, box=box))


def _smaller(picture: "Picture", side: int) -> "Picture":
    """Return a large picture at a whole fraction of its size, by means of its pixels: all else is quicker then."""
    factor = min(picture.size) // (8 * side)
    plain = picture.mode in ("L", "LA", "RGB", "RGBA", "CMYK") and "transparency" not in picture.info
    return picture.reduce(factor) if plain and factor > 1 else picture


def as_png(values: np.ndarray) -> bytes:
    """Return values `[h, w, 3]`, 0..1, as a PNG; what lies outside is cut.

    Example:
        >>> as_png(np.zeros((2, 2, 3)))[1:4]
        b'PNG'
    """
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray((np.clip(values, 0, 1) * 255).round().astype(np.uint8)).save(content, "PNG")
    return content.getvalue()
