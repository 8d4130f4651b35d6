"""Which split a folder of images gets: that of its folders, that of a list, or one at random. Asked by check and train.

A class that stands on two sides is never trained and tested on: its folders become one class, or the folder is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from fastadapt.data.files import shown
from fastadapt.data.images.class_lists import find_lists, read_lists
from fastadapt.data.images.class_settings import Part
from fastadapt.data.images.split_folders import Placed, by_class, placed
from fastadapt.data.images.split_names import Side
from fastadapt.data.images.tree import Tree
from fastadapt.data.names import composed
from fastadapt.errors import ConfigError, DataError

SplitBy = Literal["", "random", "folders", "lists"]
"""How classes were divided; "" at random where no folder is named as a part, so that a class's name is its path."""
PARTS: tuple[Part, ...] = ("train", "val", "test")
_NAMED = 5  # classes in a sentence
_MEND = "rename or move them, or divide all classes anew with --split random"


@dataclass(frozen=True, eq=False)
class Choice:
    """Hold the split that was chosen.

    Args:
        tree: the folder, the images of each class together.
        by: how its classes are divided.
        parts: the part of each class; empty where they are divided at random.
        words: what was chosen, in a sentence.
        problem: why the folder can't be divided as asked, if so.
        notes: what else is worth knowing.
    """

    tree: Tree = field(repr=False)
    by: SplitBy
    parts: Mapping[str, Part]
    words: str
    problem: str | None = None
    notes: tuple[str, ...] = ()


def choose_split(tree: Tree, split: str = "auto") -> Choice:
    """Return the split of a folder.

    Args:
        tree: the folder.
        split: "folders" takes that of folders named train, val, test and the like; "random" divides anew; a file lists
            the classes of each part; "auto" takes folders, else lists that lie beside the classes, else chance.

    Raises:
        ConfigError: if `split` is none of these.
        DataError: if a list can't be read.

    Example:
        >>> tree = Tree(Path("pets"), {"train/cat": [], "train/dog": [], "test/owl": []}, [])
        >>> choice = choose_split(tree)
        >>> choice.by, dict(choice.parts)
        ('folders', {'cat': 'train', 'dog': 'train', 'owl': 'test'})
        >>> list(choose_split(Tree(Path("pets"), {"train/cat": [], "test/cat": []}, [])).tree.classes)
        ['cat']
    """
    choice = _choice(tree, split)
    return replace(choice, notes=(*choice.notes, *_namesakes(choice.tree)))


def _choice(tree: Tree, split: str) -> Choice:
    if split in ("auto", "folders", "random"):
        choice = _by_folders(tree)
        if split == "random":
            return _random(choice, tree)
        if split == "folders" and choice.by != "folders" and choice.problem is None:
            why = choice.words if choice.by else "none in it is named as a part (train, val, test and the like)"
            return replace(
                choice, problem=f"{shown(tree.root)} can't be divided by its folders: {why}; use --split auto"
            )
        return choice if choice.by or choice.problem else _found_lists(choice)
    if not Path(split).exists():
        raise ConfigError(f"--split is auto, folders, random or a file that lists classes; there is no file {split!r}")
    return _by_lists(tree, read_lists(Path(split)), shown(split))


def class_tree(tree: Tree, by: SplitBy) -> Tree:
    """Return a folder with its classes named as a split made `by` names them."""
    return _merged(tree, by_class(placed(tree))) if by else tree


def _merged(tree: Tree, classes: Mapping[str, Sequence[Placed]]) -> Tree:
    files = {name: [file for at in folders for file in tree.classes[at.path]] for name, folders in classes.items()}
    return replace(tree, classes=files)


def _random(choice: Choice, tree: Tree) -> Choice:
    """Return a division at random of the same classes, whatever folders say."""
    if choice.by == "random" or (not choice.by and choice.problem is None):
        return choice
    classes = by_class(placed(tree))
    words = "the classes are divided at random, though folders are named as parts"
    return Choice(_merged(tree, classes), "random", {}, f"{words}{_together(classes)}")


def _by_folders(tree: Tree) -> Choice:
    """Return what folders that are named as parts say; a division at random where they don't."""
    plain = Choice(tree, "", {}, "the classes are divided at random")
    places = placed(tree)
    if not any(at.key != at.path for at in places):
        return plain
    if homeless := [at.path for at in places if not at.key]:
        held = f"{_listed(homeless)} hold{'s' * (len(homeless) == 1)} images that belong to no class"
        return replace(plain, problem=f"{held}; put these into a folder for each class: train/cat, test/owl")
    classes = by_class(places)
    every = {at.side for at in places} - {"any"}
    # beside a folder of test classes alone, the other classes train
    rest: Side | None = None if "train" in every or every == {None} else "train"
    sides: dict[str, set[Side | None]] = {
        name: {at.side or rest for at in folders} for name, folders in classes.items()
    }
    shared = [name for name, found in sides.items() if len(found) > 1]
    if not shared and (len(every) <= 1 or every == {None, "train"}):  # a folder around all, or a group of some
        if len(classes) == len(places):
            return plain
        return Choice(_merged(tree, classes), "random", {}, f"{plain.words}{_together(classes)}")
    if not shared:
        return _divided(tree, classes, {name: next(iter(found)) for name, found in sides.items()}, plain)
    held = {name for name, found in sides.items() if found != {"train"}}
    if all("train" in sides[name] for name in held):
        return _random(replace(plain, by="folders"), tree)
    single = [name for name in held if len(sides[name]) == 1]
    text = f"{_listed(shared)} {'are' if len(shared) > 1 else 'is'} in more than one of the parts that folders name"
    text += f", and {_listed(sorted(single))} in one" if single else ""
    return replace(plain, problem=f"{text}; {_MEND}")


