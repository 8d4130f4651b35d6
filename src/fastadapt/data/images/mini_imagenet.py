"""mini-ImageNet: 100 classes of 600 photographs, 84x84 pixels, in the split of Ravi and Larochelle.

The images are ImageNet's and are not handed out here: they are read in the layouts in which people have them
(`mini_imagenet_files`), decoded once, and mapped into memory from the cache folder at later starts.
"""

import logging
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from fastadapt.cache import cache_folder
from fastadapt.data.files import complain, shown
from fastadapt.data.images.classes import ClassImages
from fastadapt.data.images.decode import decode_blocks
from fastadapt.data.images.decoded import read_decoded, room_for, write_decoded
from fastadapt.data.images.images import NORMALISATIONS, Normalise
from fastadapt.data.images.mini_imagenet_files import (
    SIDE,
    Listing,
    PartSource,
    find_part,
    fingerprint,
    open_part,
    searched,
    wanted,
)
from fastadapt.data.images.mini_imagenet_splits import IMAGES_PER_CLASS, mini_imagenet_split
from fastadapt.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

PARTS = ("train", "val", "test")
_RECIPE = 1  # raise it when the decoding changes, so that old decoded copies are not used


@dataclass(frozen=True, eq=False)
class MiniImageNet:
    """Hold the decoded images of one part, class by class.

    Args:
        images: `[M, 84, 84, 3]`, uint8, RGB; mapped from the decoded copy, so that only what is drawn is read.
        labels: `[M]`, int64, the position in `class_names` of each image's class.
        class_names: WordNet numbers, sorted; "class 00" and so on where a pickle doesn't have them.
        part: "train", "val" or "test".

    Example:
        >>> import numpy as np, torch
        >>> black = torch.zeros(2, 84, 84, 3, dtype=torch.uint8)
        >>> MiniImageNet(black, np.zeros(2, int), ("n01532829",), "train").labels.tolist()
        [0, 0]
    """

    images: Tensor = field(repr=False)
    labels: np.ndarray = field(repr=False)
    class_names: tuple[str, ...] = field(repr=False)
    part: str


class MiniImageNetParts:
    """Hold the parts of mini-ImageNet, each of which is read when it is first asked for.

    Args:
        root: see `load_mini_imagenet`.

    Example:
        >>> parts = MiniImageNetParts("data")
        >>> parts["val"].images.shape  # doctest: +SKIP
        torch.Size([9600, 84, 84, 3])
    """

    def __init__(self, root: str | Path | None = None) -> None:
        self._root = root
        self._loaded: dict[str, MiniImageNet] = {}

    def __getitem__(self, part: str) -> MiniImageNet:
        """Return the part "train", "val" or "test"."""
        if part not in self._loaded:
            self._loaded[part] = load_mini_imagenet(self._root, part=part)
        return self._loaded[part]


def load_mini_imagenet(root: str | Path | None = None, *, part: str = "train", complete: bool = True) -> MiniImageNet:
    """Load one part of mini-ImageNet from class folders, archives, lists or pickles, or from the decoded copy of them.

    Of images that are not 84x84 pixels the size is changed with a Lanczos filter; the others stay as they are. The
    classes are sorted by name and so are the images of each, except that a pickle's keep their order. So the tasks of a
    seed are the same from files in whatever layout, and others from a pickle.

    Args:
        root: the folder that has the files, or one with a folder `mini_imagenet` in it. `None` looks in
            `FASTADAPT_DATA`, then in the cache folder (`FASTADAPT_CACHE`).
        part: "train", "val" or "test"; the other parts need not be there.
        complete: whether anything but the part's own classes with 600 images each is an error.

    Raises:
        ConfigError: if there is no such part.
        DataError: if the data aren't found, incomplete or damaged, or a pickle holds anything but data.

    Example:
        >>> data = load_mini_imagenet("data", part="val")  # doctest: +SKIP
        >>> data.images.shape  # doctest: +SKIP
        torch.Size([9600, 84, 84, 3])

    References:
        Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra, "Matching Networks for One Shot Learning", 2016,
        arXiv:1606.04080; Ravi, Larochelle, "Optimization as a Model for Few-Shot Learning", ICLR 2017.
    """
    _check_part(part)
    source = find_part(part, root)
    if source is None:
        folders = ", ".join(shown(folder) for folder in searched(root)) or "no folder (there is no home and no setting)"
        raise DataError(
            f"the {part} part of mini-ImageNet is not in {folders}: none has {wanted(part)}; give the folder that does "
            "(--data, root=... or FASTADAPT_DATA). It can't be downloaded: its terms don't allow handing it on"
        )
    path = _cache_path(source)
    copy = _read_copy(path) if path is not None else None
    if copy is not None:
        images, counts, named = copy
        _check_classes(counts, named, source, complete)
    else:
        with open_part(source) as listing:
            counts = {name: len(keys) for name, keys in listing.images.items()}
            _check_classes(counts, listing.named, source, complete)  # before the work, not after it
            images = _decode(listing, source, path)
    labels = np.repeat(np.arange(len(counts)), list(counts.values()))
    return MiniImageNet(images, labels, tuple(counts), part)


