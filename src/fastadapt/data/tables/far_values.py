"""Values that stand far outside all others of their column, as -999 does for "no value": told, and never changed.

Values are sorted, up to three at either end are set apart, and the others span R. One set apart is far outside

    if it comes three times, and the gap to the others is more than 10 R, or 100 R for zero;
    if people write it for "no value" (-99, 9999, 1900-01-01), twice and more than 3 R, or once and more than 10 R;
    if it is written so, comes twice, and is the only negative value.

What is heavy-tailed comes once at its end, what is inflated by zeros has them beside the others, and a ladder such as
1, 10, 100, 1000 has gaps of 9 R.
"""

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_MOST = 3  # values at either end
_FAR, _NEAR, _NEAR_DATE = 10.0, 3.0, 0.5  # times the range of the others
_FAR_ZERO = 100.0  # as amounts of none are usual, but not beside a billion seconds
_LADDER = 8  # values, below which steps that grow by a factor are looked at
_EDGES = (-32768.0, 32767.0, 65535.0, -2147483648.0, 2147483647.0, 4294967295.0)
_EPOCH = datetime.date(1970, 1, 1)
_DATES = frozenset(
    float((datetime.date(*day) - _EPOCH).days)
    for day in (
        *((1, 1, 1), (1600, 1, 1), (1601, 1, 1), (1753, 1, 1), (1800, 1, 1), (1899, 12, 30), (1899, 12, 31)),
        *((1900, 1, 1), (1901, 1, 1), (1970, 1, 1), (2099, 12, 31), (2199, 12, 31), (2999, 12, 31), (3000, 1, 1)),
        *((9999, 1, 1), (9999, 12, 30), (9999, 12, 31), (1111, 11, 11), (2222, 2, 22)),
    )
)


@dataclass(frozen=True)
class Far:
    """Hold a value that stands far outside, how often it does, a row of it, and the range of the others."""

    value: float
    count: int
    row: int
    low: float
    high: float


def far_values(values: np.ndarray, owners: Sequence[str] | None = None, *, dates: bool = False) -> list[Far]:
    """Return the values that stand far outside all others.

    Args:
        values: `[n]`, NaN where there is none; of dates the days since 1970.
        owners: the task of each row. What fills one task and stands in no other is its own, unless it is written as
            people write "no value".
        dates: whether the values are dates.

    Example:
        >>> ages = np.array([31.0, 28, 45, 999, 37, 52, 999, 40])
        >>> [(far.value, far.count, far.high) for far in far_values(ages)], far_values(ages[:3])
        ([(999.0, 2, 52.0)], [])
    """
    distinct, first, counts = np.unique(values, return_index=True, return_counts=True)
    there = np.isfinite(distinct)
    distinct, first, counts = distinct[there], first[there], counts[there]
    n, best = len(distinct), (0, 0)
    for below in range(min(_MOST, n) + 1):
        for above in range(min(_MOST, n - below) + 1):
            if below + above > sum(best) and _all_far(distinct, counts, below, above, dates):
                best = (below, above)
    below, above = best
    if not below + above:
        return []
    low, high = float(distinct[below]), float(distinct[n - above - 1])
    places = [*range(below), *range(n - above, n)]
    found = [Far(float(distinct[i]), int(counts[i]), int(first[i]), low, high) for i in places]
    return [far for far in found if not _of_one_task(far, values, owners, dates)]


def _all_far(distinct: np.ndarray, counts: np.ndarray, below: int, above: int, dates: bool) -> bool:
    """Return whether all values that are set apart are far outside the others."""
    n = len(distinct)
    rest = distinct[below : n - above]
    if len(rest) < 2 or counts[below : n - above].sum() <= counts.sum() / 2:
        return False
    first, last = float(rest[0]), float(rest[-1])
    span = last - first
    for place in (*range(below), *range(n - above, n)):
        value = float(distinct[place])
        gap = (first - value if place < below else value - last) / span
        if not _is_far(value, int(counts[place]), gap, rest, dates):
            return False
    return True


def _is_far(value: float, count: int, gap: float, rest: np.ndarray, dates: bool) -> bool:
    if is_code(value, dates=dates):
        alone = not dates and value < 0 <= rest[0] and (value < -9 or gap > 1)
        return (gap > _FAR) or (count > 1 and (gap > (_NEAR_DATE if dates else _NEAR) or alone))
    far = gap > (_FAR_ZERO if value == 0 else _FAR)
    return count > 2 and far and len(rest) > 2 and not _is_a_ladder(value, rest)


def is_code(value: float, *, dates: bool = False) -> bool:
    """Return whether people write a number, or the days of a date since 1970, where there is no value.

    Example:
        >>> [is_code(v) for v in (-999.0, 99.0, 9999.99, 88.0, 1e20, 9.0, 99.5, 100.0)]
        [True, True, True, True, True, False, False, False]
    """
    if dates:
        return math.floor(value) in _DATES or float(round(value)) in _DATES  # another zone, or the end of the day
    digits = f"{abs(value):.10g}".replace(".", "")
    same = len(set(digits)) == 1 and digits[0] in "789" and abs(value) >= 77
    return same or value in _EDGES or abs(value) >= 1e15 or value == -9


def _is_a_ladder(value: float, rest: np.ndarray) -> bool:
    """Return whether a value is the next of few that grow by a factor, as doses do."""
    if len(rest) >= _LADDER or rest[0] <= 0 or value <= 0:
        return False
    steps = np.log(rest)
    gap = max(math.log(value) - steps[-1], steps[0] - math.log(value))
    return gap < 1.5 * float(np.diff(steps).max())


def _of_one_task(far: Far, values: np.ndarray, owners: Sequence[str] | None, dates: bool) -> bool:
    """Return whether a value is that of all rows of one task, and of no other."""
    if owners is None or is_code(far.value, dates=dates):
        return False
    here = values == far.value
    tasks = {owner for owner, there in zip(owners, here, strict=True) if there}
    return len(tasks) == 1 and sum(owner in tasks for owner in owners) == far.count > 1
