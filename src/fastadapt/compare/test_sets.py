"""Further sets of test tasks, on which methods show how far what they learned reaches: images of another kind.

Every image is brought to the pixels that the methods were trained on: grey or colour, their size, ink as they know it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fastadapt.data.files import shown
from fastadapt.data.images.class_settings import ClassData
from fastadapt.data.images.classes import ClassImages
from fastadapt.data.images.folder_images import Bad, load_folder
from fastadapt.data.images.images import NORMALISATIONS, ImageRecipe
from fastadapt.data.images.mini_imagenet import load_mini_imagenet
from fastadapt.data.images.omniglot import load_omniglot
from fastadapt.data.images.omniglot_splits import omniglot_split
from fastadapt.errors import ConfigError, DataError, MissingExtraError

Images = tuple[Tensor, np.ndarray, tuple[str, ...]]
"""uint8 `[M, H, W]` or `[M, H, W, 3]`, the number of each image's class, and the classes' names."""
_GREY = (0.299, 0.587, 0.114)  # of red, green and blue, as Pillow has it
_AT_ONCE = 500


def _characters(root: Path | None, size: int) -> Images:
    data = load_omniglot(root, size=size)
    chosen = ClassImages(data.images, data.labels, data.class_names).subset(omniglot_split("1100/100/423").test)
    return data.images, chosen.labels, chosen.class_names


def _photographs(root: Path | None, size: int) -> Images:
    data = load_mini_imagenet(root, part="test")
    return data.images, data.labels, data.class_names


def _digits(root: Path | None, size: int) -> Images:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtraError("the digits come with scikit-learn: pip install 'fastadapt[probe]'") from error
    found: Any = load_digits()
    ink = torch.from_numpy(found.images)  # 8x8, 0..16, drawn bright on dark
    return (255 - ink * (255 / 16)).round().to(torch.uint8), found.target, tuple(str(n) for n in range(10))


TEST_SETS: dict[str, tuple[str, Callable[[Path | None, int], Images]]] = {
    "omniglot": ("the 423 test characters of Omniglot", _characters),
    "mini-imagenet": ("photographs of the 20 test classes of mini-ImageNet", _photographs),
    "digits": ("handwritten digits of 8x8 pixels, which scikit-learn brings along", _digits),
}
"""Name -> what it is, and how it is read; any folder of class folders will do as well."""


def further_tests(
    names: Sequence[str], data: ClassData, root: Path | None = None, *, bad: Bad = "fail"
) -> dict[str, tuple[str, ClassImages]]:
    """Return name -> (what it is, test tasks) of sets of images that the methods did not train on.

    Args:
        names: of `TEST_SETS`, or folders that hold one folder for each class.
        data: the tasks that are trained for; these have the same ways, shots and queries.
        root: the folder that holds the data sets; None is FASTADAPT_DATA, then the user's cache.
        bad: what can't be used of a folder: refused or left out.

    Raises:
        ConfigError: if there is no such set, and no such folder.
        DataError: if its images can't be used, or are too few for such tasks.
        MissingExtraError: if the digits are asked for and scikit-learn is not installed.

    Example:
        >>> from fastadapt.data.settings import OmniglotData
        >>> words, tasks = further_tests(["digits"], OmniglotData(queries=15))["digits"]  # doctest: +SKIP
    """
    known: Any = data
    recipe = ImageRecipe(**{**known.input, "fit": "crop"})
    mean, std = NORMALISATIONS[recipe.normalise]
    found = {}
    for name in names:
        label, words, (images, labels, classes) = _read(name, recipe, root, bad)
        if label in found:
            raise ConfigError(f"{label} is named twice among the images to test on; name it once")
        try:
            found[label] = (
                words,
                ClassImages(
                    brought_to(images, recipe.size, recipe.channels),
                    labels,
                    classes,
                    ways=data.ways,
                    shots=data.shots,
                    queries=data.queries,
                    invert=recipe.invert,
                    mean=mean,
                    std=std,
                ),
            )
        except DataError as error:
            raise DataError(f"{shown(name)} can't be tested on: {error}") from None
    return found


def _read(name: str, recipe: ImageRecipe, root: Path | None, bad: Bad) -> tuple[str, str, Images]:
    if name in TEST_SETS:
        words, read = TEST_SETS[name]
        return name, words, read(root, recipe.size)
    folder = Path(name)
    if not folder.is_dir():
        some = ", ".join(TEST_SETS)
        raise ConfigError(f"there are no images {name!r} to test on; there are {some}, or a folder of class folders")
    images = load_folder(folder, recipe)
    label = shown(folder.resolve().name)
    return (
        label,
        f"the {len(images.class_names)} classes of {label}",
        (images.images, images.labels, images.class_names),
    )


def brought_to(images: Tensor, size: int, channels: int) -> Tensor:
    """Return images at another size, grey or in colour; themselves if they are so already.

    Args:
        images: `[M, H, W]` or `[M, H, W, 3]`, uint8.
        size: height and width in pixels.
        channels: 1 or 3.

    Returns:
        `[M, size, size]` or `[M, size, size, 3]`, uint8.

    Example:
        >>> brought_to(torch.full((2, 8, 8), 100, dtype=torch.uint8), 4, 3).unique()
        tensor([100], dtype=torch.uint8)
    """
    has = 1 if images.dim() == 3 else images.shape[3]
    if (images.shape[1], images.shape[2], has) == (size, size, channels):
        return images
    shape = (len(images), size, size) if channels == 1 else (len(images), size, size, 3)
    made = torch.empty(shape, dtype=torch.uint8)
    for first in range(0, len(images), _AT_ONCE):
        x = images[first : first + _AT_ONCE].float()
        x = x.unsqueeze(1) if has == 1 else x.permute(0, 3, 1, 2)
        if has == 3 and channels == 1:
            x = (x * torch.tensor(_GREY).view(1, 3, 1, 1)).sum(1, keepdim=True)
        x = F.interpolate(x, size=(size, size), mode="bilinear", antialias=True).round_().clamp_(0, 255)
        x = x.squeeze(1) if channels == 1 else x.expand(-1, 3, -1, -1).permute(0, 2, 3, 1)
        made[first : first + _AT_ONCE] = x.to(torch.uint8)
    return made
