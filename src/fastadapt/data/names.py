"""When two names are one, and when they only look alike: one rule for tasks, labels, classes, people and galleries.

Names are one if their text is the same in Unicode's composed form (NFC): "é" may be one character or two. Names that
are not, and differ in nothing but case, spaces, characters that are not seen, a wide or other form of a letter, a
letter of another script that looks the same, or zeros in front, stay two names, and are told.
"""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable

from fastadapt.data.files import shown

_FORMS = ("<wide>", "<narrow>", "<compat>", "<font>")  # and not superscripts: m2 and m² are two words
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0") | {chr(c) for c in range(0xFE00, 0xFE10)}
_CYRILLIC = dict(zip("АВЕКМНОРСТУХІЈЅԀҺԚԜ", "ABEKMHOPCTYXIJSDHQW", strict=True))
_LATIN = {
    **_CYRILLIC,
    **{cyrillic.lower(): latin.lower() for cyrillic, latin in _CYRILLIC.items()},  # so that case stays one of case
    **dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ABEZHIKMNOPTYX", strict=True)),  # and no small ones: α is not a
}
"""Letters of Cyrillic and Greek that look as one of Latin."""
_WHOLE = re.compile(r"0*(\d+)(?:\.0+)?")


def composed(text: str) -> str:
    r"""Return a text in its composed form, NFC.

    Example:
        >>> composed("e\u0301cole") == "\u00e9cole"
        True
    """
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def all_composed(texts: Iterable[str]) -> tuple[str, ...]:
    """Return texts in their composed form."""
    return tuple(map(composed, texts))


def _in_usual_forms(text: str) -> str:
    return composed("".join(unicodedata.normalize("NFKC", c) if _has_usual_form(c) else c for c in text))


def _has_usual_form(character: str) -> bool:
    return not character.isspace() and unicodedata.decomposition(character).startswith(_FORMS)


def _seen(text: str) -> str:
    return composed("".join(c for c in text if unicodedata.category(c) != "Cf" and c not in _UNSEEN))


def _in_latin(text: str) -> str:
    """Return a word whose letters all have one of Latin that looks the same in these; any other as it is."""
    made = "".join(_LATIN.get(c, c) for c in text)
    return made if made.isascii() else text


def _number(text: str) -> str:
    found = _WHOLE.fullmatch(text)
    return found[1] if found else text


_STEPS: dict[str, Callable[[str], str]] = {
    "characters that are not seen": lambda text: text if text.isascii() else _seen(text),
    "forms of letters such as wide ones": lambda text: text if text.isascii() else _in_usual_forms(text),
    "letters of other scripts that look the same": lambda text: text if text.isascii() else _in_latin(text),
    "case": str.lower,
    "spaces": lambda text: " ".join(text.split()),
    "zeros": _number,
}
"""What is taken away, one after another, before names are compared."""


def bare(text: str, *, without: str = "") -> str:
    r"""Return what is left of a name once all is taken away by which names may differ and look alike.

    Args:
        text: the name.
        without: a difference that is left in.

    Example:
        >>> bare("Red\u200b "), bare("\uff32ed"), bare("r\u0435d"), bare("007"), bare("7.0")
        ('red', 'red', 'red', '7', '7')
    """
    text = composed(text)
    for difference, step in _STEPS.items():
        if difference != without:
            text = step(text)
    return text


def alike(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return the pairs of names that look alike and are two, the first of each kind beside each other.

    Example:
        >>> alike(["red", "Red", "blue", "rot"]), alike(["1", "01", "10", "1.1", "1.10"])
        ([('Red', 'red')], [('01', '1')])
    """
    first: dict[str, str] = {}
    return [(first[key], name) for name in sorted(set(names)) if first.setdefault(key := bare(name), name) != name]


def difference(a: str, b: str) -> str:
    r"""Return in what two names that look alike differ, in words.

    Example:
        >>> difference("Red", "red "), difference("red", "re\u00add")
        ('case and spaces', 'characters that are not seen (U+00AD SOFT HYPHEN)')
    """
    found = [step for step in _STEPS if bare(a, without=step) != bare(b, without=step)]
    words = " and ".join(found) or "their Unicode form"
    one, other = composed(a), composed(b)
    odd = [c for c in (*one, *other) if (c in one) != (c in other) and not c.isascii()]
    unlike = bool(odd) and any(step not in ("case", "spaces", "zeros") for step in found)
    return words + (f" (U+{ord(odd[0]):04X} {unicodedata.name(odd[0], '')}".rstrip() + ")" if unlike else "")


def told_alike(what: str, names: Collection[str], then: str, most: int = 3) -> list[str]:
    """Return a sentence if some of the names look alike.

    Args:
        what: the names are of: "the tasks".
        names: different ones.
        then: what to do about it, or what becomes of them.
        most: pairs that are named.

    Example:
        >>> told_alike("the tasks", ["A", "a", "b"], "write them alike if they are one")
        ["the tasks 'A' and 'a' differ in case alone; write them alike if they are one"]
    """
    by_difference: dict[str, list[str]] = {}
    pairs = alike(names)
    for a, b in pairs[:most]:
        by_difference.setdefault(difference(a, b), []).append(f"{shown(a)!r} and {shown(b)!r}")
    told = ", ".join(f"{', '.join(some)} differ in {words} alone" for words, some in by_difference.items())
    more = f" (and {len(pairs) - most} more pairs do)" if len(pairs) > most else ""
    return [f"{what} {told}{more}; {then}"] if pairs else []


def invisible(name: str) -> str | None:
    r"""Return what can't be seen of a name, in words; None for an ordinary one.

    Example:
        >>> invisible("dog "), invisible("d\u200bog"), invisible("big dog")
        ('begins or ends with a blank', 'holds U+200B ZERO WIDTH SPACE, which is not seen', None)
    """
    if name != name.strip():
        return "begins or ends with a blank"
    odd = next((c for c in name if unicodedata.category(c) == "Cf" or c in _UNSEEN), None)
    joiner = odd in ("\u200c", "\u200d")  # part of the writing of Persian, of India, and of pictures
    return None if odd is None or joiner else f"holds U+{ord(odd):04X} {unicodedata.name(odd, '')}, which is not seen"
