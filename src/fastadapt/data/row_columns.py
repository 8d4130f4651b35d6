"""Columns of a file that say which row it is, or in which part: an index, an id, a fold. They are no features."""

import re
from collections.abc import Sequence

_UNNAMED = re.compile(r"column \d+|Unnamed: \d+\S*|__index_level_\d+__|level_\d+")
"""What a column without a name is called: here, and by pandas."""
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_OF_ROWS = frozenset((
    *("id", "ids", "uid", "uuid", "guid", "index", "idx", "row", "rows", "rowid", "rownames", "rownumber", "nr"),
    *("file", "files", "filename", "filenames", "path", "paths", "name", "names", "url"),
    *("fold", "folds", "split", "splits", "subset", "partition", "cv"),
))  # fmt: skip
"""What a name ends with that says which row it is, or in which part."""
_COUNTED = 3  # rows in order that are seen to be counted,
_SHUFFLED = 10  # in another order,
_DIFFERENT = 20  # and with gaps


def named_for_rows(name: str) -> str:
    """Return why the name of a column says something of its rows; "" if it doesn't.

    Example:
        >>> named_for_rows("image_id"), named_for_rows("Unnamed: 0"), named_for_rows("width")
        ('says which row or part it is', 'has no name', '')
    """
    if not name or _UNNAMED.fullmatch(name):
        return "has no name"
    words = _WORD.findall(name)
    of_rows = bool(words) and words[-1].lower() in _OF_ROWS and name.rstrip()[-1:].isalpha()
    return "says which row or part it is" if of_rows else ""


def tells_rows_apart(numbers: Sequence[float], *, whole_alone: bool = False) -> str:
    """Return why whole numbers are an index of the rows: they count them, or differ where others have fractions.

    pandas writes such a column of itself, shuffled and with gaps where the rows are so.

    Args:
        numbers: of each row, whole.
        whole_alone: whether most other columns have fractions.

    Returns:
        The reason; "" if they are none.

    Example:
        >>> tells_rows_apart([0, 1, 2]), tells_rows_apart([2, 0, 1]), tells_rows_apart([12, 4, 4])
        ('counts the rows', '', '')
    """
    count = len(numbers)
    if count < _COUNTED or len(set(numbers)) < count:
        return ""
    ordered = sorted(numbers)
    if ordered[-1] - ordered[0] == count - 1:
        counted = count >= _SHUFFLED or (list(numbers) == ordered and ordered[0] in (0, 1))
        return "counts the rows" if counted else ""
    return "is another whole number in each row" if whole_alone and count >= _DIFFERENT else ""
