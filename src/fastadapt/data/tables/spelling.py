"""Words that are one although they are spelt in two ways: "1" and "1.0", "true" and "TRUE"."""

import re
from collections.abc import Collection

TRUTH = {
    **dict.fromkeys(("true", "yes", "y", "t", "on", "1"), True),
    **dict.fromkeys(("false", "no", "n", "f", "off", "0"), False),
}
"""Words for yes and no, in any case."""
_WHOLE = re.compile(r"([+-]?\d+)\.0+")


def plain(word: str) -> str:
    """Return a whole number without the ".0" that a program added; anything else as it is.

    Example:
        >>> plain("1.0"), plain("01"), plain("1.50")
        ('1', '01', '1.50')
    """
    found = _WHOLE.fullmatch(word)
    return found[1] if found else word


def truth(word: str) -> bool | None:
    """Return what a word for yes or no says; None for any other word."""
    return TRUTH.get(plain(word).lower())


def known_as(word: str, known: Collection[str]) -> str | None:
    """Return which of the known words a word is; None if it is none of them.

    Example:
        >>> known_as("1.0", ("1", "2")), known_as("TRUE", ("false", "true")), known_as("01", ("1",))
        ('1', 'true', None)
    """
    if word in known:
        return word
    said = truth(word)
    if said is None and not word[:1].isdigit() and word[:1] not in "+-":
        return None  # most words, at once
    same = [other for other in known if plain(other) == plain(word)]
    if not same and said is not None and all(truth(other) is not None for other in known):
        same = [other for other in known if truth(other) is said]
    return same[0] if len(same) == 1 else None


def spellings(words: Collection[str]) -> dict[str, str]:
    """Return for each word that is another spelling of one which is there as well, that one.

    Example:
        >>> spellings(["1", "1.0", "2.0"]), spellings(["Yes", "no", "yes"]), spellings(["Red", "red"])
        ({'1.0': '1'}, {'yes': 'Yes'}, {})
    """
    found: dict[str, str] = {}
    said = all(truth(word) is not None for word in words)
    first: dict[object, str] = {}
    for word in sorted(words, key=lambda word: (len(word), word)):
        key = truth(word) if said else plain(word)
        other = first.setdefault(key, word)
        if other != word:
            found[word] = other
    return found


def near_words(words: Collection[str]) -> list[tuple[str, str]]:
    """Return the pairs of words that differ in nothing but case and spaces.

    Example:
        >>> near_words(["Red", "red", "blue"])
        [('Red', 'red')]
    """
    first: dict[str, str] = {}
    return [
        (first[key], word)
        for word in sorted(words)
        if first.setdefault(key := " ".join(word.casefold().split()), word) != word
    ]
