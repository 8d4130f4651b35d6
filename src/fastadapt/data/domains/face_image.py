"""One face from a file: grey, square, of one size, small ones enlarged."""

from pathlib import Path

import numpy as np

from fastadapt.data.files import read_file, shown
from fastadapt.data.images.flatten import flatten
from fastadapt.data.images.images import MOST_BYTES, Fit, damaged, open_image, upright
from fastadapt.errors import DataError

LEAST = 16
"""Pixels of the shorter side, below which there is no face to be seen."""


def read_face(path: Path, pixels: int, fit: Fit = "crop") -> np.ndarray:
    """Return the image in a file as `[pixels, pixels]` of uint8; it should be one face that fills the picture.

    Args:
        path: a PNG, JPEG, WebP or GIF file.
        pixels: side of the result; larger images are averaged down (Lanczos), smaller ones enlarged (bicubic).
        fit: of an image that is not square "crop" takes the centre, "pad" adds grey, "refuse" refuses.

    Raises:
        DataError: if the file can't be read, decoded or made to fit.
    """
    from PIL import Image

    name = shown(path)
    content = read_file(path, limit=MOST_BYTES, kind="an image")
    try:
        picture = flatten(upright(open_image(content, name))).convert("L")
    except DataError:
        raise
    except Exception as error:  # on broken bytes decoders raise anything
        raise damaged(name, error) from error
    width, height = picture.size
    if min(width, height) < LEAST:
        raise DataError(f"{name} is {width}x{height} pixels, and a face needs {LEAST} at least; use a larger image")
    if width != height and fit == "refuse":
        raise DataError(
            f"{name} is {width}x{height} pixels and faces are square; take its centre with --fit crop, or fill it up "
            "with --fit pad"
        )
    if width != height and fit == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        picture = picture.crop((left, top, left + side, top + side))
    elif width != height:
        side = max(width, height)
        square = Image.new("L", (side, side), int(np.median(np.asarray(picture))))
        square.paste(picture, ((side - width) // 2, (side - height) // 2))
        picture = square
    kind = Image.Resampling.LANCZOS if picture.width > pixels else Image.Resampling.BICUBIC
    return np.asarray(picture.resize((pixels, pixels), kind), dtype=np.uint8)
