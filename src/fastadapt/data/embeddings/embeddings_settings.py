"""A file of embeddings as a setting of a run."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fastadapt.arguments import added, argument, default_of
from fastadapt.data.embeddings.embeddings import Embeddings
from fastadapt.data.embeddings.reading import read_embeddings
from fastadapt.data.embeddings.vectors import ClassVectors
from fastadapt.data.files import complain, shown
from fastadapt.data.images.class_settings import ClassData, Part
from fastadapt.data.images.folder_split import divide
from fastadapt.data.images.split_choice import SplitBy
from fastadapt.data.images.survey import few_images
from fastadapt.data.names import all_composed, composed
from fastadapt.errors import ConfigError, DataError
from fastadapt.tasks import TaskSource

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmbeddingsData(ClassData):
    """Embeddings that were computed before, with a class for each."""

    features: int = 0
    """Numbers of an embedding; found by the command."""
    backbone: str = ""
    """What they were computed by; found by the command where the file says it."""
    class_column: str | None = argument(read_embeddings, "class_column")
    min_samples: int = 0
    """Leave out classes with fewer samples than this."""
    val_fraction: float = argument(divide, "val")
    test_fraction: float = argument(divide, "test")
    split_seed: int = default_of(divide, "seed")
    """Seed of the shuffle behind the split."""
    folder: str = ""
    """The file, as it was named when the run began."""
    train_classes: tuple[str, ...] = ()
    """The classes that train; found by the command."""
    val_classes: tuple[str, ...] = ()
    """The classes that validate; found by the command."""
    test_classes: tuple[str, ...] = ()
    """The classes that are tested on; found by the command."""
    digest: str = ""
    """Digest of the embeddings; found by the command."""
    split_by: SplitBy = ""
    """Who divided the classes: the folder that they were computed of, or chance; found by the command."""
    columns: tuple[str, ...] = added((), remark=True)
    """What each number of an embedding is called, where a column is one; found by the command."""

    @property
    def split(self) -> dict[Part, tuple[str, ...]]:
        """The classes of each part."""
        train, val, test = map(all_composed, (self.train_classes, self.val_classes, self.test_classes))
        return {"train": train, "val": val, "test": test}

    def of(self, made: Embeddings, *, by_parts: bool = True) -> "EmbeddingsData":
        """Return these settings with what embeddings decide: the classes of each part, the numbers of a row, a digest.

        Args:
            made: the embeddings.
            by_parts: whether the parts that the file names divide the classes, where it does.

        Raises:
            DataError: if there are too few classes for a task in each part, or too few samples of a class.
        """
        names = [name for name, count in made.counts.items() if count >= self.min_samples]
        parts: Mapping[str, Part] = {composed(name): part for name, part in made.parts.items()} if by_parts else {}
        split = divide(
            names, parts, ways=self.ways, val=self.val_fraction, test=self.test_fraction, seed=self.split_seed
        )
        found = replace(
            self,
            features=made.features.shape[1],
            backbone=made.backbone,
            train_classes=split.train,
            val_classes=split.val,
            test_classes=split.test,
            digest=made.digest,
            split_by="folders" if parts else "random",
            columns=made.columns,
        )
        found._check(made)
        return found

    def load(self, root: Path | None = None, download: bool = False) -> Embeddings:
        """Read the embeddings once; pass the result to `source`.

        Args:
            root: the file; None takes the one named when the run began.
            download: has no effect.

        Raises:
            DataError: if the file can't be used, or lacks a class or a sample that is needed.
        """
        if root is None and not Path(self.folder).is_file():
            raise DataError(f"there is no file {shown(self.folder)} any more; give the embeddings with --data")
        place = Path(self.folder) if root is None else root
        made = read_embeddings(place, class_column=self.class_column, columns=self.columns)
        self.check_same(made, shown(place))
        if not self.train_classes:
            raise ConfigError("the run has no split of its classes; it is made by fastadapt train --data FILE")
        self._check(made)
        if made.digest != self.digest:
            logger.warning("%s does not hold the embeddings that this run began with: its tasks differ", shown(place))
        return made

    def check_same(self, made: Embeddings, name: str) -> None:
        """Refuse embeddings of another length, or of what is known to be another backbone.

        Raises:
            DataError: for such.
        """
        check_same(self.input, made, name)

    def source(self, part: Part, loaded: Any = None) -> TaskSource:
        """Return the source of training, validation or test tasks, over the classes that the run recorded.

        Raises:
            ConfigError: if the part has no class.
        """
        made: Embeddings = self.load() if loaded is None else loaded
        names = self.split[part]
        if not names:
            hint = "; set training.validate_every to 0, or data.val_fraction above 0" if part == "val" else ""
            raise ConfigError(f"the split has no {part} classes{hint}")
        return ClassVectors(made.features, self.numbers(part, made), names, **self.sizes(part), names=made.names)

    def numbers(self, part: Part, made: Embeddings) -> np.ndarray:
        """Return the place of each sample's class among those of a part, `[M]`; -1 for a class of another part."""
        position = {name: number for number, name in enumerate(self.split[part])}
        number = np.array([position.get(name, -1) for name in made.class_names], dtype=np.int64)
        assert made.labels is not None
        return number[made.labels]

    def _check(self, made: Embeddings) -> None:
        """Raise for classes that are missing or have too few samples, all of them at once."""
        counts = made.counts
        problems: list[str] = []
        for part, names in self.split.items():
            problems += [f"class {shown(name)!r} of the {part} part is missing" for name in names if name not in counts]
            sizes = self.sizes(part)
            present = {name: counts[name] for name in names if name in counts}
            few = few_images(present, sizes["shots"], sizes["queries"])
            problems += [
                finding.text.replace(" images", " embeddings").replace(" image,", " embedding,") for finding in few
            ]
        if problems:
            listed = complain(problems, "the file of embeddings")
            raise DataError(f"{listed}\nor lower --shots or --queries, or leave out such classes with --min-samples")

    @property
    def input(self) -> dict[str, Any]:
        """What one input is, for reading further embeddings."""
        called = {"columns": list(self.columns)} if self.columns else {}
        return {"kind": "features", "inputs": self.features, "backbone": self.backbone, **called}

    classes: ClassVar[None] = None
    flat_batch: ClassVar[int] = 0


