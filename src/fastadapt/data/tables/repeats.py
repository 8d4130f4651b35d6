"""Rows that stand in a table twice: one copy may be adapted on, and the other asked for.

Where columns are coarse, rows are the same by chance; then just as many are the same but for one column. With D pairs
of rows that agree everywhere, A_j pairs that agree everywhere but in column j, and p_j the share that agrees in it,

    D is to be expected about  max_j A_j p_j / (1 - p_j),

which makes no assumption on how the other columns depend on each other. Rows are spoken of beyond three times that.
"""

import re
from collections.abc import Sequence

import numpy as np

from fastadapt.data.files import shown
from fastadapt.data.tables.rows import Rows, words_of

_TIMES = 3.0
_FEWEST = 3  # rows that repeat another
_IDS = frozenset(("id", "ids", "uid", "uuid", "guid", "key", "index", "idx", "no", "nr", "row", "rownames", "unnamed"))


def repeated_rows(rows: Rows, names: Sequence[str]) -> list[str]:
    """Return the sentence for rows that repeat others more often than by chance.

    Args:
        rows: the table.
        names: the columns that are used. Those that number or name the rows don't count.

    Example:
        >>> cells = [[str(i % 7), str(i * i % 97)] for i in range(40)]
        >>> print(*repeated_rows(Rows("t.csv", ("a", "b"), cells * 2, list(range(80))), ["a", "b"]))
        t.csv: 40 of 80 rows repeat an earlier one in a, b, such as line 40 that of 0; if they are copies, ...
    """
    names = [name for name in names if not _is_an_id(name, rows.column(name))]
    places = [rows.header.index(name) for name in names]
    first: dict[tuple[str, ...], int] = {}
    repeats: list[tuple[int, int]] = []
    for row, cells in enumerate(rows.cells):
        earlier = first.setdefault(tuple(cells[place] for place in places), row)
        if earlier != row:
            repeats.append((row, earlier))
    if len(repeats) < _FEWEST or len(names) < 2:
        return []
    codes = [_codes(rows.column(name), place) for place, name in enumerate(names)]
    if _pairs(_together(codes)) <= _TIMES * _expected(codes):
        return []
    row, earlier = repeats[0]
    told = (
        f"{rows.name}: {len(repeats)} of {len(rows)} rows repeat an earlier one in {', '.join(map(shown, names[:3]))}"
    )
    told += f" and {len(names) - 3} more columns" if len(names) > 3 else ""
    where = f"such as line {rows.lines[row]} that of {rows.lines[earlier]}"
    return [f"{told}, {where}; if they are copies, remove them: one may be adapted on and the other asked for"]


def _is_an_id(name: str, cells: list[str]) -> bool:
    """Return whether a column numbers the rows, or names each of them differently."""
    if len(set(cells)) < len(cells):
        return False
    start = int(cells[0]) if cells[0].isdecimal() else None
    counts = start is not None and all(cell == str(start + i) for i, cell in enumerate(cells))
    return counts or bool(_IDS & set(words_of(name))) or re.fullmatch(r"column \d+", name) is not None


def _expected(codes: list[np.ndarray]) -> float:
    """Return how many pairs of rows are to be expected to agree in all columns."""
    n = len(codes[0])
    whole = _together(codes)
    same, most = _pairs(whole), 0.0
    for code in codes:
        share = _pairs(code) / (n * (n - 1) / 2)
        if share < 1:
            most = max(most, (_pairs(whole - code) - same) * share / (1 - share))
    return most


def _codes(cells: list[str], seed: int) -> np.ndarray:
    """Return a random number of 64 bits for each different text of a column; sums of them tell rows apart."""
    numbers: dict[str, int] = {}
    which = [numbers.setdefault(cell, len(numbers)) for cell in cells]
    return np.random.default_rng(seed).integers(2**64, size=len(numbers), dtype=np.uint64)[which]


def _together(codes: list[np.ndarray]) -> np.ndarray:
    return np.asarray(np.sum(codes, axis=0, dtype=np.uint64))


def _pairs(code: np.ndarray) -> float:
    """Return how many pairs of rows have the same number."""
    counts = np.unique(code, return_counts=True)[1].astype(float)
    return float((counts * (counts - 1) / 2).sum())
