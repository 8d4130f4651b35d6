"""What the folders of a tree say about its split: which of them are named as parts, and what that makes of the classes.

    photos/ train/ cat/ 1.jpg            cat/ train/ 1.jpg
                   dog/ 2.jpg                 test/  2.jpg
            test/  owl/ 3.jpg            dog/ train/ 3.jpg

Left, classes "cat" and "dog" train and "owl" is tested on; right, each class has two folders of images.
"""

import unicodedata
from collections import defaultdict
from dataclasses import dataclass

from fastadapt.data.images.split_names import Reading, Side, read_name
from fastadapt.data.images.tree import Tree
from fastadapt.data.names import composed

Path = tuple[str, ...]
_STRICTNESS: tuple[Side, ...] = ("any", "train", "val", "judged", "test")  # a folder in two parts is in the last


@dataclass(frozen=True)
class Placed:
    """Hold what the path of one folder of images says.

    Args:
        path: the folder, below the root.
        key: the same without the folders that are named as parts; the name of its class, and empty for none.
        side: the part that it lies in; None for none.
    """

    path: str
    key: str
    side: Side | None


def placed(tree: Tree) -> list[Placed]:
    """Return what the path of every folder of images says of the split.

    A folder that holds images is a class whatever its name (a steam train), unless all folders beside it are named as
    parts too. A name of which only one word is that of a part counts where it has a counterpart: seg_train, seg_test.

    Example:
        >>> from pathlib import Path
        >>> [(at.key, at.side) for at in placed(Tree(Path(), {"train/cat": [], "test/owl": []}, []))]
        [('cat', 'train'), ('owl', 'test')]
        >>> [(at.key, at.side) for at in placed(Tree(Path(), {"rail/train": [], "rail/tram": []}, []))]
        [('rail/train', None), ('rail/tram', None)]
    """
    paths = [tuple(name.split("/")) for name in tree.classes]
    marks = _Marks(paths)
    return [_place(path, marks) for path in paths]


class _Marks:
    """Find which folders of a tree are named as parts, by what lies beside them."""

    def __init__(self, paths: list[Path]) -> None:
        self.leaves = set(paths)
        self.beside: dict[Path, set[str]] = defaultdict(set)
        for path in paths:
            for depth in range(len(path)):
                self.beside[path[:depth]].add(path[depth])
        self.rests = {""}
        for names in self.beside.values():
            sides: dict[str, set[Side]] = defaultdict(set)
            for reading in filter(None, map(read_name, names)):
                sides[reading.rest].add(reading.side)
            self.rests |= {rest for rest, found in sides.items() if len(found) > 1}
        self.inside = any(self._all_marked(parent) and self._sides(parent) > 1 for parent in list(self.beside))

    def reading(self, path: Path) -> Reading | None:
        """Return what the last folder of a path says, or None if it is no part."""
        found = read_name(path[-1])
        if found is None or found.rest not in self.rests:
            return None
        if path not in self.leaves:
            return found
        parent = path[:-1]
        return found if self.inside and self._all_marked(parent) and (parent or self._sides(parent) > 1) else None

    def _sides(self, parent: Path) -> int:
        readings = ((name, read_name(name)) for name in self.beside[parent])
        return len({name if it.side == "any" else it.side for name, it in readings if it is not None})

    def _all_marked(self, parent: Path) -> bool:
        """Whether all that lies in a folder are images of parts of it."""
        readings = [read_name(name) for name in self.beside[parent]]
        leaves = all((*parent, name) in self.leaves for name in self.beside[parent])
        return leaves and all(reading is not None and reading.rest in self.rests for reading in readings)


def _place(path: Path, marks: _Marks) -> Placed:
    kept: list[str] = []
    side: Side | None = None
    for depth in range(1, len(path) + 1):
        reading = marks.reading(path[:depth])
        if reading is None:
            kept.append(path[depth - 1])
            continue
        if reading.rest and kept[-1:] != [reading.rest]:
            kept.append(reading.rest)
        if path[:depth] not in marks.leaves or depth == 1:  # the parts of a class's own images divide no classes
            side = reading.side if side is None else max((side, reading.side), key=_STRICTNESS.index)
    return Placed("/".join(path), "/".join(kept), side)


def by_class(places: list[Placed]) -> dict[str, list[Placed]]:
    """Return the folders of each class; names that differ in case alone are one, unless one part has both.

    Example:
        >>> found = by_class([Placed("train/Cat", "Cat", "train"), Placed("test/cat", "cat", "test")])
        >>> {name: [at.path for at in folders] for name, folders in found.items()}
        {'Cat': ['train/Cat', 'test/cat']}
    """
    spellings = {(at.side, at.key) for at in places}
    loose = len({(side, _folded(key)) for side, key in spellings}) == len(spellings)
    names: dict[str, str] = {}
    classes: dict[str, list[Placed]] = {}
    for at in sorted(places, key=lambda at: (at.side != "train", at.path)):
        key = at.key or at.path
        name = names.setdefault(_folded(key) if loose else composed(key), key)
        classes.setdefault(name, []).append(at)
    return dict(sorted(classes.items()))


def _folded(key: str) -> str:
    return unicodedata.normalize("NFKC", key).casefold()