def check_same(wanted: Mapping[str, Any], made: Embeddings, name: str) -> None:
    """Refuse embeddings that a head was not made for, and say where columns are taken by their place.

    Args:
        wanted: `EmbeddingsData.input`, or a part of it.
        made: the embeddings.
        name: of their file, for the message.

    Raises:
        DataError: if they have another length, or are known to be of another backbone.
    """
    if made.features.shape[1] != wanted["inputs"]:
        raise DataError(
            f"{name} has embeddings of {made.features.shape[1]} numbers, and the run was made for {wanted['inputs']}; "
            "compute them by the same backbone"
        )
    then, now = wanted.get("backbone", ""), made.backbone
    if then and now and then != now:
        raise DataError(
            f"{name} was computed by {now}, and the run is for {then}; compute the embeddings by the same backbone, as "
            "those of another mean something else"
        )
    if made.columns and not wanted.get("columns"):
        logger.warning(
            "note: the run does not say what its features were called: the columns of %s are taken in their order, "
            "%s to %s",
            name,
            shown(made.columns[0]),
            shown(made.columns[-1]),
        )
    elif wanted.get("columns") and not made.columns:
        logger.warning(
            "note: %s does not say what its features are called: they are taken in the order of the training, %s to %s",
            name,
            shown(wanted["columns"][0]),
            shown(wanted["columns"][-1]),
        )


def support_of(made: Embeddings, shots: int | None, name: str) -> tuple[tuple[Tensor, Tensor], list[str]]:
    """Return a support set of all classes, class by class, and their names.

    Args:
        made: the embeddings.
        shots: the first so many of each class; None takes all.
        name: of their file, for a message.

    Raises:
        DataError: if there are fewer than 2 classes, or too few samples of one.

    Example:
        >>> import torch
        >>> made = Embeddings(torch.eye(3), np.array([1, 0, 1]), ("cat", "dog"))
        >>> support_of(made, None, "f.npz")[0][1]
        tensor([0, 1, 1])
    """
    assert made.labels is not None
    if len(made.class_names) < 2:
        raise DataError(
            f"{name} has the class {shown(''.join(made.class_names))!r} alone, and a head needs 2 or more; add some"
        )
    few = [f"class {shown(each)!r} of {name} has {count} of the {shots} samples asked for; add {shots - count}"
           for each, count in made.counts.items() if shots is not None and count < shots]  # fmt: skip
    if few:
        raise complain(few, name)
    rows = [np.flatnonzero(made.labels == number)[:shots] for number in range(len(made.class_names))]
    y = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor([len(some) for some in rows]))
    return (made.features[torch.from_numpy(np.concatenate(rows))], y), list(made.class_names)
