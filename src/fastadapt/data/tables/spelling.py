"""Words of a table that are one although they are spelt in two ways: "1" and "1.0", "true" and "TRUE", "é" and "é".

What only looks alike ("Red" and "red") stays two words: see `fastadapt.data.names`.
"""

import re
from collections.abc import Collection

from fastadapt.data.files import shown
from fastadapt.data.names import composed

_PAIRS = (("true", "false"), ("t", "f"), ("yes", "no"), ("y", "n"), ("on", "off"), ("1", "0"))
TRUTH = {word: word == pair[0] for pair in _PAIRS for word in pair}
"""Words for yes and no, in any case."""
_FAMILY = {"t": "true", "f": "true", "true": "true", "false": "true", "on": "on", "off": "on", "1": "1", "0": "1",
           **dict.fromkeys(("y", "n", "yes", "no"), "yes")}  # fmt: skip
"""Which words go together: a column that says T says F, and N is another word."""
_LETTERS = frozenset("tfyn")
_WHOLE = re.compile(r"([+-]?\d+)\.0+")


def plain(word: str) -> str:
    """Return a whole number without the ".0" that a program added; anything else in its composed form.

    Example:
        >>> plain("1.0"), plain("01"), plain("1.50")
        ('1', '01', '1.50')
    """
    found = _WHOLE.fullmatch(word)
    return found[1] if found else composed(word)


def truth(word: str) -> bool | None:
    """Return what a word for yes or no says; None for any other word."""
    return TRUTH.get(plain(word).lower())


def _family(word: str) -> str:
    return _FAMILY[plain(word).lower()]


def known_as(word: str, known: Collection[str]) -> str | None:
    """Return which of the known words a word is; None if it is none of them.

    A letter for yes or no is a word that begins with it, and no other: N is "no", and never F.

    Example:
        >>> known_as("1.0", ("1", "2")), known_as("TRUE", ("false", "true")), known_as("01", ("1",))
        ('1', 'true', None)
        >>> known_as("N", ("F", "T")), known_as("N", ("no", "yes"))
        (None, 'no')
    """
    if word in known:
        return word
    said = truth(word)
    if said is None and word.isascii() and not word[:1].isdigit() and word[:1] not in "+-":
        return None  # most words, at once
    same = [other for other in known if plain(other) == plain(word)]
    if not same and said is not None and all(truth(other) is not None for other in known):
        same = [other for other in known if truth(other) is said and (word.lower() not in _LETTERS or
                                                                      _family(other) == _family(word))]  # fmt: skip
    return same[0] if len(same) == 1 else None


def spellings(words: Collection[str]) -> dict[str, str]:
    """Return for each word that is another spelling of one which is there as well, that one.

    Words for yes and no are one across their kinds where each kind that is there has both: yes and no beside 1 and 0.
    Where one stands alone, N beside T and F, it is a word of its own.

    Example:
        >>> spellings(["1", "1.0", "2.0"]), spellings(["Yes", "no", "yes"]), spellings(["Red", "red"])
        ({'1.0': '1'}, {'yes': 'Yes'}, {})
        >>> spellings(["T", "F", "true"]), spellings(["T", "F", "N"]), spellings(["yes", "no", "1", "0"])
        ({'true': 'T'}, {}, {'no': '0', 'yes': '1'})
    """
    found: dict[str, str] = {}
    said = all(truth(word) is not None for word in words)
    across = said and _each_has_both(words)
    first: dict[object, str] = {}
    for word in sorted(words, key=lambda word: (len(word), word)):
        key: object = plain(word)
        if said:
            key = truth(word) if across else (truth(word), _family(word))
        other = first.setdefault(key, word)
        if other != word:
            found[word] = other
    return found


def _each_has_both(words: Collection[str]) -> bool:
    there: dict[str, set[bool | None]] = {}
    for word in words:
        there.setdefault(_family(word), set()).add(truth(word))
    return len(there) < 2 or all(len(sides) == 2 for sides in there.values())


def apart(words: Collection[str]) -> str | None:
    """Return which words for yes and no stay different though they may say the same, in words; None where none do.

    Args:
        words: without those that are another spelling.

    Example:
        >>> apart(["T", "F", "N"]), apart(["T", "F"])
        ("'F' and 'N' may say the same", None)
    """
    sides: dict[bool | None, list[str]] = {}
    for word in sorted(words):
        sides.setdefault(truth(word), []).append(word)
    same = next((some for side, some in sides.items() if side is not None and len(some) > 1), None)
    return None if None in sides or same is None else f"{shown(same[0])!r} and {shown(same[1])!r} may say the same"