def _divided(
    tree: Tree, classes: Mapping[str, Sequence[Placed]], sides: Mapping[str, Side | None], plain: Choice
) -> Choice:
    """Return the split of folders that share no class."""
    found = set(sides.values())
    judged: Part = "val" if "test" in found and "val" not in found else "test"
    parts: dict[str, Part] = {}
    for name, side in sides.items():
        if side is None or side == "any":
            text = f"{shown(classes[name][0].path)!r} lies beside folders that are named as parts, and in none of them"
            return replace(plain, problem=f"{text}; move it into one, or divide all classes anew with --split random")
        parts[name] = judged if side == "judged" else side
    if "train" not in parts.values():
        text = f"folders name classes for {' and '.join(p for p in PARTS if p in parts.values())}, and none to train on"
        return replace(plain, problem=f"{text}; add a folder train, or divide all classes anew with --split random")
    return Choice(_merged(tree, classes), "folders", parts, f"its folders divide the classes: {_told(parts)}")


def _found_lists(choice: Choice) -> Choice:
    """Return the split of lists that lie beside the classes; a note where they can't be used."""
    if (path := find_lists(choice.tree.root)) is None:
        return choice
    try:
        listed = _by_lists(choice.tree, read_lists(path), shown(path))
        unusable = listed.problem
    except DataError as error:
        listed, unusable = choice, str(error)
    if unusable is None:
        return listed
    return replace(choice, notes=(f"{shown(path)} is not taken for the split: {unusable}",))


def _by_lists(tree: Tree, lists: Mapping[Part, Sequence[str]], where: str) -> Choice:
    """Return the split of lists, which need not name all classes; those that train may go without saying."""
    classes = by_class(placed(tree))
    choice = Choice(_merged(tree, classes), "lists", {}, "")
    known = _names(classes)
    parts: dict[str, Part] = {}
    strange: list[str] = []
    for part, names in lists.items():
        for name in names:
            found = known.get(composed(name.strip("/")))
            if found is None:
                strange.append(name)
            elif parts.setdefault(found, part) != part:
                text = f"{where} lists {shown(found)!r} for {parts[found]} and for {part}; list it once"
                return replace(choice, problem=text)
    if strange:
        text = (
            f"{where} lists {_listed(strange)}, and {shown(tree.root)} has no such class but {_listed(list(classes))}"
        )
        return replace(choice, problem=f"{text}; mend the list")
    notes: tuple[str, ...] = ()
    if left := [name for name in classes if name not in parts]:
        if "train" in parts.values():
            notes = (f"{where} does not list {_listed(left)}: left out",)
        else:
            parts |= dict.fromkeys(left, "train")
    return replace(choice, parts=parts, words=f"{where} divides the classes: {_told(parts)}", notes=notes)


def _names(classes: Mapping[str, Sequence[Placed]]) -> dict[str, str]:
    """Return the class that a name means: its own, the path of a folder of it, or the end of one that no other has."""
    known: dict[str, str] = {}
    ends: dict[str, set[str]] = {}
    for name, folders in classes.items():
        for path in (name, *(at.path for at in folders)):
            known[composed(path)] = name
            pieces = composed(path).split("/")
            for depth in range(1, len(pieces)):
                ends.setdefault("/".join(pieces[depth:]), set()).add(name)
    return {end: next(iter(names)) for end, names in ends.items() if len(names) == 1} | known


def _together(classes: Mapping[str, Sequence[Placed]]) -> str:
    """Say which classes have several folders."""
    several = [name for name, folders in classes.items() if len(folders) > 1]
    if not several:
        return ""
    first = ", ".join(repr(shown(at.path)) for at in classes[several[0]][:_NAMED])
    return f"; {_listed(several)} {'have' if len(several) > 1 else 'has'} several folders ({first}), put together"


def _told(parts: Mapping[str, Part]) -> str:
    found = list(parts.values())
    told = ", ".join(f"{found.count(part)} {part}" for part in PARTS if part in found)
    missing = " and ".join(part for part in PARTS[1:] if part not in found)
    return f"{told}; classes for {missing} are taken from those that train" if missing else told


def _listed(names: Sequence[str]) -> str:
    first = ", ".join(repr(shown(name)) for name in names[:_NAMED])
    return f"{first} and {len(names) - _NAMED} more" if len(names) > _NAMED else first


def _namesakes(tree: Tree) -> list[str]:
    """Say which classes are told apart by their folders alone, as they may be one; numbered ones are not."""
    ends: dict[str, list[str]] = {}
    for name in tree.classes:
        end = name.rsplit("/", 1)[-1].casefold()
        if not any(map(str.isdigit, end)):
            ends.setdefault(end, []).append(name)
    same = [names for names in ends.values() if len(names) > 1]
    if not same:
        return []
    more = f" (and {len(same) - 1} more such names)" if len(same) > 1 else ""
    return [f"{_listed(same[0])} count as different classes{more}; put together what is one class"]
