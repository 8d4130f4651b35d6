"""Your own images: a folder with one sub-folder for each class.

    drawings/
      alpha/  1.png  2.png
      beta/   1.png  2.png

Whatever is wrong with it is said at once, in one sentence for each problem.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fastadapt.data.files import complain, reason, shown
from fastadapt.data.images.images import ImageRecipe
from fastadapt.data.images.tree import CLUTTER, SUFFIXES
from fastadapt.data.names import composed, told_alike
from fastadapt.errors import DataError

logger = logging.getLogger(__name__)

_WANTED = "make one sub-folder for each class and put its images in it"


@dataclass
class _Listing:
    """Hold the files of each class, by its name, and what is wrong with the folder."""

    classes: dict[str, list[Path]]
    problems: list[str]


def read_class_folders(
    folder: str | Path,
    recipe: ImageRecipe,
    *,
    ways: int | None = None,
    fewest: int | None = None,
    shots: int | None = None,
) -> tuple[tuple[Tensor, Tensor], list[str]]:
    """Read a support set from a folder with one sub-folder for each class.

    Classes are numbered in the order of their names, images follow in the order of theirs. Names that
    begin with a dot are ignored; every other file in a class folder has to be an image.

    Args:
        folder: the folder.
        recipe: how a file becomes a tensor.
        ways: how many classes there must be, the outputs of the model; None takes any number from 2 on.
        fewest: with how few classes the model can do; None needs all of `ways`.
        shots: images to take of each class, the first by name; None takes all.

    Returns:
        `((x, y), labels)`: `x: [n, C, size, size]`, values 0..1; `y: [n]`, int64, 0..ways-1; and the class
        names, where `labels[y[i]]` is the class of `x[i]`.

    Raises:
        DataError: if the folder or a file in it can't be used; all that is wrong is found in one pass.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as drawings:
        ...     for name, grey in (("dark", 0), ("light", 255)):
        ...         Path(drawings, name).mkdir()
        ...         Image.new("L", (28, 28), grey).save(Path(drawings, name, "1.png"))
        ...     (x, y), labels = read_class_folders(drawings, ImageRecipe(28))
        >>> x.shape, y, labels
        (torch.Size([2, 1, 28, 28]), tensor([0, 1]), ['dark', 'light'])
    """
    folder = _unwrapped(Path(folder))
    listing = _list(folder)
    classes, problems = listing.classes, listing.problems
    wanted = fewest or (2 if ways is None else ways)
    has = f"{shown(folder)} has {len(classes)}"
    names = f"({', '.join(map(shown, list(classes)[:10]))}{', ...' if len(classes) > 10 else ''})"
    if len(classes) < wanted:
        least = f"at least {wanted}" if ways is None or wanted < ways else f"exactly {wanted}"
        problems.insert(0, f"{has} class folders {names}, the model needs {least}; add the missing ones")
    too_many = ways is not None and len(classes) > ways
    if too_many:
        most = f"at most {ways}" if fewest is not None and fewest < (ways or 0) else f"exactly {ways}"
        problems.insert(0, f"{has} class folders {names}, the model needs {most}; remove some")
    images: list[Tensor] = []
    numbers: list[int] = []
    for number, (name, files) in enumerate(classes.items()):
        if shots is not None and 0 < len(files) < shots:
            missing = shots - len(files)
            problems.append(f"{shown(folder / name)} has {len(files)} of the {shots} images asked for; add {missing}")
        # The wrong folder may hold a million images: no need to decode them to say so.
        for path in [] if too_many else files[:shots]:
            try:
                images.append(recipe.read(path))
                numbers.append(number)
            except DataError as error:
                problems.append(str(error))
    if not problems:
        problems += _shared(images, numbers, list(classes))
    if problems:
        raise complain(problems, shown(folder))
    for sentence in told_alike("the classes", classes, "they are two here; put them together if they are one"):
        logger.warning("note: %s: %s", shown(folder), sentence)
    return (torch.stack(images), torch.tensor(numbers)), list(classes)


def _unwrapped(folder: Path) -> Path:
    """Return the folder that holds the class folders, where an archive was unpacked to one around them."""
    inside = _entries(folder)
    while len(inside) == 1 and inside[0].is_dir():
        deeper = _entries(inside[0])
        if not deeper or not all(path.is_dir() for path in deeper):
            break
        folder, inside = inside[0], deeper
    return folder


def _shared(images: list[Tensor], numbers: list[int], labels: list[str]) -> list[str]:
    """Return a sentence for each image that stands in two classes, of which an answer can't be right for both."""
    first: dict[bytes, int] = {}
    found = []
    for image, number in zip(images, numbers, strict=True):
        owner = first.setdefault(image.numpy().tobytes(), number)
        if owner != number:
            both = f"{shown(labels[owner])!r} and {shown(labels[number])!r}"
            found.append(f"{both} have the same image; keep it in one of them")
    return list(dict.fromkeys(found))


def _list(folder: Path) -> _Listing:
    """Return the classes and their files, and what can be said without opening a file.

    Raises:
        DataError: if there is no class at all.
    """
    listing = _Listing({}, [])
    loose: list[Path] = []
    for path in _entries(folder):
        if path.is_dir():
            listing.classes.setdefault(composed(path.name), []).extend(_files(path, listing.problems))
        elif path.is_symlink() and not path.exists():
            listing.problems.append(f"{shown(path)} is a symbolic link that leads nowhere; remove it")
        elif path.suffix.lower() in SUFFIXES:
            loose.append(path)
    if not listing.classes:
        found = f"its {len(loose)} images belong to no class" if loose else "it has no sub-folders"
        raise DataError(f"can't use {shown(folder)}: {found}; {_WANTED}")
    listing.problems.extend(f"{shown(path)} lies beside the class folders; move it into one of them" for path in loose)
    return listing


def _files(folder: Path, problems: list[str]) -> list[Path]:
    """Return the files of one class; append what is wrong with its folder to `problems`."""
    try:
        paths = _entries(folder)
    except DataError as error:
        problems.append(str(error))
        return []
    folders = [path for path in paths if path.is_dir()]
    problems.extend(f"{shown(path)} is a folder inside a class folder; move its images up" for path in folders)
    files = [path for path in paths if path not in folders]
    if not paths:
        problems.append(f"{shown(folder)} has no images; add some or remove the folder")
    return files


def _entries(folder: Path) -> list[Path]:
    """Return what is in a folder, by name, without the hidden."""
    try:
        return sorted(
            (path for path in folder.iterdir() if not path.name.startswith(".") and path.name.lower() not in CLUTTER),
            key=lambda path: path.name,
        )
    except NotADirectoryError as error:
        raise DataError(f"{shown(folder)} is a file, not a folder; {_WANTED}") from error
    except FileNotFoundError as error:
        raise DataError(f"there is no folder {shown(folder)}; check the path") from error
    except OSError as error:
        raise DataError(f"can't read the folder {shown(folder)}: {reason(error)}") from error
