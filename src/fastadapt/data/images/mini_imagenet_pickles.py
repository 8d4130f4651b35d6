"""The two pickles of mini-ImageNet that are passed around.

* `mini-imagenet-cache-<part>.pkl`: `image_data`, uint8 `[N, 84, 84, 3]`, and `class_dict`, the rows of each class;
* `miniImageNet_category_split_<part>.pickle`: `data`, of the same form, `labels`, one number for each image, and mostly
  `catname2label`, the number of each class.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastadapt.data.files import shown
from fastadapt.data.images.unpickle import read_pickle
from fastadapt.errors import DataError


@dataclass(frozen=True)
class Arrays:
    """Hold the images of a pickle.

    Args:
        images: `[N, side, side, 3]`, uint8.
        rows: for each class, by its name, the rows of its images in the pickle's order.
        named: whether the names are known; otherwise they are made of the labels.
    """

    images: np.ndarray
    rows: dict[str, list[int]]
    named: bool


def read_arrays(path: Path, side: int) -> Arrays:
    """Return the images of a pickle and their classes.

    Args:
        path: the pickle.
        side: the height and width that the images must have.

    Raises:
        DataError: if it can't be read safely, or is none of the two.
    """
    content = read_pickle(path)
    if not isinstance(content, dict):
        raise DataError(f"{shown(path)} holds a {type(content).__name__}, no dictionary of arrays; get another file")
    if {"image_data", "class_dict"} <= content.keys():
        images, named = _images(content["image_data"], side, path), True
        rows = _rows_of_classes(content["class_dict"], len(images), path)
    elif {"data", "labels"} <= content.keys():
        images = _images(content["data"], side, path)
        rows, named = _rows_of_labels(content["labels"], content.get("catname2label"), len(images), path)
    else:
        keys = ", ".join(shown(str(key)) for key in list(content)[:10])
        raise DataError(
            f"{shown(path)} has the keys {keys}; mini-ImageNet's have image_data and class_dict, or data and labels"
        )
    return Arrays(images, {name: rows[name] for name in sorted(rows)}, named)


def _images(images: Any, side: int, path: Path) -> np.ndarray:
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != (side, side, 3):
        found = f"{images.dtype} {list(images.shape)}" if isinstance(images, np.ndarray) else type(images).__name__
        raise DataError(f"the images in {shown(path)} must be uint8 [N, {side}, {side}, 3], got {found}")
    return images


def _rows_of_classes(classes: Any, count: int, path: Path) -> dict[str, list[int]]:
    if not isinstance(classes, dict) or not all(isinstance(name, str) for name in classes):
        raise DataError(f"class_dict in {shown(path)} must have the rows of each class by its name; get another file")
    rows = {name: _integers(numbers, f"the rows of class {shown(name)}", path) for name, numbers in classes.items()}
    every = np.concatenate([np.zeros(0, np.int64), *rows.values()])
    if len(every) and (every.min() < 0 or every.max() >= count):
        raise DataError(f"class_dict in {shown(path)} names the rows {every.min()}..{every.max()} of {count} images")
    if len(np.unique(every)) != len(every):
        raise DataError(f"class_dict in {shown(path)} names an image more than once; get another file")
    return {name: numbers.tolist() for name, numbers in rows.items()}


def _rows_of_labels(labels: Any, names: Any, count: int, path: Path) -> tuple[dict[str, list[int]], bool]:
    numbers = _integers(labels, "labels", path)
    if len(numbers) != count:
        raise DataError(f"{shown(path)} has {count} images and {len(numbers)} labels; get another file")
    found = np.unique(numbers).tolist()
    known = {n: name for name, n in names.items() if isinstance(n, int)} if isinstance(names, dict) else {}
    named = all(isinstance(known.get(number), str) for number in found)
    rows = {known[n] if named else f"class {n:02d}": np.flatnonzero(numbers == n).tolist() for n in found}
    return rows, named


def _integers(values: Any, what: str, path: Path) -> np.ndarray:
    if isinstance(values, list | tuple) and all(type(value) is int and abs(value) < 2**62 for value in values):
        values = np.array(values, dtype=np.int64)
    if not isinstance(values, np.ndarray) or values.ndim != 1 or values.dtype.kind not in "iu":
        raise DataError(f"{what} in {shown(path)} must be a list of whole numbers; get another file")
    return values.astype(np.int64)
