"""What is to be known of an image file before it is trained on: is it whole, how large, is it grey, is it a copy?"""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastadapt.data.files import read_file, shown
from fastadapt.data.images.flatten import background, flatten, is_clear
from fastadapt.data.images.images import MOST_BYTES, Fit, damaged, open_image, upright
from fastadapt.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


_PLAIN = 64  # levels of 256: a range that no one calls small


@dataclass(frozen=True)
class ImageFacts:
    """Hold what is known of a file that can be decoded.

    Args:
        width: in pixels, after the turn that its EXIF data ask for.
        height: likewise.
        grey: whether no pixel has a colour, however the file stores them.
        digest: of the file's content; equal digests, equal files.
        notes: what is changed before it is used, as (kind, words).
        spreads: by how many levels of 256 the brightest and the darkest point differ, in any channel, once what is used
            of the image is brought to 84 and to 28 pixels.
        bits: of 16-bit grey, how many the largest value takes; None for 8 bits.
        picture: a digest of the pixels; equal digests, equal pictures, whatever the format.
    """

    width: int
    height: int
    grey: bool
    digest: str
    notes: tuple[tuple[str, str], ...] = ()
    spreads: tuple[int, int] = (255, 255)
    bits: int | None = None
    picture: str = ""


def image_facts(path: str | Path, fit: Fit = "pad") -> ImageFacts:
    """Read and decode a whole file, and return what is known of it.

    Args:
        path: a PNG, JPEG, WebP or GIF file of at most 10 MB and 16 million pixels.
        fit: what becomes of an image that is not square: of one that is cropped only the centre counts for `spreads`.

    Raises:
        DataError: if it can't be read or decoded; one sentence says why.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> path = Path(tempfile.mkdtemp(), "red.png")
        >>> Image.new("RGB", (40, 30), "red").save(path)
        >>> facts = image_facts(path)
        >>> facts.width, facts.height, facts.grey
        (40, 30, False)
    """
    content, name = read_file(path, limit=MOST_BYTES, kind="an image"), shown(path)
    try:
        picture = open_image(content, name)
        flat = flatten(upright(picture))
        grey = _is_grey(flat)
        flat = flat.convert("L") if grey else flat  # one picture has one digest, however it is stored
        spreads, bits = _spreads(flat, fit), _bits(picture)
        notes = tuple(_notes(picture))  # last, as looking for further frames moves on in the file
    except DataError:
        raise
    except Exception as error:  # on broken bytes decoders raise anything
        raise damaged(name, error) from error
    seen = hashlib.blake2b(repr(flat.size).encode() + flat.tobytes(), digest_size=16).hexdigest()
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    return ImageFacts(*flat.size, grey, digest, notes, spreads, bits, seen)


def _spreads(flat: "Picture", fit: Fit) -> tuple[int, int]:
    """Return the range of levels in the part that is used, after it is made as small as the network will see it."""
    from PIL import Image

    side = min(flat.size)
    if fit == "crop":
        left, top = (flat.width - side) // 2, (flat.height - side) // 2
        flat = flat.crop((left, top, left + side, top + side))

    def spread(size: int) -> int:
        scale = size / max(flat.size)
        shape = (max(1, round(flat.width * scale)), max(1, round(flat.height * scale)))
        small = flat.resize(shape, Image.Resampling.BOX) if scale < 1 else flat
        extrema = [band.getextrema() for band in small.split()]
        return int(max(high - low for low, high in extrema))  # type: ignore[operator]

    at_28 = spread(28)
    return (at_28 if at_28 >= _PLAIN else spread(84)), at_28  # what is smaller has no larger range


def _bits(picture: "Picture") -> int | None:
    """Return how many bits the largest value of 16-bit grey takes."""
    return int(np.asarray(picture).max()).bit_length() if picture.mode.startswith("I") else None


def _notes(picture: "Picture") -> list[tuple[str, str]]:
    notes = []
    if picture.mode == "CMYK":
        notes.append(("CMYK", "has CMYK colours, which are converted to RGB"))
    if picture.mode.startswith("I"):
        notes.append(("16 bits", "has 16 bits a pixel, which are scaled to 8"))
    if is_clear(picture):
        if not picture.mode.startswith("I") and background(picture.convert("RGBA")) == "black":
            words = "is drawn in white on transparency, which becomes black so that the drawing shows"
            notes.append(("light on transparent", words))
        else:
            notes.append(("transparent", "may be transparent, which becomes white"))
    moving = False
    with suppress(Exception):  # the frames after the first are not needed, so they may be broken
        moving = bool(getattr(picture, "is_animated", False))
    if moving:
        notes.append(("animation", "is an animation, of which the first frame is used"))
    return notes


def _is_grey(flat: "Picture") -> bool:
    """Whether red, green and blue are equal everywhere in a picture of mode 1, L or RGB."""
    if flat.mode != "RGB":
        return True
    pixels = np.asarray(flat)
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    return bool(np.array_equal(red, green) and np.array_equal(green, blue))
