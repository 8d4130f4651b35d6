"""A folder of your own images as a setting of a run."""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from fastadapt.arguments import added, argument, default_of
from fastadapt.data.files import complain, shown
from fastadapt.data.images.class_settings import ClassData, Part
from fastadapt.data.images.classes import ClassImages, Rotation
from fastadapt.data.images.folder_images import Bad, FolderImages, load_folder
from fastadapt.data.images.folder_split import divide
from fastadapt.data.images.images import Fit, ImageRecipe
from fastadapt.data.images.split_choice import SplitBy, class_tree
from fastadapt.data.images.survey import few_images
from fastadapt.data.images.tree import scan_tree
from fastadapt.data.names import composed
from fastadapt.errors import ConfigError, DataError
from fastadapt.tasks import TaskSource

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FolderData(ClassData):
    """Your own images, one folder for each class."""

    train_queries: int = 5  # a class of one's own may have few images
    size: int = 84
    """Height and width that images are brought to."""
    channels: Literal[1, 3] = 3
    """1 for grey, 3 for colour."""
    fit: Fit = argument(ImageRecipe, "fit", "crop")  # a recipe refuses; photographs are hardly ever square
    invert: bool = default_of(ClassImages, "invert")
    """Ink is 1 and paper 0; otherwise values are as they are."""
    rotation: Rotation = argument(ClassImages, "rotation")
    bad: Bad = argument(load_folder, "bad")
    min_images: int = 0
    """Leave out classes with fewer images than this."""
    val_fraction: float = argument(divide, "val")
    test_fraction: float = argument(divide, "test")
    split_seed: int = default_of(divide, "seed")
    """Seed of the shuffle behind the split."""
    folder: str = ""
    """The folder, as it was named when the run began."""
    train_classes: tuple[str, ...] = ()
    """The classes that train; found by the command."""
    val_classes: tuple[str, ...] = ()
    """The classes that validate; found by the command."""
    test_classes: tuple[str, ...] = ()
    """The classes that are tested on; found by the command."""
    digest: str = ""
    """Digest of the images of these classes."""
    split_by: SplitBy = added("")
    """Who divided the classes: folders that are named as parts, lists, or chance; found by the command."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bad not in ("fail", "skip"):
            raise ConfigError(f"data.bad must be 'fail' or 'skip', got {self.bad!r}")
        every = Counter((*self.train_classes, *self.val_classes, *self.test_classes))
        if twice := [name for name, times in every.items() if times > 1]:
            raise ConfigError(f"a class belongs to one part of the split, but {shown(twice[0])!r} is in several")
        _ = self.recipe  # raises for a size, a number of channels or a fit that does not exist

    @property
    def recipe(self) -> ImageRecipe:
        """How a file becomes the pixels that are kept."""
        return ImageRecipe(self.size, self.channels, fit=self.fit)

    @property
    def split(self) -> dict[Part, tuple[str, ...]]:
        """The classes of each part."""
        return {"train": self.train_classes, "val": self.val_classes, "test": self.test_classes}

    def divided(self, images: FolderImages, parts: Mapping[str, Part] | None = None) -> "FolderData":
        """Return these settings with the classes of each part.

        Args:
            images: of all classes.
            parts: the part of each class, where the user has divided them.

        Raises:
            DataError: if there are too few classes for a task in each part.
        """
        names = [name for name, count in images.counts.items() if count >= self.min_images]
        split = divide(
            names, parts or {}, ways=self.ways, val=self.val_fraction, test=self.test_fraction, seed=self.split_seed
        )
        return replace(self, train_classes=split.train, val_classes=split.val, test_classes=split.test)

    def sealed(self, images: FolderImages) -> "FolderData":
        """Return these settings with the digest of the images that they use.

        Raises:
            DataError: if the images don't do for the settings.
        """
        self._check(images)
        return replace(self, digest=self._digest(images))

    def load(self, root: Path | None = None, download: bool = False) -> Any:
        """Read the images once; pass the result, `FolderImages`, to `source`.

        Args:
            root: the folder; None takes the one named when the run began.
            download: has no effect.

        Raises:
            DataError: if the folder can't be used, or lacks a class or an image that is needed.
        """
        if root is None and not self.folder:
            raise DataError("the run does not say where its images are; give their folder with --data")
        if root is None and not Path(self.folder).is_dir():
            raise DataError(
                f"there is no folder {shown(self.folder)} any more; give the place of the images with --data"
            )
        place = Path(self.folder) if root is None else root
        images = self._as_recorded(load_folder(class_tree(scan_tree(place), self.split_by), self.recipe, bad=self.bad))
        if not self.train_classes:
            raise ConfigError("the run has no split of its classes; it is made by fastadapt train --data FOLDER")
        self._check(images)
        if self.digest and self._digest(images) != self.digest:
            logger.warning("%s no longer has the images that this run was trained on: its tasks differ", shown(place))
        self.mention_new(images, place)
        return images

    def mention_new(self, images: FolderImages, place: Path) -> None:
        """Say which classes of a folder are in no part of the split, as they came after it was made.

        A list may leave classes out on purpose, so that nothing can be told of these.
        """
        if self.split_by == "lists":
            return
        known = {name for names in self.split.values() for name in names}
        new = [name for name, count in images.counts.items() if name not in known and count >= self.min_images]
        if new:
            logger.warning(
                "%s has %d class%s that this run does not know and leaves out (%s); train into another --run to use "
                "what is new",
                shown(place),
                len(new),
                "es" * (len(new) > 1),
                ", ".join(repr(shown(name)) for name in new[:3]) + ", ..." * (len(new) > 3),
            )

    def source(self, part: Part, loaded: Any = None) -> TaskSource:
        """Return the source of training, validation or test tasks, over the classes that the run recorded.

        Raises:
            ConfigError: if the part has no class.
        """
        loaded = self.load() if loaded is None else loaded
        names = self.split[part]
        if not names:
            hint = "; set training.validate_every to 0, or data.val_fraction above 0" if part == "val" else ""
            raise ConfigError(f"the split has no {part} classes{hint}")
        position = {name: number for number, name in enumerate(names)}
        number = np.array([position.get(name, -1) for name in loaded.class_names], dtype=np.int64)
        return ClassImages(
            loaded.images,
            number[loaded.labels],
            names,
            **self.sizes(part),
            rotation=self.rotation,
            invert=self.invert,
            names=loaded.files,
        )

    def _as_recorded(self, images: FolderImages) -> FolderImages:
        """Return images with the names that the run knows, which a system may have given another Unicode form."""
        known = {composed(name): name for names in self.split.values() for name in names}
        names = {name: known.get(composed(name), name) for name in images.class_names}
        digests = {names[name]: digest for name, digest in images.digests.items()}
        return replace(images, class_names=tuple(names.values()), digests=digests)

    def _digest(self, images: FolderImages) -> str:
        return images.digest(name for part in self.split.values() for name in part)

    def _check(self, images: FolderImages) -> None:
        """Raise for classes that are missing or have too few images, all of them at once."""
        counts = images.counts
        missing: list[str] = []
        few: list[str] = []
        for part, names in self.split.items():
            gone = [name for name in names if name not in counts]
            missing += [f"class {shown(name)!r} of the {part} part is missing; put it back" for name in gone]
            sizes = self.sizes(part)
            present = {name: counts[name] for name in names if name in counts}
            few += [finding.text for finding in few_images(present, sizes["shots"], sizes["queries"])]
        if missing or few:
            listed = complain([*missing, *few], "the folder")
            hint = "\nor lower --shots or --queries, or leave out such classes with --min-images" if few else ""
            raise DataError(f"{listed}{hint}")

    @property
    def input(self) -> dict[str, Any]:
        """What one input is, for reading further images."""
        shape = {"kind": "image", "size": self.size, "channels": self.channels}
        return {**shape, "invert": self.invert, "fit": self.fit}

    classes: ClassVar[None] = None
    flat_batch: ClassVar[int] = 0
