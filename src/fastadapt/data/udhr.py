"""The Universal Declaration of Human Rights in 265 languages of Latin script, as symbols of one alphabet.

The texts are fetched, or found where other data are; which languages are held out, and the alphabet, are part of the
library. All texts say the same in the same order.
"""

import json
import unicodedata
import zipfile
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from fastadapt.data.download import data_folders, download
from fastadapt.data.files import shown
from fastadapt.errors import ConfigError, DataError

ARCHIVE = "udhr2.zip"
ADDRESS = "https://github.com/nltk/nltk_data/raw/5db857e6f7df11eabb5e5665836db9ec8df07e28/packages/corpora/udhr2.zip"
MD5 = "e604482d2dc8dd2580af7d97c1bf0a80"
SPLITS = Path(__file__).with_name("udhr_splits.json")
SHORTEST = 7000
"""Characters of the shortest text; a shorter one is not whole."""
Part = Literal["train", "val", "test"]


@dataclass(frozen=True, eq=False)
class Languages:
    """Hold the texts of one part.

    Args:
        names: of the languages, ISO 639-3 codes with a variety at times.
        texts: symbols of each text, `[n]` of whole numbers.
        alphabet: the characters by their symbols; the symbol behind the last stands for every other.
        nearest: of each held-out language the cosine of its trigrams to the nearest training language, in [0, 1].
    """

    names: tuple[str, ...]
    texts: tuple[Tensor, ...] = field(repr=False)
    alphabet: str = field(repr=False)
    nearest: tuple[float, ...] = field(default=(), repr=False)

    @property
    def symbols(self) -> int:
        """Symbols of the alphabet, with the one that stands for all others."""
        return len(self.alphabet) + 1

    def written(self, symbols: Tensor) -> str:
        """Return symbols as text; what stands for all others is a white square."""
        return "".join([*self.alphabet, "□"][i] for i in symbols.tolist())


def udhr_archive(data: Path | None = None) -> Path:
    """Return the archive of the texts, `udhr2/CODE.txt` in it.

    Args:
        data: the folder that has it, or that has a folder `showcases` with it; None looks in `FASTADAPT_DATA`, then in
            the cache folder, and fetches it (1.7 MB) into the last of these where it is in none.

    Raises:
        DataError: if it is not in the folder that was named.
        DownloadError: if fetching it fails.
    """
    folders = data_folders("showcases", data)
    found = next((folder / ARCHIVE for folder in folders if (folder / ARCHIVE).is_file()), None)
    if found is not None:
        return found
    if data is not None or not folders:
        raise DataError(
            f"the texts, {ARCHIVE}, are not in {', '.join(shown(f) for f in folders) or 'any folder'}; fetch "
            "packages/corpora/udhr2.zip of github.com/nltk/nltk_data and put it into one of them (or name its folder "
            "with --data)"
        )
    return download(ADDRESS, folders[-2] / ARCHIVE, checksum=MD5)


def load_udhr(part: Part, data: Path | None = None, *, most: int | None = None) -> Languages:
    """Return the texts of one part: 205 languages to train on, 20 for validation, 40 for the test.

    A text is in NFC, lower case, with one blank for white space. Languages that are alike (the same first three letters
    of their code, or a trigram cosine above 0.8) are in one part.

    Args:
        part: "train", "val" or "test".
        data: see `udhr_archive`.
        most: languages at most; None takes all.

    Raises:
        ConfigError: for another part.
        DataError: if the texts are missing or damaged.

    Example:
        >>> load_udhr("test").texts[0].shape  # doctest: +SKIP
        torch.Size([14253])

    References:
        Universal Declaration of Human Rights, in the texts of the "UDHR in Unicode" project.
    """
    if part not in get_args(Part):
        raise ConfigError(f"part must be one of {', '.join(get_args(Part))}, got {part!r}")
    split = _splits()
    alphabet: str = split["alphabet"]
    names = tuple(split[part][:most])
    archive = udhr_archive(data)
    try:
        with zipfile.ZipFile(archive) as texts:
            read = [_normal(texts.read(f"udhr2/{name}.txt").decode("utf-8")) for name in names]
    except (zipfile.BadZipFile, KeyError, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{shown(archive)} can't be read: {error}; get it again") from error
    for name, text in zip(names, read, strict=True):
        if len(text) < SHORTEST:
            raise DataError(
                f"{name}.txt in {shown(archive)} has {len(text)} characters, and a whole text has {SHORTEST:,} at "
                "least; get it again"
            )
    nearest = split["nearest"]
    return Languages(
        names, tuple(encoded(t, alphabet) for t in read), alphabet, tuple(nearest.get(n, 1.0) for n in names)
    )


def encoded(text: str, alphabet: str) -> Tensor:
    """Return the symbols of a text, `[n]`; a character that is not in the alphabet gets the number behind its last.

    Example:
        >>> encoded("abz", "ab")
        tensor([0, 1, 2])
    """
    places = {character: i for i, character in enumerate(alphabet)}
    return torch.tensor([places.get(character, len(alphabet)) for character in text])


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).lower().split())


@lru_cache(maxsize=1)
def _splits() -> dict[str, Any]:
    return json.loads(SPLITS.read_text(encoding="utf-8"))
