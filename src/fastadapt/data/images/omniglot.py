"""Omniglot: 1623 handwritten characters of 50 alphabets, each drawn by 20 people.

The archives (or the folders unpacked from them) are decoded once; later loads read one array from
the cache folder.
"""

import hashlib
import io
import json
import logging
import os
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from fastadapt.cache import cache_folder
from fastadapt.data.download import data_folders, download, write_atomically
from fastadapt.data.images.classes import ClassImages, Rotation
from fastadapt.data.images.omniglot_splits import (
    BACKGROUND,
    EVALUATION,
    OmniglotSplit,
    omniglot_classes,
    omniglot_split,
)
from fastadapt.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

Resize = Literal["lanczos", "nearest"]

_SETS = {"images_background": BACKGROUND, "images_evaluation": EVALUATION}
_HOME = "https://github.com/brendenlake/omniglot/raw/master/python"
_MD5 = {
    "images_background": "68d2efa1b9178cc56df9314c21c6e718",
    "images_evaluation": "6b91aef0f799c5bb55b94e3f2daec811",
}
_DRAWINGS = 20
_LARGEST_MEMBER = 1 << 20  # bytes; the real ones have 200
_LARGEST_SIDE = 1024  # pixels; the real ones have 105
_RECIPE = 1  # raise it when the decoding changes, so that old cached arrays are not used


@dataclass(frozen=True, eq=False)
class Omniglot:
    """Hold the decoded images, class by class.

    Args:
        images: `[M, size, size]`, uint8: paper 255, ink 0.
        labels: `[M]`, int64, the position in `class_names` of each image's class.
        class_names: "Alphabet/characterNN", sorted.
        class_sets: for each class, "images_background" or "images_evaluation".

    Example:
        >>> import numpy as np, torch
        >>> blank = torch.full((2, 28, 28), 255, dtype=torch.uint8)
        >>> Omniglot(blank, np.zeros(2, int), ("Greek/character01",), ("images_background",)).labels.tolist()
        [0, 0]
    """

    images: Tensor = field(repr=False)
    labels: np.ndarray = field(repr=False)
    class_names: tuple[str, ...] = field(repr=False)
    class_sets: tuple[str, ...] = field(repr=False)


def load_omniglot(
    root: str | Path | None = None,
    *,
    size: int = 28,
    resize: Resize = "lanczos",
    download: bool = False,
    complete: bool = True,
) -> Omniglot:
    """Load Omniglot from its two archives, from unpacked folders, or from the decoded copy of them.

    Args:
        root: the folder that has `images_background` and `images_evaluation`, each as `.zip` or as
            a folder; or the folder with an `omniglot` folder in it. `None` looks in
            `FASTADAPT_DATA`, then in the cache folder (`FASTADAPT_CACHE`).
        size: height and width in pixels, 1..1024.
        resize: how drawings are made smaller: "lanczos" from 8-bit grey (MAML), "nearest" from 1 bit, so that
            pixels are 0 or 255 (Reptile).
        download: whether to fetch the archives if they are not found.
        complete: whether anything but all 1623 characters with 20 drawings each is an error.

    Raises:
        ConfigError: if `size` or `resize` is outside its range.
        DataError: if the data aren't found, incomplete or damaged.
        DownloadError: if fetching them fails.

    Example:
        >>> data = load_omniglot("data")  # doctest: +SKIP
        >>> data.images.shape  # doctest: +SKIP
        torch.Size([32460, 28, 28])

    References:
        Lake, Salakhutdinov, Tenenbaum, "Human-level concept learning through probabilistic program
        induction", Science, 2015.
    """
    if resize not in get_args(Resize):
        raise ConfigError(f"resize must be one of {', '.join(get_args(Resize))}, got {resize!r}")
    if not 1 <= size <= _LARGEST_SIDE:
        raise ConfigError(f"size must be 1..{_LARGEST_SIDE} pixels, got {size}")
    sources = _find(root) or (_fetch(root) if download else None)
    if sources is None:
        raise DataError(_not_found(root))
    cached = _cache_path(sources, size, resize)
    data = _read_cache(cached) if cached else None
    if data is None:
        data = _decode(sources, size, resize)
        if cached:
            _write_cache(cached, data)
    if complete:
        _check_complete(data, sources)
    return data


