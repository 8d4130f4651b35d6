"""Names of folders that say what their classes are for, as a table: train, Validation, images_evaluation, test2017."""

import re
import unicodedata
from typing import Literal, NamedTuple

Side = Literal["train", "val", "test", "judged", "any"]
"""A part of a split; "judged" is "test", or "val" beside a "test"; "any" divides a class's images and no classes."""

_NAMES: dict[Side, str] = {
    "train": "train training trained trn trains trainval base background seen metatrain metatraining",
    "val": "val vals valid validate validation dev devel develop development metaval metavalid metavalidation",
    "test": "test testing tests tst novel unseen heldout holdout metatest metatesting",
    "judged": "eval evaluate evaluation metaeval",
    "any": "support query queries gallery probe",
}
SIDES: dict[str, Side] = {name: side for side, names in _NAMES.items() for name in names.split()}
"""What each word says, in small letters."""

_ADDED = (
    "set sets subset split splits part partition data dataset image images img imgs picture pictures pic pics photo "
    "photos file files folder dir class classes category categories crop crops raw the of for"
)
_FILLERS = frozenset(_ADDED.split())
_WORD = re.compile(r"[^\W\d_]+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Reading(NamedTuple):
    """Hold what a name says.

    Args:
        side: what its classes are for.
        rest: the words that say nothing of it: "omniglot" of "omniglot_train"; empty where all do.
    """

    side: Side
    rest: str


def read_name(name: str) -> Reading | None:
    """Return what the name of a folder or a list says of its classes, or None if it says nothing.

    Case, digits, signs between words and words such as "set" or "images" don't count.

    Example:
        >>> read_name("images_background"), read_name("ValidationSet"), read_name("my-test 2")
        (Reading(side='train', rest=''), Reading(side='val', rest=''), Reading(side='test', rest='my'))
        >>> read_name("cat"), read_name("train_vs_test")
        (None, None)
    """
    text = unicodedata.normalize("NFKC", name)
    words = [word.casefold() for word in _WORD.findall(_CAMEL.sub(" ", text))]
    telling = [_bare(word) for word in words if word not in _FILLERS]
    if side := SIDES.get("".join(telling)):
        return Reading(side, "")
    sides = [word for word in telling if word in SIDES]
    if len(sides) != 1:
        return None
    return Reading(SIDES[sides[0]], " ".join(word for word in telling if word not in SIDES))


def _bare(word: str) -> str:
    """Return "train" for "trainset" and other words as they are."""
    ends = (word.removesuffix(filler) for filler in ("set", "data", "images"))
    return next((stem for stem in ends if stem in SIDES), word)
