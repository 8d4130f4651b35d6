"""A tree of class folders: which folders are classes, which files they hold, and what is wrong with the tree itself.

    photos/                       drawings/
      cat/  1.jpg  2.jpg            Greek/  alpha/  1.png  2.png
      dog/  3.jpg  4.jpg                    beta/   1.png  2.png

A class is a folder that holds images and no further folder. Its name is its path: "cat", or "Greek/alpha"; folders of
one text in two Unicode forms are one class. No file is opened here.
"""

import errno
import os
import stat
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from fastadapt.data.files import reason, shown
from fastadapt.data.names import composed
from fastadapt.errors import DataError

_READ = "png apng jpg jpeg jpe jfif webp gif"
_NOT_READ = (
    "bmp dib tif tiff avif heic heif jp2 j2k jxl ico pgm ppm pbm pnm tga svg psd exr dcm qoi pcx dds hdr fits "
    "raw cr2 nef dng arw"
)
SUFFIXES = frozenset(f".{end}" for end in f"{_READ} {_NOT_READ}".split())
"""How names of images end, those of formats too that are not read: their files are told, not passed over."""

CLUTTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
"""What desktops and archives leave in folders, in small letters."""
_DEEPEST = 20
_WANTED = "make one sub-folder for each class and put its images in it"


@dataclass(frozen=True)
class Finding:
    """Say what is wrong with one file or folder, or worth knowing about it.

    Args:
        kind: a short name of the rule, to count by: "link", "file", "size", "duplicate", ...
        path: the file or folder below the root; "." is the root.
        text: one sentence: what it is and what to do.
        refused: whether training refuses it; otherwise it is a note.
    """

    kind: str
    path: str
    text: str
    refused: bool = True


@dataclass(frozen=True, eq=False)
class Tree:
    """Hold the files of each class, both sorted by name, and what is wrong with the tree.

    Args:
        root: the folder.
        classes: for each class, by its path below the root, its files; not all of them need be images.
        findings: what can be said without opening a file.
    """

    root: Path
    classes: dict[str, list[Path]]
    findings: list[Finding]

    def name(self, path: Path) -> str:
        """Return the path of a file or folder below the root, with slashes."""
        return path.relative_to(self.root).as_posix()


@dataclass
class _Walk:
    """Hold what has been seen of a tree; real folders are visited before links to folders."""

    root: Path
    files: dict[Path, list[Path]] = field(default_factory=dict)
    groups: set[Path] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
    seen: dict[tuple[int, int], Path] = field(default_factory=dict)
    folders: deque[Path] = field(default_factory=deque)
    links: deque[Path] = field(default_factory=deque)
    names: dict[str, Path] = field(default_factory=dict)

    def add(self, kind: str, path: Path, text: str, *, refused: bool = True) -> None:
        self.findings.append(Finding(kind, path.relative_to(self.root).as_posix(), f"{shown(path)} {text}", refused))


def scan_tree(folder: str | Path) -> Tree:
    """Return the classes below `folder`.

    Names that begin with a dot are ignored, and so are files that desktops leave (`Thumbs.db`). Symbolic links are
    followed, but never twice to the same folder.

    Args:
        folder: the root.

    Returns:
        The classes, sorted by name; there may be none.

    Raises:
        DataError: if `folder` is no folder, or can't be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     Path(root, "Greek", "alpha").mkdir(parents=True)
        ...     _ = Path(root, "Greek", "alpha", "1.png").write_bytes(b"")
        ...     list(scan_tree(root).classes)
        ['Greek/alpha']
    """
    root = Path(folder)
    walk = _Walk(root)
    _visit(walk, root, strict=True)
    while walk.folders or walk.links:
        _visit(walk, walk.folders.popleft() if walk.folders else walk.links.popleft())
    tree = Tree(root, {}, walk.findings)
    for path in sorted(walk.files, key=tree.name):
        _sort_in(walk, tree, path)
    tree.findings.sort(key=lambda finding: finding.path)
    return tree


def _sort_in(walk: _Walk, tree: Tree, path: Path) -> None:
    """Decide what one folder is: a class, a group of classes, or nothing of use."""
    files = walk.files[path]
    images = [file for file in files if file.suffix.lower() in SUFFIXES]
    if path == tree.root:
        for file in images:
            walk.add("loose", file, "lies beside the class folders; move it into one of them")
    elif path in walk.groups:
        if images:
            has = f"has {len(images)} image{'s' * (len(images) > 1)} beside its sub-folders"
            walk.add("loose", path, f"{has}; move what is there into one of these")
    elif images:
        first = walk.names.setdefault(composed(tree.name(path)), path)
        if first == path:
            tree.classes[tree.name(path)] = files
        else:
            both = [*tree.classes[tree.name(first)], *files]
            tree.classes[tree.name(first)] = sorted(both, key=lambda file: file.name)
            told = f"has the name of {shown(first)} in another Unicode form; both are one class"
            walk.add("one name", path, told, refused=False)
    elif files:
        has = f"has {len(files)} file{'s' * (len(files) > 1)}, none with the name of an image"
        walk.add("no images", path, f"{has} (.png, .jpg, .webp, .gif); add images or remove it")
    else:
        walk.add("no images", path, "has no images; add some or remove the folder")


def _visit(walk: _Walk, path: Path, *, strict: bool = False) -> None:
    """List one folder; `strict` raises what is otherwise a finding."""
    if len(path.relative_to(walk.root).parts) > _DEEPEST:
        walk.add("folder", path, f"lies more than {_DEEPEST} folders deep; move it up")
        return
    try:
        facts = path.stat()
        first = walk.seen.setdefault((facts.st_dev, facts.st_ino), path)
        if first != path:
            back = first in path.parents
            words = "back to a folder that it lies in" if back else "to a folder that is read already"
            walk.add("link", path, f"is a symbolic link {words} ({shown(first)}); remove it")
            return
        with os.scandir(path) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        if strict:
            raise _unusable(path, error) from error
        walk.add("folder", path, f"can't be read: {reason(error)}")
        return
    files = walk.files[path] = []
    for entry in entries:
        if not entry.name.startswith(".") and entry.name.lower() not in CLUTTER:
            _enter(walk, path, entry, files)


def _enter(walk: _Walk, path: Path, entry: "os.DirEntry[str]", files: list[Path]) -> None:
    """Note one entry of a folder: a file, a folder to visit, or a link that leads to either or nowhere."""
    place = Path(entry.path)
    if not entry.is_symlink():
        folder = entry.is_dir(follow_symlinks=False)
    else:
        try:
            folder = stat.S_ISDIR(place.stat().st_mode)
        except OSError as error:
            where = "back to itself" if error.errno == errno.ELOOP else "nowhere"
            walk.add("link", place, f"is a symbolic link that leads {where}; remove it")
            return
    if folder:
        walk.groups.add(path)
        (walk.links if entry.is_symlink() else walk.folders).append(place)
    else:
        files.append(place)


def _unusable(root: Path, error: OSError) -> DataError:
    if isinstance(error, NotADirectoryError):
        return DataError(f"{shown(root)} is a file, not a folder; {_WANTED}")
    if isinstance(error, FileNotFoundError):
        return DataError(f"there is no folder {shown(root)}; check the path")
    return DataError(f"can't read the folder {shown(root)}: {reason(error)}")


def without_classes(tree: Tree) -> DataError:
    """Return the error for a tree that has no class."""
    loose = [finding for finding in tree.findings if finding.kind == "loose"]
    found = "its images belong to no class" if loose else "no folder in it has images"
    return DataError(f"can't use {shown(tree.root)}: {found}; {_WANTED}")
