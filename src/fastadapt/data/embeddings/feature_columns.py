"""Which columns of a file are its features: those that are numbered alike, never what counts or divides the rows."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from fastadapt.data.files import shown
from fastadapt.data.row_columns import named_for_rows, tells_rows_apart
from fastadapt.data.tables.notation import read_number

_NUMBERED = re.compile(r"(.*?)(\d+)")
_FAMILY = 3  # so many names that are numbered alike are no accident


def feature_columns(columns: Mapping[str, Sequence[Any]]) -> tuple[list[str], dict[str, list[str]], str]:
    """Return the columns of features, those that are left out by the reason, and the features as they may be told.

    Where more than half of the columns are numbered alike, such as f0, f1, f2, these are the features. Otherwise all
    are that have a name, whose name says nothing of rows (id, index, fold), and that don't count the rows; as nothing
    vouches for them, they are told.

    Args:
        columns: the values of each column that is neither the classes nor the samples' names.

    Example:
        >>> feature_columns({"f0": [1, 2], "f1": [0.5, 2], "f2": [1, 1], "age": [30, 40]})
        (['f0', 'f1', 'f2'], {'is not numbered as f0 to f2 are': ['age']}, '')
        >>> feature_columns({"id": [7, 5], "width": [0.5, 2], "height": [1, 1]})
        (['width', 'height'], {'says which row or part it is': ['id']}, "'width', 'height'")
    """
    family = max(_families(columns).values(), key=len, default=[])
    alike = len(family) >= _FAMILY and 2 * len(family) > len(columns)
    fractions = 2 * sum(_whole(values) is None for values in columns.values()) > len(columns)
    out: defaultdict[str, list[str]] = defaultdict(list)
    for name, values in columns.items():
        if alike and name in family:
            continue
        reason = _of_rows(name, values, fractions) or (f"is not numbered as {_from_to(family)} are" if alike else "")
        if reason:
            out[reason].append(name)
    left = {name for names in out.values() for name in names}
    kept = [name for name in columns if name not in left]
    return kept, dict(out), "" if alike else ", ".join(_grouped(kept))


def _of_rows(name: str, values: Sequence[Any], among_fractions: bool) -> str:
    """Return why a column says something of its rows and is no feature; "" if it may be one."""
    if reason := named_for_rows(name):
        return reason
    numbers = _whole(values)
    return tells_rows_apart(numbers, whole_alone=among_fractions) if numbers else ""


def _families(names: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the names that are one stem with numbers behind it, by the stem."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        parts = _NUMBERED.fullmatch(name)
        if parts and not name.startswith(("Unnamed: ", "level_")):
            found[parts[1]].append(name)
    return found


def _grouped(names: Sequence[str]) -> list[str]:
    """Return the names as they may be told, those of a family as its first and last."""
    families = {stem: family for stem, family in _families(dict.fromkeys(names)).items() if len(family) >= _FAMILY}
    told = {name: _from_to(family) for family in families.values() for name in family}
    return list(dict.fromkeys(told.get(name, repr(shown(name))) for name in names))


def _from_to(family: Sequence[str]) -> str:
    return f"{shown(family[0])} to {shown(family[-1])}"


def _whole(values: Sequence[Any]) -> list[int] | None:
    """Return the values as whole numbers; None if any is none."""
    found = []
    for value in values:
        number = read_number(value) if isinstance(value, str) else value
        if isinstance(number, bool) or not isinstance(number, int | float) or number % 1 != 0:
            return None
        found.append(int(number))
    return found