def omniglot_tasks(
    part: str = "train",
    data: Omniglot | None = None,
    *,
    split: OmniglotSplit = "1100/100/423",
    seed: int = 1,
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    rotation: Rotation = "per_class",
    rotated_classes: bool = False,
    invert: bool = True,
    root: str | Path | None = None,
    size: int = 28,
    resize: Resize = "lanczos",
    download: bool = False,
) -> ClassImages:
    """Return the few-shot tasks of one part of Omniglot; the defaults are those of MAML.

    Reptile's are `split="1200/423", rotation="none", invert=False, resize="nearest"`, with
    `rotated_classes=True` for training.

    Args:
        part: "train", "val", "test" or "trainval".
        data: what `load_omniglot` returned, to share it between parts; `None` loads it with `root`,
            `size`, `resize` and `download`.
        split: the division of the classes, see `omniglot_split`.
        seed: the shuffle of the classes, see `omniglot_split`.
        ways: classes of a task, N.
        shots: support images per class.
        queries: query images per class; `shots + queries` is at most 20.
        rotation: see `ClassImages`.
        rotated_classes: make each quarter turn of a training character a class of its own (Reptile).
        invert: ink is 1 and paper 0 (MAML); otherwise ink is 0 and paper 1 (Reptile).
        root: see `load_omniglot`.
        size: see `load_omniglot`.
        resize: see `load_omniglot`.
        download: see `load_omniglot`.

    Raises:
        ConfigError: if a setting is outside its range.
        DataError: if the split has no such part, or the data can't be used.

    Example:
        >>> import numpy as np, torch
        >>> blank, sets = torch.zeros(32460, 28, 28, dtype=torch.uint8), ("images_background",) * 1623
        >>> data = Omniglot(blank, np.arange(32460) // 20, omniglot_classes(), sets)  # or load_omniglot("data")
        >>> source = omniglot_tasks("test", data, ways=20, shots=1, queries=5)
        >>> len(source), source.sample(np.random.default_rng(0)).query[0].shape
        (423, torch.Size([100, 1, 28, 28]))
    """
    classes = omniglot_split(split, seed=seed).classes(part)
    if data is None:
        data = load_omniglot(root, size=size, resize=resize, download=download)
    everything = ClassImages(
        data.images,
        data.labels,
        data.class_names,
        ways=ways,
        shots=shots,
        queries=queries,
        rotation=rotation,
        rotated_classes=rotated_classes,
        invert=invert,
    )
    return everything.subset(classes)


def _find(root: str | Path | None) -> dict[str, Path] | None:
    """Return the archive or folder of each set, or `None` if no place has both."""
    for folder in data_folders("omniglot", root):
        for place in (folder, folder / "python"):
            found = {name: path for name in _SETS if (path := _one_set(place, name))}
            if len(found) == len(_SETS):
                return found
    return None


def _one_set(place: Path, name: str) -> Path | None:
    if (place / name).is_dir():
        return place / name
    archive = place / f"{name}.zip"
    return archive if archive.is_file() else None


def _not_found(root: str | Path | None) -> str:
    tried = data_folders("omniglot", root)
    places = [place for folder in tried for place in (folder, folder / "python")]
    seen = {name for name in _SETS if any(_one_set(place, name) for place in places)}
    missing = " and ".join(f"{name}.zip (or the folder {name})" for name in _SETS if name not in seen)
    return (
        f"Omniglot not found: {missing or 'both sets in one folder'} missing in "
        f"{', '.join(str(folder) for folder in tried) or 'no folder (there is no home and no setting)'}; give the "
        "folder that has them (--data, root=... or FASTADAPT_DATA), or allow the download (--download, download=True)"
    )


def _fetch(root: str | Path | None) -> dict[str, Path]:
    target = cache_folder() if root is None else Path(root).expanduser()
    if target is None:
        raise DataError("there is no folder to download Omniglot to: set FASTADAPT_CACHE, or give the data folder")
    folder = target if target.name == "omniglot" else target / "omniglot"
    return {
        name: download(f"{_HOME}/{name}.zip", folder / f"{name}.zip", checksum=checksum)
        for name, checksum in _MD5.items()
    }


def _members(source: Path) -> Iterator[tuple[tuple[str, ...], bytes]]:
    """Yield (alphabet, character, drawing) and the bytes of each image, in any order."""
    try:
        if source.is_dir():
            for path in source.rglob("*.png"):
                parts = path.relative_to(source).parts
                if len(parts) >= 3 and not path.name.startswith("."):
                    yield parts[-3:], path.read_bytes()
            return
        with zipfile.ZipFile(source) as archive:
            for info in archive.infolist():
                # A member's name serves as a class name, never as a path on this machine.
                parts = PurePosixPath(info.filename).parts
                if len(parts) < 3 or not parts[-1].endswith(".png") or parts[-1].startswith("."):
                    continue
                if info.file_size > _LARGEST_MEMBER:
                    raise DataError(f"{info.filename!r} in {source} has {info.file_size} bytes; this is not Omniglot")
                yield parts[-3:], archive.read(info)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"can't read {source}: {error}; fetch it again") from error


