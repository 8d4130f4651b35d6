"""Lists of the classes of each part, as people write them: JSON, a table, or lines of text, in one file or one a part.

{"train": ["cat"], "test": ["owl"]}      class,split      train: cat, dog      cat train      train.txt: cat
                                         cat,train        test: owl            owl test       test.txt:  owl
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from fastadapt.data.files import read_file, shown
from fastadapt.data.images.class_settings import Part
from fastadapt.data.images.split_names import read_name
from fastadapt.errors import DataError

Lists = dict[Part, list[str]]
_MOST_BYTES = 10_000_000
_SUFFIXES = (".json", ".csv", ".tsv", ".txt", ".lst", ".list")
_WHOLE = {"split", "splits", "classsplit", "classsplits"}  # files that list all parts, found beside class folders
_COLUMNS = ("class", "class_name", "classname", "label", "category", "name", "species", "identity", "id")
_WANTED = 'write {"train": [...], "val": [...], "test": [...]}, or a line "cat,train" for each class'


def find_lists(root: Path) -> Path | None:
    """Return the file in a folder that is named as a list of its split, or None: split.json, train.txt."""
    try:
        files = sorted(path for path in root.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file())
    except OSError:
        return None
    whole = [path for path in files if "".join(filter(str.isalpha, path.stem.lower())) in _WHOLE]
    parts = [path for path in files if _part(path.stem)]
    return next(iter(whole or (parts if len({_part(path.stem) for path in parts}) > 1 else [])), None)


def read_lists(path: Path) -> Lists:
    r"""Return the classes that are listed for each part.

    Args:
        path: a file that lists classes for parts; or one of several files that are named as parts and lie side by side
            (train.txt, test.txt); or their folder.

    Raises:
        DataError: if it can't be read, or lists no classes for any part.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "split.csv")
        >>> _ = path.write_text("class,split\ncat,train\nowl,test\n")
        >>> read_lists(path)
        {'train': ['cat'], 'test': ['owl']}
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES)
        lists = _together([file for file in files if _part(file.stem)])
    elif _part(path.stem) and (whole := _read(path, None)):
        lists = whole  # "test-split.json" may list all parts
    elif _part(path.stem):
        beside = sorted(file for file in path.parent.iterdir() if file.suffix == path.suffix and _part(file.stem))
        lists = _together(beside)
    else:
        lists = _read(path, None)
    if not any(lists.values()):
        raise DataError(f"{shown(path)} lists no classes for train, val or test; {_WANTED}")
    return lists


def _part(name: str) -> Part | None:
    """Return the part that a word names; "eval" is the test."""
    reading = read_name(name)
    if reading is None or reading.side == "any":
        return None
    return "test" if reading.side == "judged" else reading.side


def _word(text: str) -> Part | None:
    """Return the part that a cell or a heading is, and not merely mentions."""
    reading = read_name(text)
    return _part(text) if reading is not None and not reading.rest else None


def _together(files: Sequence[Path]) -> Lists:
    lists: Lists = {}
    for file in files:
        part = _part(file.stem)
        assert part is not None
        for names in _read(file, part).values():
            lists.setdefault(part, []).extend(names)
    return lists


def _read(path: Path, part: Part | None) -> Lists:
    """Return the lists of one file; `part` is what its name says, and None asks the file itself."""
    content = read_file(path, limit=_MOST_BYTES, kind="a list of classes")
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{shown(path)} is not text in UTF-8 ({error.reason}); save it as UTF-8") from error
    if path.suffix.lower() == ".json" or text.lstrip()[:1] == "{":
        lists = _of_json(path, text, part)
    else:
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        lists = _of_table(lines, part) or _of_lines(lines, part)
    return {name: list(dict.fromkeys(names)) for name, names in lists.items() if names}


def _of_json(path: Path, text: str, part: Part | None) -> Lists:
    """Return the lists of an object of parts, of an object of classes, or of a plain list."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{shown(path)} is no JSON ({error}); {_WANTED}") from error
    lists: Lists = {}
    if isinstance(value, list):
        return {part: [str(name) for name in value]} if part else {}
    for key, inside in value.items() if isinstance(value, dict) else ():
        if isinstance(inside, list | dict) and (named := _word(key)):
            lists.setdefault(named, []).extend(map(str, inside))
        elif isinstance(inside, str) and (named := _word(inside)):
            lists.setdefault(named, []).append(key)
    return lists


def _of_table(lines: list[str], part: Part | None) -> Lists:
    """Return the lists of a table whose header names a column of classes; another has parts, unless the file does."""
    delimiter = next((sign for sign in ("\t", ";", ",") if lines and sign in lines[0]), None)
    if delimiter is None:
        return {}
    try:
        header, *rows = csv.reader(lines, delimiter=delimiter)
    except csv.Error:  # a field of a megabyte: no table
        return {}
    columns = [name.strip().casefold().replace(" ", "_") for name in header]
    place = next((columns.index(name) for name in _COLUMNS if name in columns), None)
    if place is None:
        return {}
    whole = [row for row in rows if len(row) == len(header)]
    parts = next((i for i in range(len(header)) if i != place and whole and all(_word(row[i]) for row in whole)), None)
    lists: Lists = {}
    for row in whole:
        named = part or (_word(row[parts]) if parts is not None else None)
        if named:
            lists.setdefault(named, []).append(row[place].strip())
    return lists


def _of_lines(lines: list[str], part: Part | None) -> Lists:
    """Return the lists of lines of text: headings with classes after or under them, or a class and its part."""
    lists: Lists = {}
    current = part
    for line in lines:
        item = line.lstrip("-*• ").strip("\"'")
        head, colon, tail = line.partition(":")
        heading = _word(line.strip("[]#=: "))
        cells = [cell.strip().strip("\"'") for cell in (line.replace("\t", ",").replace(";", ",")).split(",")]
        if part is None and colon and (named := _word(head)):
            current = named
            lists.setdefault(named, []).extend(name.strip(" []\"'") for name in tail.split(",") if name.strip(" []\"'"))
        elif part is None and heading and len(cells) == 1:
            current = heading
        elif part is None and (pair := _pair(cells) or _pair(line.rsplit(maxsplit=1)) or _pair(line.split(maxsplit=1))):
            lists.setdefault(pair[1], []).append(pair[0])
        elif current:
            lists.setdefault(current, []).extend([item] if len(cells) == 1 or part else cells)
    return lists


def _pair(cells: Sequence[str]) -> tuple[str, Part] | None:
    """Return the class and the part of two cells, whichever comes first."""
    if len(cells) != 2:
        return None
    for name, word in ((cells[0], cells[1]), (cells[1], cells[0])):
        if (part := _word(word)) and not _word(name):
            return name, part
    return None
