"""Photographs to learn from: those of mini-ImageNet, made small. None of them is ever shown."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fastadapt.data.files import read_file, shown
from fastadapt.data.images.flatten import flatten
from fastadapt.data.images.images import MOST_BYTES, open_image, upright
from fastadapt.data.images.mini_imagenet import load_mini_imagenet
from fastadapt.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

SMALLEST = 32  # pixels a side of a picture to be shown


def small_photos(part: str, each: int, size: int, data: Path | None = None, complete: bool = True) -> Tensor:
    """Return photographs of one part of mini-ImageNet, `[M, size, size, 3]`, uint8, one of each class after another.

    Args:
        part: "train", "val" or "test".
        each: photographs of a class, at most; evenly spaced among them.
        size: pixels a side, made smaller with a Lanczos filter.
        data: see `load_mini_imagenet`.
        complete: see `load_mini_imagenet`.
    """
    from PIL import Image

    held = load_mini_imagenet(data, part=part, complete=complete)
    numbers = [np.flatnonzero(held.labels == label) for label in range(len(held.class_names))]
    chosen = [rows[np.linspace(0, len(rows) - 1, min(each, len(rows))).round().astype(int)] for rows in numbers]
    order = [rows[i] for i in range(max(map(len, chosen))) for rows in chosen if i < len(rows)]
    made = np.empty((len(order), size, size, 3), np.uint8)
    for i, number in enumerate(order):
        made[i] = _resized(Image.fromarray(held.images[int(number)].numpy()), size)
    return torch.from_numpy(made)


def own_picture(file: Path, sizes: Sequence[int]) -> list[np.ndarray]:
    """Return the middle square of a picture of the user's in some sizes, `[size, size, 3]`, uint8.

    Raises:
        DataError: if the file can't be read or decoded, or is too small.
    """
    content = read_file(file, limit=MOST_BYTES, kind="an image")
    picture = flatten(upright(open_image(content, shown(file)))).convert("RGB")
    side = min(picture.size)
    if side < SMALLEST:
        raise DataError(f"{shown(file)} has {picture.width}x{picture.height} pixels; give one of at least {SMALLEST}")
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    return [_resized(square, size) for size in sizes]


def _resized(picture: "Picture", size: int) -> np.ndarray:
    from PIL import Image

    return np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS))
