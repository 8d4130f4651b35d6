"""Rows with one value more than the header has names: a delimiter at the end of each line, or names of rows in front.

    score,hours,remark         score,hours,remark
    17.2,0.3,good,             1,17.2,0.3,
    16.1,0.1,bad,              2,16.1,0.1,

On the left the last cell goes; on the right, as R writes a table whose last column is empty, every column would be
taken for its neighbour. Where the first cells are different in every row it may be either, unless the header calls them
by a name that such a column has.
"""

import re
from collections.abc import Sequence

from fastadapt.data.files import shown
from fastadapt.data.tables.rows import words_of

_FEWEST = 3  # rows that are all different by more than chance
_NAMES = frozenset((
    *("id", "ids", "uid", "uuid", "guid", "key", "index", "idx", "no", "nr", "num", "number", "count", "counter"),
    *("row", "rownames", "code", "name", "names", "label", "title", "model", "url", "path", "file", "filename"),
    *("image", "date", "day", "time", "datetime", "timestamp", "when", "month", "week", "year", "hour"),
))  # fmt: skip
_DECIMAL = re.compile(r"[+-]?\d*[.,]\d+(?:[eE][+-]?\d+)?|[+-]?\d+[eE][+-]?\d+")


def shifted(header: Sequence[str], cells: Sequence[Sequence[str]], name: str) -> tuple[list[str], list[str]]:
    """Return the sentence for rows of which it can't be told whether their first or their last cell has no name.

    Args:
        header: the names, one fewer than the rows have cells, or as many with an empty one at the end.
        cells: the rows.
        name: the file.

    Returns:
        Why it can't be used, and what is to be said if it can.

    Example:
        >>> rows = [["1", "17.2", ""], ["2", "16.1", ""], ["3", "5.5", ""]]
        >>> [[len(part) for part in shifted(header, rows, "t.csv")] for header in (["score", "x"], ["id", "x"])]
        [[1, 0], [0, 1]]
    """
    first = [row[0] for row in cells]
    if len(first) < _FEWEST or len(set(first)) < len(first) or not all(first) or not header[0]:
        return [], []
    if any(map(_DECIMAL.fullmatch, first)):
        return [], []
    closed = len(header) == len(cells[0])
    if closed and not all(cell.isdecimal() for cell in first):
        return [], []  # words may well be the first column of a table whose last one was not named
    own, named = f"({shown(first[0])!r}, {shown(first[1])!r}, ...)", repr(shown(header[0]))
    if _NAMES & set(words_of(header[0])):
        told = f"{name}: the rows end with a delimiter that the header has not; {named} is taken for their first value"
        return [], [] if closed else [f"{told} {own}"]
    more, mend = "every row has one value more than the header has names", "end the header with a delimiter too"
    if closed:
        more, mend = "the last column has values and no name", "name the last column"
    told = f"{name}: {more}, and every row begins with a value of its own {own}"
    return [
        f"{told}; if these are names of rows, begin the header with a name for them; if they are {named}, {mend}"
    ], []
