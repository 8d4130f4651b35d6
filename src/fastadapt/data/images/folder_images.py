"""The images of a folder, decoded once: the first start reads every file, later ones map the decoded copy."""

import hashlib
import logging
import os
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from fastadapt.cache import cache_folder
from fastadapt.data.files import as_word, complain, shown
from fastadapt.data.images.decode import decode_blocks
from fastadapt.data.images.decoded import read_decoded, room_for, write_decoded
from fastadapt.data.images.images import ImageRecipe
from fastadapt.data.images.survey import WARNINGS, Survey, summed_up, survey_folder
from fastadapt.data.images.tree import Tree, scan_tree, without_classes
from fastadapt.errors import DataError

logger = logging.getLogger(__name__)

Bad = Literal["fail", "skip"]

_RECIPE = 3  # raise it when the decoding or the judging changes, so that old decoded copies are not used


@dataclass(frozen=True, eq=False)
class FolderImages:
    """Hold the decoded images of a folder, class by class.

    Args:
        images: `[M, size, size]` or `[M, size, size, 3]`, uint8; mapped from the decoded copy where there is one.
        labels: `[M]`, int64, the position in `class_names` of each image's class.
        class_names: sorted.
        digests: for each class, a digest of the contents of its files, in the order of their names.
        left_out: a sentence for each file that can't be used.
        warnings: a sentence for each kind of image that can be used and may spoil the training: blank ones, faint ones.
        files: `[M]`, the file of each image within the folder; None where an older copy does not say.

    Example:
        >>> black = torch.zeros(2, 28, 28, dtype=torch.uint8)
        >>> FolderImages(black, np.array([0, 1]), ("cat", "dog"), {"cat": "1f", "dog": "a0"}, []).counts
        {'cat': 1, 'dog': 1}
    """

    images: Tensor = field(repr=False)
    labels: np.ndarray = field(repr=False)
    class_names: tuple[str, ...] = field(repr=False)
    digests: dict[str, str] = field(repr=False)
    left_out: list[str] = field(repr=False)
    warnings: list[str] = field(repr=False, default_factory=list)
    files: tuple[str, ...] | None = field(default=None, repr=False)

    @property
    def counts(self) -> dict[str, int]:
        """How many images each class has."""
        found = np.bincount(self.labels, minlength=len(self.class_names))
        return dict(zip(self.class_names, found.tolist(), strict=True))

    def digest(self, classes: Iterable[str]) -> str:
        """Return a digest of the images of some classes, whatever the order; equal digests, equal images."""
        lines = [f"{name}\t{self.digests[name]}" for name in sorted(classes)]
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def load_folder(
    folder: str | Path | Tree, recipe: ImageRecipe, *, bad: Bad = "fail", survey: Survey | None = None
) -> FolderImages:
    """Load the images of a folder of classes.

    Args:
        folder: class folders at any depth, or what `scan_tree` made of them.
        recipe: how a file becomes pixels; `invert` and `normalise` have no effect here.
        bad: "fail" refuses a folder in which anything can't be used, with the list; "skip" leaves it out and says
            how much that is.
        survey: what `survey_folder` found with the same recipe, if it was asked; it is not asked again then.

    Raises:
        DataError: if the folder can't be read, nothing in it can be used, or anything can't and `bad` is "fail".

    Example:
        >>> from PIL import Image
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for name, grey in (("dark", 0), ("light", 255)):
        ...     (root / name).mkdir()
        ...     Image.new("L", (28, 28), grey).save(root / name / "1.png")
        >>> load_folder(root, ImageRecipe(28)).images.flatten(1)[:, 0]
        tensor([  0, 255], dtype=torch.uint8)
    """
    tree = folder if isinstance(folder, Tree) else scan_tree(folder)
    if not tree.classes:
        raise without_classes(tree)
    path = _cache_path(tree, recipe)
    loaded = _read_copy(path) if path is not None else None
    if loaded is not None:
        _judge(loaded.left_out, tree, recipe, bad)
        return loaded
    if survey is None:
        survey = survey_folder(tree, size=recipe.size, channels=recipe.channels, fit=recipe.fit)
    left_out = [finding.text for finding in survey.problems]
    _judge(left_out, tree, recipe, bad)
    if not survey.images:
        raise complain(left_out, shown(tree.root))
    return _decode(survey, recipe, left_out, path)


