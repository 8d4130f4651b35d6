"""A look at every image of a folder before it is trained on: what is usable, what is not and why, all in one pass."""

import os
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fastadapt.data.files import shown
from fastadapt.data.images.facts import ImageFacts, image_facts
from fastadapt.data.images.images import Fit, ImageRecipe
from fastadapt.data.images.tree import Finding, Tree, scan_tree, without_classes
from fastadapt.data.names import invisible, told_alike
from fastadapt.errors import DataError

LARGE, SMALL, LEAST = 84, 28, 16
"""Sizes that are chosen: of photographs, of small pictures, and the smallest that the networks take."""

_MOST_THREADS = 8
_LONG_NAME = 240  # bytes; most file systems allow 255
_NAMED = 4  # files of a duplicate that are named
_CONSTANT, _FAINT = 8, 32  # levels of 256: what spans fewer is as good as constant, is hard to see
WARNINGS = frozenset(
    {"blank", "nearly constant", "faint", "unused range", "twin", "light on transparent", "alike", "unseen", "one name"}
)
"""Kinds of notes that training tells too, as they may spoil it."""


@dataclass(frozen=True, eq=False)
class Survey:
    """Hold what a folder has and how it would be trained on.

    Args:
        tree: the classes with all their files.
        images: for each class that has any, its usable images and their facts, by name.
        findings: problems, which training refuses, and notes, which it does not.
        recipe: how the images would become tensors.
    """

    tree: Tree = field(repr=False)
    images: dict[str, dict[Path, ImageFacts]] = field(repr=False)
    findings: list[Finding] = field(repr=False)
    recipe: ImageRecipe

    @property
    def problems(self) -> list[Finding]:
        """What training refuses."""
        return [finding for finding in self.findings if finding.refused]

    @property
    def notes(self) -> list[Finding]:
        """What is worth knowing and stops nothing."""
        return [finding for finding in self.findings if not finding.refused]

    @property
    def counts(self) -> dict[str, int]:
        """How many usable images each class has."""
        return {name: len(images) for name, images in self.images.items()}


def survey_folder(
    folder: str | Path | Tree, *, size: int | None = None, channels: Literal[1, 3] | None = None, fit: Fit = "crop"
) -> Survey:
    """Read every image of a folder and say what can be used, and what not and why.

    Every file is decoded in full. Copies in one class count once, of a file or of all pixels, and files that are in two
    classes count in none: the first would be in support and query at once, the second have two answers or leak from
    training to test.

    Args:
        folder: class folders at any depth, or what `scan_tree` made of them.
        size: height and width to train at; None takes 84, or 28 if half of the images have a shorter side below 84,
            or what they have if that is below 28, but at least 16.
        channels: 1 (grey) or 3 (colour); None takes 1 if all images are grey.
        fit: what becomes of an image that is not square: see `ImageRecipe`.

    Raises:
        ConfigError: if a setting is outside its range.
        DataError: if the folder can't be read, or has no class.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> root = Path(tempfile.mkdtemp())
        >>> for name, colour in (("dark", 0), ("light", 255)):
        ...     (root / name).mkdir()
        ...     Image.new("RGB", (40, 30), (colour, colour, colour)).save(root / name / "1.png")
        >>> found = survey_folder(root)
        >>> found.counts, found.recipe.size, found.recipe.channels, found.problems
        ({'dark': 1, 'light': 1}, 28, 1, [])
    """
    tree = folder if isinstance(folder, Tree) else scan_tree(folder)
    if not tree.classes:
        raise without_classes(tree)
    findings = [*tree.findings, *_names(tree)]
    images = _inspect(tree, findings, fit)
    every = [facts for inside in images.values() for facts in inside.values()]
    grey = channels is None and all(facts.grey for facts in every)
    recipe = ImageRecipe(size or _size(every), channels or (1 if grey else 3), fit=fit)
    _drop_misfits(images, recipe, tree, findings)
    _drop_copies(images, tree, findings)
    findings += _unseen(images, recipe, tree)
    findings += _twins(images, tree)
    for name in tree.classes:
        if not images[name]:
            findings.append(Finding("class", name, f"{shown(tree.root / name)} has no usable image; mend or remove it"))
    usable = {name: inside for name, inside in images.items() if inside}
    return Survey(tree, usable, findings, recipe)


