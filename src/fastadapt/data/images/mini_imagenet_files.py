"""Where the images of mini-ImageNet lie, in the layouts that people have, and how each image is read.

For one part, for example `train`, in a data folder:

* `train/<wnid>/<name>.jpg`: class folders, or `train.zip` that holds such folders;
* `train.csv` (columns `filename`, `label`) beside a folder `images/` or `images.zip`: the lists of Ravi and Larochelle;
* `mini-imagenet-cache-train.pkl`, or `miniImageNet_category_split_train_phase_train.pickle`: pickled arrays.
"""

import csv
import hashlib
import io
import os
import re
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from fastadapt.data.download import data_folders
from fastadapt.data.files import complain, read_file, reason, shown
from fastadapt.data.images.flatten import flatten
from fastadapt.data.images.images import MOST_BYTES, open_image
from fastadapt.data.images.mini_imagenet_pickles import read_arrays
from fastadapt.errors import DataError

SIDE = 84
"""Height and width of an image in pixels."""

_FOLDERS = ("mini_imagenet", "mini-imagenet", "miniImageNet")
_NAMES = {"train": ("train",), "val": ("val", "validation"), "test": ("test",)}
_PHASES = {"train": "train_phase_train", "val": "val", "test": "test"}
_CLASS = re.compile(r"n\d{8}")
_SUFFIXES = (".jpg", ".jpeg", ".png")
_LONGEST_LIST = 50_000_000  # bytes; the real lists have 1.2 million at most


@dataclass(frozen=True)
class PartSource:
    """Say where one part of the data set lies.

    Args:
        part: "train", "val" or "test".
        path: a folder of class folders, an archive of them, a list (CSV) or a pickle.
        images: the folder or archive of a list's images.
    """

    part: str
    path: Path
    images: Path | None = None

    def __str__(self) -> str:
        """Return the path, for a message."""
        return shown(self.path)


@dataclass(frozen=True)
class Listing:
    """Hold what a part has before it is decoded.

    Args:
        where: what to call it in a message.
        images: for each class, by its name, a key of every image.
        read: returns the image of a key, `[84, 84, 3]`, uint8; threads may call it at once.
        named: whether the classes' names are known; otherwise they are numbers.
    """

    where: str
    images: dict[str, list[Any]]
    read: Callable[[Any], np.ndarray]
    named: bool = True


def find_part(part: str, root: str | Path | None = None) -> PartSource | None:
    """Return where `part` lies, or None; class folders come before archives, lists and pickles."""
    return next((source for folder in searched(root) for source in _candidates(folder, part)), None)


def searched(root: str | Path | None = None) -> list[Path]:
    """Return the folders in which mini-ImageNet is looked for."""
    return list(dict.fromkeys(folder for name in _FOLDERS for folder in data_folders(name, root)))


def wanted(part: str) -> str:
    """Return the files any of which would do for `part`, for a message."""
    return f"{part}/ or {part}.zip (class folders), {part}.csv with images/, or {' or '.join(_pickles(part))}"


def _pickles(part: str) -> list[str]:
    cached = [f"mini-imagenet-cache-{name}.pkl" for name in _NAMES[part]]
    return [*cached, f"miniImageNet_category_split_{_PHASES[part]}.pickle"]


def _candidates(folder: Path, part: str) -> Iterator[PartSource]:
    for name in _NAMES[part]:
        if _has_classes(folder / name):
            yield PartSource(part, folder / name)
        if (folder / f"{name}.zip").is_file():
            yield PartSource(part, folder / f"{name}.zip")
        if (folder / f"{name}.csv").is_file():
            if (folder / "images").is_dir():
                yield PartSource(part, folder / f"{name}.csv", folder / "images")
            elif (folder / "images.zip").is_file():
                yield PartSource(part, folder / f"{name}.csv", folder / "images.zip")
    for name in _pickles(part):
        if (folder / name).is_file():
            yield PartSource(part, folder / name)


def _has_classes(folder: Path) -> bool:
    """Whether there is a folder whose name is a WordNet number: "train" alone may be anyone's."""
    try:
        return any(_CLASS.fullmatch(path.name) and path.is_dir() for path in folder.iterdir())
    except OSError:
        return False