def _judge(left_out: list[str], tree: Tree, recipe: ImageRecipe, bad: Bad) -> None:
    """Refuse the folder or say how much is left out."""
    count = sum(map(len, tree.classes.values()))
    if left_out and bad == "fail":
        listed = complain(left_out, shown(tree.root))
        command = f"fastadapt check {as_word(tree.root)} --size {recipe.size} --fit {recipe.fit} --json"
        raise DataError(f"{listed}\nmend them ({command} lists all), or leave them out: --bad skip")
    if left_out:
        logger.warning(
            "%s: %d problem%s left out, of %d files; the first: %s",
            shown(tree.root),
            len(left_out),
            "s" * (len(left_out) > 1),
            count,
            left_out[0],
        )


def _decode(survey: Survey, recipe: ImageRecipe, left_out: list[str], path: Path | None) -> FolderImages:
    """Return the usable images of a survey: mapped from the file at `path` if it can be written."""
    keys = [file for inside in survey.images.values() for file in inside]
    where = shown(survey.tree.root)
    shape = (len(keys), recipe.size, recipe.size, *([3] if recipe.channels == 3 else []))
    facts: dict[str, Any] = {
        "class_names": list(survey.images),
        "counts": [len(inside) for inside in survey.images.values()],
        "digests": [_digest(inside) for inside in survey.images.values()],
        "left_out": left_out,
        "files": [survey.tree.name(path) for path in keys],
        "warnings": summed_up([finding for finding in survey.notes if finding.kind in WARNINGS]),
    }
    if path is not None:
        try:
            if problem := room_for(path.parent, int(np.prod(shape))):
                raise OSError(problem)
            with closing(decode_blocks(keys, recipe.read_pixels, where)) as blocks:
                write_decoded(path, blocks, shape, facts)
            if (copy := _read_copy(path)) is not None:
                return copy
        except OSError as error:
            logger.warning(
                "can't keep the decoded images of %s in %s (%s): they are held in memory, and each start decodes them "
                "anew; free some space, or set FASTADAPT_CACHE to another folder",
                where,
                shown(path.parent),
                error.strerror or error,
            )
    images = torch.empty(shape, dtype=torch.uint8)
    array, first = images.numpy(), 0
    with closing(decode_blocks(keys, recipe.read_pixels, where)) as blocks:
        for block in blocks:
            array[first : first + len(block)] = block
            first += len(block)
    return _assembled(images, facts)


def _digest(inside: Mapping[Path, Any]) -> str:
    joined = "\n".join(facts.digest for facts in inside.values())
    return hashlib.sha256(joined.encode()).hexdigest()[:16]


def _assembled(images: Tensor, facts: Mapping[str, Any]) -> FolderImages:
    names, counts = tuple(map(str, facts["class_names"])), [int(count) for count in facts["counts"]]
    if not len(names) == len(counts) == len(facts["digests"]) or sum(counts) != len(images):
        raise ValueError(f"{len(images)} images, {sum(counts)} of them in {len(names)} classes")
    labels = np.repeat(np.arange(len(counts)), counts)
    digests = dict(zip(names, map(str, facts["digests"]), strict=True))
    files = tuple(map(str, facts["files"])) if len(facts.get("files", ())) == len(images) else None
    left_out, warnings = ([*map(str, facts[name])] for name in ("left_out", "warnings"))
    return FolderImages(images, labels, names, digests, left_out, warnings, files)


def _read_copy(path: Path) -> FolderImages | None:
    if (copy := read_decoded(path)) is None:
        return None
    try:
        return _assembled(*copy)
    except (KeyError, TypeError, ValueError) as error:
        logger.warning("the index of %s can't be used (%s): decoding again", shown(path), error)
        return None


def _cache_path(tree: Tree, recipe: ImageRecipe) -> Path | None:
    """Return where the decoded copy lies; its name changes when a file or what is made of it does."""
    folder = cache_folder()
    if folder is None:
        logger.warning("no home folder and no FASTADAPT_CACHE: the images are decoded anew at each start")
        return None
    digest = hashlib.sha256(os.fsencode(tree.root.absolute()))
    for finding in tree.findings:
        digest.update(finding.text.encode("utf-8", "surrogatepass"))
    for path, name in ((path, name) for name, files in tree.classes.items() for path in files):
        try:
            stat = path.stat()
            state = f" {stat.st_size} {stat.st_mtime_ns}\n"
        except OSError:  # it went away: decoding will say so
            state = " gone\n"
        digest.update(os.fsencode(f"{tree.name(path)} {name}") + state.encode())
    kind = f"{recipe.size}-{recipe.channels}-{recipe.fit}-{recipe.resize}"
    return folder / "folders" / f"decoded-{_RECIPE}-{kind}-{digest.hexdigest()[:16]}.raw"
