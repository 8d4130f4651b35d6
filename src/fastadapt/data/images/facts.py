"""What is to be known of an image file before it is trained on: is it whole, how large, is it grey, is it a copy?"""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastadapt.data.files import read_file, shown
from fastadapt.data.images.images import MOST_BYTES, damaged, on_white, open_image, upright
from fastadapt.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


@dataclass(frozen=True)
class ImageFacts:
    """Hold what is known of a file that can be decoded.

    Args:
        width: in pixels, after the turn that its EXIF data ask for.
        height: likewise.
        grey: whether no pixel has a colour, however the file stores them.
        digest: of the file's content; equal digests, equal files.
        notes: what is changed before it is used, as (kind, words).
    """

    width: int
    height: int
    grey: bool
    digest: str
    notes: tuple[tuple[str, str], ...] = ()


def image_facts(path: str | Path) -> ImageFacts:
    """Read and decode a whole file, and return what is known of it.

    Args:
        path: a PNG, JPEG, WebP or GIF file of at most 10 MB and 16 million pixels.

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
        flat = on_white(upright(picture))
        grey = _is_grey(flat)
        notes = tuple(_notes(picture))  # last, as looking for further frames moves on in the file
    except DataError:
        raise
    except Exception as error:  # on broken bytes decoders raise anything
        raise damaged(name, error) from error
    return ImageFacts(*flat.size, grey, hashlib.blake2b(content, digest_size=16).hexdigest(), notes)


def _notes(picture: "Picture") -> list[tuple[str, str]]:
    notes = []
    if picture.mode == "CMYK":
        notes.append(("CMYK", "has CMYK colours, which are converted to RGB"))
    if picture.mode.startswith("I"):
        notes.append(("16 bits", "has 16 bits a pixel, which are scaled to 8"))
    if {"A", "a"} & set(picture.getbands()) or "transparency" in picture.info:
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