def few_images(counts: Mapping[str, int], shots: int, queries: int) -> list[Finding]:
    """Return a finding for each class that has fewer images than a task takes of it.

    Args:
        counts: the images of each class.
        shots: support images of each class.
        queries: query images of each class.

    Example:
        >>> [finding.text for finding in few_images({"cat": 2, "dog": 9}, shots=1, queries=5)]
        ["class 'cat' has 2 images, and 1 shot and 5 queries take 6; add 4"]
    """
    need = shots + queries
    words = f"{shots} shot{'s' * (shots != 1)} and {queries} quer{'y' if queries == 1 else 'ies'} take {need}"
    return [
        Finding(
            "few images",
            name,
            f"class {shown(name)!r} has {count} image{'s' * (count != 1)}, and {words}; add {need - count}",
        )
        for name, count in counts.items()
        if count < need
    ]


@contextmanager
def _pool() -> Iterator[ThreadPoolExecutor]:
    """Give threads that don't finish what is left to do when Ctrl-C ends the work."""
    pool = ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1), thread_name_prefix="inspect")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _inspect(tree: Tree, findings: list[Finding], fit: Fit) -> dict[str, dict[Path, ImageFacts]]:
    """Return the facts of every image that can be decoded; add the others, and what is changed, to `findings`."""

    def look(path: Path) -> ImageFacts | DataError:
        try:
            return image_facts(path, fit)
        except DataError as error:
            return error

    with _pool() as pool:
        looked = {name: pool.map(look, files) for name, files in tree.classes.items()}
        images: dict[str, dict[Path, ImageFacts]] = {}
        for name, files in tree.classes.items():
            images[name] = {}
            for path, facts in zip(files, looked[name], strict=True):
                if isinstance(facts, DataError):
                    findings.append(Finding("file", tree.name(path), str(facts)))
                    continue
                images[name][path] = facts
                findings += [
                    Finding(kind, tree.name(path), f"{shown(path)} {words}", False) for kind, words in facts.notes
                ]
    return images


def _size(every: Sequence[ImageFacts]) -> int:
    """Return the size to train at: 84, 28, or less where most images have less."""
    middle = statistics.median_low([min(facts.width, facts.height) for facts in every]) if every else SMALL
    return LARGE if middle >= LARGE else min(SMALL, max(LEAST, middle))


def _drop_misfits(
    images: dict[str, dict[Path, ImageFacts]], recipe: ImageRecipe, tree: Tree, findings: list[Finding]
) -> None:
    for inside in images.values():
        for path, facts in list(inside.items()):
            if problem := recipe.misfit(facts.width, facts.height, shown(path)):
                findings.append(Finding("size", tree.name(path), problem))
                del inside[path]


def _drop_copies(images: dict[str, dict[Path, ImageFacts]], tree: Tree, findings: list[Finding]) -> None:
    """Keep one of the equal files of a class, and none of those that are in several classes."""
    owners: dict[str, list[tuple[str, Path]]] = {}
    for name, inside in images.items():
        for path, facts in inside.items():
            owners.setdefault(facts.digest, []).append((name, path))
    for same in owners.values():
        if len(same) == 1:
            continue
        classes = {name for name, _ in same}
        _, first = same[0]
        if len(classes) == 1:
            findings += [
                Finding("copy", tree.name(path), f"{shown(path)} is a copy of {shown(first)}; it is used once", False)
                for _, path in same[1:]
            ]
        else:
            text = f"one and the same image has {len(classes)} classes: {_paths(same)}; keep it in one of them"
            findings.append(Finding("duplicate", tree.name(first), text))
        for name, path in same[1:] if len(classes) == 1 else same:
            del images[name][path]
    for inside in images.values():
        first_of: dict[str, Path] = {}
        for path, facts in list(inside.items()):
            if not facts.spreads[0] or (first := first_of.setdefault(facts.picture, path)) == path:
                continue  # blank ones are told as blank
            words = f"{shown(path)} has the pixels of {shown(first)}, saved anew; it is used once"
            findings.append(Finding("copy", tree.name(path), words, False))
            del inside[path]


