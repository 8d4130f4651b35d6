"""The classes of Omniglot and the ways in which papers divide them.

No image is needed to know them: the names follow from the number of characters per alphabet.
"""

import hashlib
import random
from dataclasses import dataclass
from typing import Literal, get_args

from fastadapt.errors import ConfigError, DataError

OmniglotSplit = Literal["1200/423", "1100/100/423", "vinyals"]

BACKGROUND: dict[str, int] = {
    "Alphabet_of_the_Magi": 20,
    "Anglo-Saxon_Futhorc": 29,
    "Arcadian": 26,
    "Armenian": 41,
    "Asomtavruli_(Georgian)": 40,
    "Balinese": 24,
    "Bengali": 46,
    "Blackfoot_(Canadian_Aboriginal_Syllabics)": 14,
    "Braille": 26,
    "Burmese_(Myanmar)": 34,
    "Cyrillic": 33,
    "Early_Aramaic": 22,
    "Futurama": 26,
    "Grantha": 43,
    "Greek": 24,
    "Gujarati": 48,
    "Hebrew": 22,
    "Inuktitut_(Canadian_Aboriginal_Syllabics)": 16,
    "Japanese_(hiragana)": 52,
    "Japanese_(katakana)": 47,
    "Korean": 40,
    "Latin": 26,
    "Malay_(Jawi_-_Arabic)": 40,
    "Mkhedruli_(Georgian)": 41,
    "N_Ko": 33,
    "Ojibwe_(Canadian_Aboriginal_Syllabics)": 14,
    "Sanskrit": 42,
    "Syriac_(Estrangelo)": 23,
    "Tagalog": 17,
    "Tifinagh": 55,
}

EVALUATION: dict[str, int] = {
    "Angelic": 20,
    "Atemayar_Qelisayer": 26,
    "Atlantean": 26,
    "Aurek-Besh": 26,
    "Avesta": 26,
    "Ge_ez": 26,
    "Glagolitic": 45,
    "Gurmukhi": 45,
    "Kannada": 41,
    "Keble": 26,
    "Malayalam": 47,
    "Manipuri": 40,
    "Mongolian": 30,
    "Old_Church_Slavonic_(Cyrillic)": 45,
    "Oriya": 46,
    "Sylheti": 28,
    "Syriac_(Serto)": 23,
    "Tengwar": 25,
    "Tibetan": 42,
    "ULOG": 26,
}

_VINYALS_VAL = {"Armenian", "Bengali", "Early_Aramaic", "Hebrew", "Mkhedruli_(Georgian)"}
_VINYALS_TRAIN_OF_EVALUATION = {
    "Angelic",
    "Atemayar_Qelisayer",
    "Atlantean",
    "Aurek-Besh",
    "Avesta",
    "Ge_ez",
    "Glagolitic",
}


@dataclass(frozen=True)
class ClassSplit:
    """Hold the class names of a split.

    Args:
        name: the name of the split.
        train: the classes to meta-train on.
        val: the classes to choose settings with; empty where the split has none.
        test: the classes to report on.

    Example:
        >>> ClassSplit("mine", ("a", "b"), ("c",), ("d",)).classes("trainval")
        ('a', 'b', 'c')
    """

    name: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    def classes(self, part: str) -> tuple[str, ...]:
        """Return the classes of `part`: "train", "val", "test", or "trainval" (train, then val).

        Raises:
            ConfigError: if `part` is none of these.
            DataError: if the split has no such part.
        """
        parts = {"train": self.train, "val": self.val, "test": self.test, "trainval": self.train + self.val}
        if part not in parts:
            raise ConfigError(f"a part of a split is one of {', '.join(parts)}; got {part!r}")
        if not parts[part]:
            raise DataError(
                f"the split {self.name!r} has no {part!r} classes; use a split that has ('1100/100/423', 'vinyals')"
            )
        return parts[part]

    @property
    def sha256(self) -> str:
        """The digest of the class lists, to quote beside a result: equal digests, equal splits."""
        lines = [f"{part}\t{name}" for part in ("train", "val", "test") for name in getattr(self, part)]
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def omniglot_classes() -> tuple[str, ...]:
    """Return the names of all 1623 characters, "Alphabet/characterNN", sorted.

    Example:
        >>> len(omniglot_classes()), omniglot_classes()[0]
        (1623, 'Alphabet_of_the_Magi/character01')
    """
    return tuple(sorted(name for counts in (BACKGROUND, EVALUATION) for name in _characters(counts)))


def omniglot_split(split: OmniglotSplit = "1100/100/423", *, seed: int = 1) -> ClassSplit:
    """Return the classes of one of the usual divisions of Omniglot.

    * "1200/423": all characters, sorted, then shuffled with `random.Random(seed)`; the first 1200
      are for training (Reptile).
    * "1100/100/423": the same shuffle, the last 100 of those 1200 for validation (MAML).
    * "vinyals": 1028/172/423 characters by alphabet; `seed` has no effect.

    Reptile's code shuffled the sorted names with seed 0, as `seed=0` does. MAML's shuffled a directory
    listing, whose order differs between machines, so its own lists can't be had back; quote
    `ClassSplit.sha256` instead.

    Args:
        split: the name of the division.
        seed: chooses the shuffle.

    Raises:
        ConfigError: if `split` is unknown.

    Example:
        >>> split = omniglot_split("vinyals")
        >>> len(split.train), len(split.val), len(split.test)
        (1028, 172, 423)

    References:
        Lake, Salakhutdinov, Tenenbaum, "Human-level concept learning through probabilistic program
        induction", Science, 2015 (the data); Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra,
        "Matching Networks for One Shot Learning", 2016, arXiv:1606.04080; Finn, Abbeel, Levine,
        2017, arXiv:1703.03400; Nichol, Achiam, Schulman, 2018, arXiv:1803.02999.
    """
    if split not in get_args(OmniglotSplit):
        raise ConfigError(f"an Omniglot split is one of {', '.join(get_args(OmniglotSplit))}; got {split!r}")
    if split == "vinyals":
        return _vinyals()
    names = list(omniglot_classes())
    random.Random(seed).shuffle(names)
    train = 1200 if split == "1200/423" else 1100
    return ClassSplit(split, tuple(names[:train]), tuple(names[train:1200]), tuple(names[1200:]))


def _vinyals() -> ClassSplit:
    parts: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for name in _characters(BACKGROUND):
        parts["val" if name.split("/")[0] in _VINYALS_VAL else "train"].append(name)
    for name in _characters(EVALUATION):
        alphabet, character = name.split("/")
        # Gurmukhi is the one alphabet that is divided: 41 characters train, the last 4 test
        first = alphabet == "Gurmukhi" and character <= "character41"
        parts["train" if first or alphabet in _VINYALS_TRAIN_OF_EVALUATION else "test"].append(name)
    return ClassSplit("vinyals", tuple(parts["train"]), tuple(parts["val"]), tuple(parts["test"]))


def _characters(counts: dict[str, int]) -> list[str]:
    return [f"{alphabet}/character{i:02d}" for alphabet, n in counts.items() for i in range(1, n + 1)]
