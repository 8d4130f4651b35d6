"""What a missing value is written as."""

from collections.abc import Collection

MISSING = frozenset((
    *("", "na", "n/a", "n.a.", "nan", "null", "none", "nil", "?", "-", "--", "–", "—", ".", "missing", "<na>", "nat"),
    *("#n/a", "#na", "#null!", "#value!", "#ref!", "#div/0!", "#num!", "#name?"),
))  # fmt: skip
"""In any case; an empty cell always is."""
LABELS = frozenset({"none", "nil", "-", "--", "–", "—", "null", "missing"})
"""Of these the words that are taken for a label where the other labels are text: "none" beside "some"."""


def is_missing(cell: str, words: Collection[str] | None = None) -> bool:
    """Return whether a cell says that there is no value.

    Args:
        cell: the text.
        words: what says so, in lower case; None takes `MISSING`.

    Example:
        >>> is_missing("N/A"), is_missing("N/A", ("-999",)), is_missing("", ())
        (True, False, True)
    """
    return not cell or cell.lower() in (MISSING if words is None else words)