def _unseen(images: Mapping[str, Mapping[Path, ImageFacts]], recipe: ImageRecipe, tree: Tree) -> list[Finding]:
    """Return notes on images in which there is little to be seen at the size of the training."""
    found: list[Finding] = []

    def note(kind: str, path: Path, words: str) -> None:
        found.append(Finding(kind, tree.name(path), f"{shown(path)} {words}", False))

    every = [(path, facts) for inside in images.values() for path, facts in inside.items()]
    at = f"at {recipe.size}x{recipe.size} pixels"
    for path, facts in every:
        spread = facts.spreads[0] if recipe.size > SMALL else facts.spreads[1]
        if facts.bits == 0 or spread == 0:
            note("blank", path, f"is blank {at}: all its pixels are equal; remove it or look at how it was saved")
        elif spread < _CONSTANT:
            note("nearly constant", path, f"is nearly constant {at}: its pixels span {spread + 1} of 256 levels")
        elif spread < _FAINT:
            note("faint", path, f"is faint {at}: its pixels span {spread + 1} of 256 levels; stretch their range")
    deep = [facts.bits for _, facts in every if facts.bits is not None]
    if deep and 0 < max(deep) < 16:
        factor = 2 ** (16 - max(deep))
        words = f"{len(deep)} images have 16 bits a pixel and use {max(deep)} of them, which is 1/{factor} of the range"
        found.append(
            Finding("unused range", ".", f"{words}; multiply their values by {factor} and save them again", False)
        )
    return found


def _twins(images: Mapping[str, Mapping[Path, ImageFacts]], tree: Tree) -> list[Finding]:
    """Return notes on different files of different classes that show one picture."""
    owners: dict[str, list[tuple[str, Path]]] = {}
    for name, inside in images.items():
        for path, facts in inside.items():
            if facts.spreads[0]:  # blank ones are told as blank
                owners.setdefault(facts.picture, []).append((name, path))
    return [
        Finding("twin", tree.name(same[0][1]), f"{_paths(same)} show the same picture in different classes", False)
        for same in owners.values()
        if len({name for name, _ in same}) > 1
    ]


def _paths(same: Sequence[tuple[str, Path]]) -> str:
    more = f" and {len(same) - _NAMED} more" if len(same) > _NAMED else ""
    return ", ".join(shown(path) for _, path in same[:_NAMED]) + more


def summed_up(findings: Sequence[Finding]) -> list[str]:
    """Return the first sentence of each kind, and how many there are of it.

    Example:
        >>> summed_up([Finding("blank", name, f"{name} is blank") for name in ("a", "b", "c")])
        ['a is blank (blank: 3 in all)']
    """
    lines = []
    for kind, number in Counter(finding.kind for finding in findings).items():
        first = next(finding.text for finding in findings if finding.kind == kind)
        lines.append(f"{first}{f' ({kind}: {number} in all)' if number > 1 else ''}")
    return lines


def _names(tree: Tree) -> list[Finding]:
    """Return notes on names that are fine here and may not be elsewhere."""
    then = "they are two classes here; put them together if they are one"
    notes = [Finding("alike", ".", text, False) for text in told_alike("the classes", tree.classes, then)]
    for name in tree.classes:
        if (odd := next(filter(None, map(invisible, name.split("/"))), None)) is not None:
            words = f"class {shown(name)!r} {odd}; rename it, as some systems drop that"
            notes.append(Finding("unseen", name, words, False))
    for name, files in tree.classes.items():
        for path in (tree.root / name, *files):
            size = len(os.fsencode(path.name))
            if not path.name.isascii():
                words = "has a name beyond ASCII, which some archives and systems change"
                notes.append(Finding("name", tree.name(path), f"{shown(path)} {words}", False))
            if size >= _LONG_NAME:
                words = f"has a name of {size} bytes, and many systems allow 255"
                notes.append(Finding("long name", tree.name(path), f"{shown(path)} {words}", False))
    return notes
