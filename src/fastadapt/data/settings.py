"""Data sets as settings of a run: what is sampled for training, validation and testing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from fastadapt.arguments import argument, default_of
from fastadapt.data.images.class_settings import ClassData, Part, check_queries
from fastadapt.data.images.classes import Rotation
from fastadapt.data.images.flat import flat_for_training
from fastadapt.data.images.images import Normalise
from fastadapt.data.images.mini_imagenet import MiniImageNetParts, mini_imagenet_tasks
from fastadapt.data.images.mini_imagenet_splits import mini_imagenet_split
from fastadapt.data.images.omniglot import Resize, load_omniglot, omniglot_tasks
from fastadapt.data.images.omniglot_splits import OmniglotSplit, omniglot_split
from fastadapt.data.sinusoid import Family, Sinusoid
from fastadapt.errors import ConfigError
from fastadapt.losses import MSE, Loss
from fastadapt.tasks import TaskSource


def _check_flat(batch: int) -> None:
    if batch < 0:
        raise ConfigError(f"data.flat_batch must be a number of images, or 0 for training on tasks; got {batch}")


@dataclass(frozen=True)
class SinusoidData:
    """Waves of unknown height and phase."""

    family: Family = argument(Sinusoid, "family")
    train_shots: int = default_of(Sinusoid, "shots")
    """Support points K of a training task."""
    train_queries: int = default_of(Sinusoid, "queries")
    """Query points of a training task; Reptile uses none."""
    shots: int = default_of(Sinusoid, "shots")
    """Support points K of a test task."""
    queries: int = 100
    """Points of the grid over [-5, 5] on which a test task is judged."""
    oracle: bool = default_of(Sinusoid, "oracle")
    """Give the network height and phase as further inputs."""

    def source(self, part: Part, loaded: Any = None) -> TaskSource:
        """Return the source of training or test tasks."""
        if part == "train":
            return Sinusoid(self.family, self.train_shots, self.train_queries, oracle=self.oracle)
        return Sinusoid(self.family, self.shots, self.queries, oracle=self.oracle, grid=True)

    def __post_init__(self) -> None:
        check_queries(self.queries)

    def load(self, root: Path | None = None, download: bool = False) -> None:
        """Return nothing: the waves are made, not read."""

    @property
    def loss(self) -> Loss:
        """Mean squared error."""
        return MSE()

    @property
    def input(self) -> dict[str, Any]:
        """What one input is, for reading a user's own data."""
        return {"kind": "points", "inputs": 3 if self.oracle else 1, "outputs": 1}

    ways: ClassVar[None] = None
    classes: ClassVar[None] = None
    flat_batch: ClassVar[int] = 0


@dataclass(frozen=True)
class OmniglotData(ClassData):
    """Characters of 50 alphabets, 20 drawings each."""

    train_queries: int = 1  # as many as shots, as in MAML, and not the 15 of photographs
    queries: int = 1
    split: OmniglotSplit = default_of(omniglot_tasks, "split")
    """Which characters train, validate and test."""
    split_seed: int = default_of(omniglot_tasks, "seed")
    """Seed of the shuffle behind that split."""
    rotation: Rotation = default_of(omniglot_tasks, "rotation")
    """Turn the classes of a task by random multiples of 90 degrees (MAML)."""
    rotated_classes: bool = argument(omniglot_tasks, "rotated_classes")
    invert: bool = argument(omniglot_tasks, "invert")
    resize: Resize = argument(load_omniglot, "resize")
    fewest_ways: int | None = None
    """With how few classes the trained model may be used, the head's further rows left out; None needs all."""
    flat_batch: int = 0
    """Train on batches of so many images of all classes, for an ordinary classifier; 0 trains on tasks."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_flat(self.flat_batch)
        if self.fewest_ways is not None and not 2 <= self.fewest_ways <= self.ways:
            raise ConfigError(f"data.fewest_ways must be 2..{self.ways} (data.ways), got {self.fewest_ways}")

    def load(self, root: Path | None = None, download: bool = False) -> Any:
        """Read the data set once; pass the result to `source`."""
        return load_omniglot(root, resize=self.resize, download=download)

    def source(self, part: Part, loaded: Any = None) -> TaskSource:
        """Return the source of training, validation or test tasks."""
        tasks = omniglot_tasks(
            part,
            loaded,
            split=self.split,
            seed=self.split_seed,
            **self.sizes(part),
            rotation=self.rotation,
            rotated_classes=self.rotated_classes and part == "train",
            invert=self.invert,
            resize=self.resize,
        )
        return flat_for_training(tasks, part, self.flat_batch)

    @property
    def classes(self) -> int:
        """How many classes train, turned ones included: the outputs of a classifier of all of them."""
        names = omniglot_split(self.split, seed=self.split_seed).classes("train")
        return len(names) * (4 if self.rotated_classes else 1)

    @property
    def input(self) -> dict[str, Any]:
        """What one input is, for reading a user's own data."""
        return {"kind": "image", "size": 28, "channels": 1, "invert": self.invert, "resize": self.resize}


@dataclass(frozen=True)
class MiniImageNetData(ClassData):
    """Photographs of 100 classes, 600 each, 84x84 pixels."""

    normalise: Normalise = default_of(mini_imagenet_tasks, "normalise")
    """Values 0..1 (MAML, Reptile), or each channel with ImageNet's mean 0 and deviation 1."""
    flat_batch: int = 0
    """Train on batches of so many images of all classes, for an ordinary classifier; 0 trains on tasks."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_flat(self.flat_batch)

    def load(self, root: Path | None = None, download: bool = False) -> MiniImageNetParts:
        """Return the parts, each of which is read when `source` first asks for it; there is nothing to download."""
        return MiniImageNetParts(root)

    def source(self, part: Part, loaded: Any = None) -> TaskSource:
        """Return the source of training, validation or test tasks."""
        tasks = mini_imagenet_tasks(
            part,
            (MiniImageNetParts() if loaded is None else loaded)[part],
            **self.sizes(part),
            normalise=self.normalise,
        )
        return flat_for_training(tasks, part, self.flat_batch)

    @property
    def classes(self) -> int:
        """How many classes train: the outputs of a classifier of all of them."""
        return len(mini_imagenet_split().train)

    @property
    def input(self) -> dict[str, Any]:
        """What one input is, for reading a user's own data."""
        return {"kind": "image", "size": 84, "channels": 3, "normalise": self.normalise}
