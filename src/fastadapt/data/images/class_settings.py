"""What the settings of all images with classes share: the sizes of tasks, and the loss."""

from dataclasses import dataclass
from typing import Any, Literal

from fastadapt.arguments import added, argument, default_of
from fastadapt.data.images.classes import ClassImages
from fastadapt.errors import ConfigError
from fastadapt.losses import CrossEntropy, Loss

Part = Literal["train", "val", "test"]


@dataclass(frozen=True)
class ClassData:
    """N-way K-shot tasks over images that have a class; a data set has its own numbers of queries."""

    ways: int = argument(ClassImages, "ways")
    train_shots: int = default_of(ClassImages, "shots")
    """Support images for each class of a training task."""
    train_queries: int = default_of(ClassImages, "queries")
    """Query images for each class of a training task."""
    shots: int = default_of(ClassImages, "shots")
    """Support images for each class of a test task, K."""
    queries: int = default_of(ClassImages, "queries")
    """Query images for each class of a test task."""
    train_ways: int | None = added(None)
    """Classes of a training task, where they are others than of a test task; None is as many."""

    def __post_init__(self) -> None:
        check_queries(self.queries)
        if self.train_ways is not None and self.train_ways < 2:
            raise ConfigError(f"data.train_ways must be at least 2, or None for data.ways, got {self.train_ways}")

    def sizes(self, part: Part) -> dict[str, Any]:
        """Return ways, shots and queries of the tasks of a part, by their names in the task sources."""
        shots, queries = (self.train_shots, self.train_queries) if part == "train" else (self.shots, self.queries)
        ways = self.train_ways if part == "train" and self.train_ways is not None else self.ways
        return {"ways": ways, "shots": shots, "queries": queries}

    @property
    def most_support(self) -> int:
        """Samples of the largest support set."""
        return self.sizes("train")["ways"] * max(self.shots, self.train_shots)

    @property
    def loss(self) -> Loss:
        """Cross-entropy."""
        return CrossEntropy()


def check_queries(queries: int) -> None:
    """Raise for test tasks without a query, on which nothing could be judged."""
    if queries < 1:
        raise ConfigError(f"data.queries must be at least 1, as test tasks are judged on them; got {queries}")
