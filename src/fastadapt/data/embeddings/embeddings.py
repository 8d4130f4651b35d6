"""Embeddings in memory: features of samples, the class of each, and what they were computed by."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastadapt.data.embeddings.class_words import class_words
from fastadapt.data.files import shown
from fastadapt.data.names import composed, told_alike
from fastadapt.data.row_columns import tells_rows_apart
from fastadapt.errors import DataError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Hold a row of features for each sample.

    Args:
        features: `[M, d]`, float32, finite.
        labels: `[M]`, int64, the position in `class_names` of each sample's class; None where no classes are known.
        class_names: one name for each class that has a sample, sorted.
        names: `[M]`, what each sample is called, such as its file; None where nothing is known.
        backbone: what they were computed by, in words that tell two backbones apart; "" where nothing is known.
        parts: the part of the split of each class, where the folder of the samples has divided them.
        columns: what each number of a row is called, `[d]`; empty where a row is one list.

    Example:
        >>> made = Embeddings(torch.eye(3), np.array([0, 1, 1]), ("cat", "dog"))
        >>> len(made), made.counts
        (3, {'cat': 1, 'dog': 2})
    """

    features: Tensor = field(repr=False)
    labels: np.ndarray | None = field(repr=False)
    class_names: tuple[str, ...] = field(repr=False)
    names: tuple[str, ...] | None = field(default=None, repr=False)
    backbone: str = ""
    parts: Mapping[str, Any] = field(default_factory=dict, repr=False)
    columns: tuple[str, ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.features)

    @property
    def counts(self) -> dict[str, int]:
        """How many samples each class has."""
        assert self.labels is not None
        found = np.bincount(self.labels, minlength=len(self.class_names))
        return dict(zip(self.class_names, found.tolist(), strict=True))

    @property
    def digest(self) -> str:
        """A digest of features and classes; equal digests, equal tasks."""
        told = hashlib.sha256(self.features.numpy().tobytes())
        told.update("\n".join(self.class_names).encode("utf-8", "surrogatepass"))
        told.update(b"" if self.labels is None else self.labels.astype("<i8").tobytes())
        return told.hexdigest()[:16]


def made_of(
    name: str,
    features: np.ndarray,
    classes: Sequence[Any] | np.ndarray | None,
    names: Sequence[Any] | np.ndarray | None = None,
    *,
    where: Sequence[str] = (),
    settled: bool = False,
    **facts: Any,
) -> Embeddings:
    """Return the embeddings of a file, after what it holds was found to be features, classes and names.

    Args:
        name: of the file, for the messages.
        features: what should be `[M, d]`, numbers.
        classes: what should be `[M]`, words or whole numbers; None where none are needed.
        names: what should be `[M]`; None where there are none.
        where: each row, for the messages; empty counts them from 1.
        settled: whether the classes are names that `embed` wrote, whatever they look like.
        facts: `backbone`, `parts` and `columns`, where they are known.

    Raises:
        DataError: for shapes that don't fit together, values that are no finite numbers, or rows without a class.

    Example:
        >>> made_of("f.npz", np.eye(2), ["dog", "cat"]).class_names
        ('cat', 'dog')
    """
    kept = _features(name, np.asarray(features))
    _tell_counts(name, kept.numpy(), facts.get("columns", ()))
    called = None if names is None else tuple(str(each) for each in _one_for_each(name, "names", names, len(kept)))
    if classes is None:
        _tell(name, kept, None)
        return Embeddings(kept, None, (), called, **facts)
    told = _one_for_each(name, "classes", classes, len(kept))
    if told.dtype.kind not in "iufUOS":
        raise DataError(f"{name}: the classes are {told.dtype}, and words or whole numbers are needed; convert them")
    places = where or [f"row {number + 1}" for number in range(len(kept))]
    words, notes = (list(map(composed, map(str, told))), []) if settled else class_words(name, told.tolist(), places)
    for note in notes:
        logger.warning("note: %s", note)
    found = tuple(sorted(set(words)))
    position = {word: number for number, word in enumerate(found)}
    labels = np.array([position[word] for word in words], dtype=np.int64)
    for sentence in told_alike("the classes", found, "they are two here; name them alike if they are one"):
        logger.warning("note: %s: %s", name, sentence)
    _tell(name, kept, labels)
    return Embeddings(kept, labels, found, called, **facts)


def _features(name: str, array: np.ndarray) -> Tensor:
    if array.ndim != 2 or array.shape[1] == 0:
        raise DataError(
            f"{name}: the features have shape {list(array.shape)}, and one row of numbers for each sample is needed, "
            "[samples, numbers]; flatten or average the other axes"
        )
    if len(array) == 0:
        raise DataError(f"{name} holds no sample; compute the embeddings again")
    if array.dtype.kind not in "fiu":
        raise DataError(f"{name}: the features are {array.dtype}, and real numbers are needed; convert them")
    with np.errstate(over="ignore"):  # what does not fit into 32 bits is told below
        kept = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    bad = (~kept.isfinite().all(1)).nonzero().flatten()
    if len(bad):
        rows = f"{len(bad)} of {len(kept)} rows" if len(bad) > 1 else f"1 of {len(kept)} rows"
        raise DataError(
            f"{name}: {rows} hold what is no finite number in 32 bits (NaN or infinite), the first is row "
            f"{int(bad[0]) + 1}; leave such samples out, or compute them again"
        )
    return kept


def _one_for_each(name: str, what: str, values: Sequence[Any] | np.ndarray, samples: int) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 1 or len(array) != samples:
        raise DataError(
            f"{name}: the {what} have shape {list(array.shape)}, and there are {samples} rows of features; one for "
            f"each row is needed, [{samples}]"
        )
    return array


def _tell_counts(name: str, features: np.ndarray, columns: Sequence[str]) -> None:
    """Say which numbers of the rows count them, as an index does that was saved among the features."""
    whole = (features % 1 == 0).all(0)
    alone = 2 * int(whole.sum()) < len(whole)
    for place in np.flatnonzero(whole).tolist():
        if reason := tells_rows_apart(features[:, place].tolist(), whole_alone=alone):
            called = f"the feature {shown(columns[place])!r}" if columns else f"number {place + 1} of each row"
            logger.warning("note: %s: %s %s; leave it out if it is an index", name, called, reason)


def _tell(name: str, features: Tensor, labels: np.ndarray | None) -> None:
    """Say what may spoil tasks and stops nothing: rows of zeros, and copies."""
    empty = int((~features.any(1)).sum())
    if empty:
        logger.warning(
            "note: %s has %d of %d rows of zeros alone, which look like failed samples", name, empty, len(features)
        )
    first: dict[bytes, int] = {}
    copies = across = 0
    for number in features.any(1).nonzero().flatten().tolist():
        owner = first.setdefault(features[number].numpy().tobytes(), number)
        copies += owner != number
        across += owner != number and labels is not None and labels[owner] != labels[number]
    if copies:
        also = f", {across} of them in another class" if across else ""
        logger.warning(
            "note: %s has %d rows that are copies of others%s: a sample may be in support and query at once",
            shown(name),
            copies,
            also,
        )