def _decode(sources: dict[str, Path], size: int, resize: Resize) -> Omniglot:
    logger.info("decoding Omniglot from %s (once; the result is cached)", ", ".join(map(str, sources.values())))
    found: dict[tuple[str, ...], tuple[str, np.ndarray]] = {}
    for name, source in sources.items():
        for key, content in _members(source):
            found[key] = (name, _pixels(content, size, resize, f"{'/'.join(key)!r} in {source}"))
    if not found:
        where = " or ".join(map(str, sources.values()))
        raise DataError(f"there is no image in {where}; expected Alphabet/characterNN/*.png")
    order = sorted(found)
    sets = {f"{alphabet}/{character}": found[alphabet, character, drawing][0] for alphabet, character, drawing in order}
    number = {name: i for i, name in enumerate(sets)}
    labels = np.array([number[f"{alphabet}/{character}"] for alphabet, character, _ in order], dtype=np.int64)
    images = torch.from_numpy(np.stack([found[key][1] for key in order]))
    return Omniglot(images, labels, tuple(sets), tuple(sets.values()))


def _pixels(content: bytes, size: int, resize: Resize, where: str) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            if max(image.size) > _LARGEST_SIDE:
                raise DataError(f"the image {where} has {image.size} pixels; this is not Omniglot")
            mode, kind = ("L", Image.Resampling.LANCZOS) if resize == "lanczos" else ("1", Image.Resampling.NEAREST)
            small = image.convert(mode).resize((size, size), kind)
            return np.asarray(small.convert("L"), dtype=np.uint8)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"can't decode the image {where}: {error}; fetch it again") from error


def _check_complete(data: Omniglot, sources: dict[str, Path]) -> None:
    where = " and ".join(map(str, sources.values()))
    for name, counts in _SETS.items():
        have, need = data.class_sets.count(name), sum(counts.values())
        if have != need:
            raise DataError(f"{name} has {have} characters, expected {need} (read from {where}); fetch it again")
    if data.class_names != omniglot_classes():
        odd = sorted(set(data.class_names) - set(omniglot_classes()))[0]
        raise DataError(f"{odd!r} is not a character of Omniglot (read from {where}); fetch it again")
    for name, count in zip(data.class_names, np.bincount(data.labels), strict=True):
        if count != _DRAWINGS:
            raise DataError(f"{name!r} has {count} drawings, expected {_DRAWINGS} (read from {where}); fetch it again")


def _fingerprint(sources: dict[str, Path]) -> str:
    """Return a digest that changes when a source does."""
    digest = hashlib.sha256()
    for name, source in sources.items():
        digest.update(name.encode())
        if source.is_dir():
            for folder, folders, files in os.walk(source):
                folders.sort()
                for file in sorted(files):
                    stat = Path(folder, file).stat()
                    digest.update(f"{folder}/{file} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        else:
            with source.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _cache_path(sources: dict[str, Path], size: int, resize: Resize) -> Path | None:
    folder = cache_folder()
    if folder is None:
        logger.warning("no home folder and no FASTADAPT_CACHE: Omniglot is decoded anew at each start")
        return None
    return folder / "omniglot" / f"decoded-{_RECIPE}-{resize}-{size}-{_fingerprint(sources)}.npy"


def _write_cache(path: Path, data: Omniglot) -> None:
    buffer = io.BytesIO()
    np.save(buffer, data.images.numpy(), allow_pickle=False)
    index = {
        "crc32": zlib.crc32(buffer.getbuffer()),
        "class_names": data.class_names,
        "class_sets": data.class_sets,
        "counts": np.bincount(data.labels).tolist(),
    }
    try:
        # The index comes last: without it, or with one that doesn't fit, the array is not used.
        write_atomically(path, buffer.getvalue())
        write_atomically(path.with_suffix(".json"), json.dumps(index).encode())
    except OSError as error:
        logger.warning("can't keep the decoded Omniglot in %s (%s): each start decodes it anew", path.parent, error)


def _read_cache(path: Path) -> Omniglot | None:
    try:
        index = json.loads(path.with_suffix(".json").read_bytes())
        content = path.read_bytes()
        if zlib.crc32(content) != index["crc32"]:
            raise ValueError("checksum differs")
        images = torch.from_numpy(np.load(io.BytesIO(content), allow_pickle=False))
        labels = np.repeat(np.arange(len(index["counts"])), index["counts"])
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images, {len(labels)} labels")
        return Omniglot(images, labels, tuple(index["class_names"]), tuple(index["class_sets"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("the decoded copy %s can't be used (%s): decoding again", path, error)
        return None