def mini_imagenet_tasks(
    part: str = "train",
    data: MiniImageNet | None = None,
    *,
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    normalise: Normalise = "none",
    root: str | Path | None = None,
) -> ClassImages:
    """Return the few-shot tasks of one part of mini-ImageNet.

    Args:
        part: "train", "val" or "test".
        data: what `load_mini_imagenet` returned for that part; `None` loads it from `root`.
        ways: classes of a task, N.
        shots: support images per class.
        queries: query images per class; `shots + queries` is at most 600.
        normalise: "none" gives `v / 255` for a pixel value `v` (MAML, Reptile); "imagenet" then subtracts
            (0.485, 0.456, 0.406) and divides by (0.229, 0.224, 0.225).
        root: see `load_mini_imagenet`.

    Raises:
        ConfigError: if a setting is outside its range, or `data` is another part.
        DataError: if the data can't be used.

    Example:
        >>> import numpy as np, torch
        >>> black = torch.zeros(60, 84, 84, 3, dtype=torch.uint8)
        >>> names = mini_imagenet_split().test
        >>> data = MiniImageNet(black, np.arange(60) // 3, names, "test")  # or load_mini_imagenet("data", part="test")
        >>> source = mini_imagenet_tasks("test", data, shots=1, queries=2)
        >>> len(source), source.sample(np.random.default_rng(0)).query[0].shape
        (20, torch.Size([10, 3, 84, 84]))
    """
    _check_part(part)
    if normalise not in get_args(Normalise):
        raise ConfigError(f"normalise must be one of {', '.join(get_args(Normalise))}, got {normalise!r}")
    if data is None:
        data = load_mini_imagenet(root, part=part)
    if data.part != part:
        raise ConfigError(f"tasks of the {part} part were asked for, but data holds the {data.part} part; load {part}")
    mean, std = NORMALISATIONS[normalise]
    return ClassImages(
        data.images, data.labels, data.class_names, ways=ways, shots=shots, queries=queries, mean=mean, std=std
    )


def _check_part(part: str) -> None:
    if part not in PARTS:
        raise ConfigError(f"a part of mini-ImageNet is one of {', '.join(PARTS)}; got {part!r}")


def _check_classes(counts: dict[str, int], named: bool, source: PartSource, complete: bool) -> None:
    """Compare the classes and the number of their images with the split's; say everything that differs."""
    if not sum(counts.values()):
        raise DataError(f"there is no image in {source}; expected {wanted(source.part)}")
    if not complete:
        return
    split = mini_imagenet_split()
    owner = {name: part for part in PARTS for name in split.classes(part)}
    wants = split.classes(source.part)
    problems = []
    if not named:
        logger.warning(
            "%s numbers its classes and does not name them: that they are those of the %s part can't be verified",
            source,
            source.part,
        )
        if len(counts) != len(wants):
            problems.append(
                f"{source} has {len(counts)} classes, the {source.part} part has {len(wants)}; get it again"
            )
    else:
        missing = [name for name in wants if name not in counts]
        problems += [f"{source} lacks class {name}; add its {IMAGES_PER_CLASS} images" for name in missing]
        for name in counts:
            if name not in wants:
                where = f"it is of the {owner[name]} part" if name in owner else "it is not one of the 100"
                problems.append(
                    f"{source} has class {shown(name)}, which the {source.part} part does not have ({where}); remove it"
                )
    for name, count in counts.items():
        if count != IMAGES_PER_CLASS and (not named or name in wants):
            which = f"class {name}" if named else name
            problems.append(f"{which} has {count} images in {source}, expected {IMAGES_PER_CLASS}; get them again")
    if problems:
        raise complain(problems, str(source))


def _cache_path(source: PartSource) -> Path | None:
    folder = cache_folder()
    if folder is None:
        logger.warning("no home folder and no FASTADAPT_CACHE: mini-ImageNet is decoded anew at each start")
        return None
    return folder / "mini_imagenet" / f"decoded-{_RECIPE}-{source.part}-{fingerprint(source)}.raw"


def _read_copy(path: Path) -> tuple[Tensor, dict[str, int], bool] | None:
    """Return the images of the decoded copy, how many each class has, and whether the classes have names."""
    if (copy := read_decoded(path)) is None:
        return None
    images, index = copy
    try:
        counts = dict(zip(index["class_names"], index["counts"], strict=True))
        if sum(counts.values()) != len(images):
            raise ValueError(f"{len(images)} images, {sum(counts.values())} of them in a class")
        return images, counts, bool(index["named"])
    except (KeyError, TypeError, ValueError) as error:
        logger.warning("the index of %s can't be used (%s): decoding again", shown(path), error)
        return None


def _decode(listing: Listing, source: PartSource, path: Path | None) -> Tensor:
    """Return the images of `listing`, class by class: mapped from the file at `path` if it can be written."""
    keys = [key for images in listing.images.values() for key in images]
    shape = (len(keys), SIDE, SIDE, 3)
    size = int(np.prod(shape))
    words = "once; the result is cached" if path is not None else "the result is not cached"
    logger.info("decoding the %s part of mini-ImageNet from %s (%s)", source.part, source, words)
    if path is not None:
        counts = [len(images) for images in listing.images.values()]
        facts = {"class_names": list(listing.images), "counts": counts, "named": listing.named}
        try:
            if problem := room_for(path.parent, size):
                raise OSError(problem)
            with closing(decode_blocks(keys, listing.read, listing.where)) as blocks:
                write_decoded(path, blocks, shape, facts)
            if (copy := read_decoded(path)) is not None:
                return copy[0]
        except OSError as error:
            logger.warning(
                "can't keep the decoded mini-ImageNet in %s (%s): it is held in memory, and each start decodes it "
                "anew; free some space, or set FASTADAPT_CACHE to another folder",
                shown(path.parent),
                error.strerror or error,
            )
    images = torch.empty(shape, dtype=torch.uint8)
    array, first = images.numpy(), 0
    with closing(decode_blocks(keys, listing.read, listing.where)) as blocks:
        for block in blocks:
            array[first : first + len(block)] = block
            first += len(block)
    return images