def fingerprint(source: PartSource) -> str:
    """Return a digest that changes when a file of the source gets another name, size or time of change."""
    digest = hashlib.sha256()
    try:
        for path in filter(None, (source.path, source.images)):
            for file in _files(path) if path.is_dir() else [path]:
                stat = file.stat()
                digest.update(f"{file.relative_to(path.parent)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    except OSError as error:
        raise DataError(f"can't read {source}: {reason(error)}") from error
    return digest.hexdigest()[:16]


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders.sort()
        for file in sorted(files):
            yield Path(place, file)


@contextmanager
def open_part(source: PartSource) -> Iterator[Listing]:
    """Give what a part has, its archive held open inside the `with` block.

    Raises:
        DataError: if it can't be read; all that its list names and that is missing is said at once.
    """
    with ExitStack() as stack:
        if source.path.suffix in (".pkl", ".pickle"):
            arrays = read_arrays(source.path, SIDE)
            yield Listing(str(source), arrays.rows, lambda row: arrays.images[row], arrays.named)
        elif source.path.suffix == ".csv":
            yield _listed(source, stack)
        elif source.path.is_dir():
            yield Listing(str(source), _class_folders(source.path), _read_file)
        else:
            archive = stack.enter_context(_opened(source.path))
            yield Listing(str(source), _class_members(archive), _reader(archive, source.path))


def _class_folders(folder: Path) -> dict[str, list[Path]]:
    try:
        classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        return {path.name: sorted(file for file in path.iterdir() if _is_image(file.name)) for path in classes}
    except OSError as error:
        raise DataError(f"can't read the folder {shown(folder)}: {reason(error)}") from error


def _class_members(archive: zipfile.ZipFile) -> dict[str, list[zipfile.ZipInfo]]:
    found: dict[str, dict[str, zipfile.ZipInfo]] = {}
    for info in archive.infolist():
        # A member's name serves as a class name, never as a path on this machine.
        parts = PurePosixPath(info.filename).parts
        if len(parts) >= 2 and "__MACOSX" not in parts and _is_image(parts[-1]):
            found.setdefault(parts[-2], {})[parts[-1]] = info
    return {name: [found[name][file] for file in sorted(found[name])] for name in sorted(found)}


def _is_image(name: str) -> bool:
    return name.lower().endswith(_SUFFIXES) and not name.startswith(".")


def _listed(source: PartSource, stack: ExitStack) -> Listing:
    """Return the images that a CSV names, out of one flat folder or archive."""
    assert source.images is not None
    there: dict[str, Any]
    if source.images.is_dir():
        there = {path.name: path for path in _files(source.images)}
        read = _read_file
    else:
        archive = stack.enter_context(_opened(source.images))
        there = {PurePosixPath(info.filename).name: info for info in archive.infolist() if not info.is_dir()}
        read = _reader(archive, source.images)
    names = _read_list(source.path)
    missing = [name for files in names.values() for name in files if name not in there]
    if missing:
        problems = [
            f"{shown(name)}, which {source} lists, is not in {shown(source.images)}; add it" for name in missing
        ]
        raise complain(problems, str(source))
    return Listing(str(source), {label: [there[name] for name in names[label]] for label in sorted(names)}, read)


def _read_list(path: Path) -> dict[str, list[str]]:
    """Return the file names of each class, in their order."""
    content = read_file(path, limit=_LONGEST_LIST, kind="a list of images")
    try:
        rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        pairs = [(row.get("label"), row.get("filename")) for row in rows]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"can't read {shown(path)} as a list of images: {error}; get it again") from error
    names: dict[str, set[str]] = {}
    for label, name in pairs:
        if not label or not name:
            raise DataError(f"{shown(path)} needs the columns filename and label, each with a value; get it again")
        names.setdefault(label, set()).add(name)
    return {label: sorted(files) for label, files in names.items()}


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise DataError(f"can't read {shown(path)}: {error}; get the archive again") from error
    with archive:
        yield archive


def _reader(archive: zipfile.ZipFile, path: Path) -> Callable[[zipfile.ZipInfo], np.ndarray]:
    lock = threading.Lock()

    def read(info: zipfile.ZipInfo) -> np.ndarray:
        name = f"{shown(info.filename)!r} in {shown(path)}"
        if info.file_size > MOST_BYTES:
            raise DataError(f"{name} has {info.file_size} bytes; this is not mini-ImageNet")
        try:
            with lock:
                content = archive.read(info)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
            raise DataError(f"can't read {name}: {error}; get the archive again") from error
        return pixels(content, name)

    return read


def _read_file(path: Path) -> np.ndarray:
    return pixels(read_file(path, limit=MOST_BYTES, kind="an image"), shown(path))


def pixels(content: bytes, name: str) -> np.ndarray:
    """Return the image in `content` as `[84, 84, 3]`, uint8.

    An image of 84x84 pixels stays as it is; any other is resized with a Lanczos filter, as MAML's code does.

    Args:
        content: the bytes of an image file.
        name: what to call it in a message.

    Raises:
        DataError: if it can't be decoded.

    Example:
        >>> from PIL import Image
        >>> content = io.BytesIO()
        >>> Image.new("L", (500, 375), 255).save(content, "JPEG")
        >>> pixels(content.getvalue(), "white.jpg").shape
        (84, 84, 3)
    """
    from PIL import Image

    try:
        picture = flatten(open_image(content, name)).convert("RGB")
        if picture.size != (SIDE, SIDE):
            picture = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        return np.asarray(picture)
    except DataError:
        raise
    except Exception as error:  # on broken bytes decoders raise anything
        raise DataError(f"can't decode {name}: the image is damaged or cut off ({error}); get it again") from error
