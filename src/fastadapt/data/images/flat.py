"""Batches of images of all classes at once, for training an ordinary classifier."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from fastadapt.data.images.classes import ClassImages
from fastadapt.errors import ConfigError, DataError
from fastadapt.tasks import Task, Tasks, TaskSource


@dataclass(frozen=True, eq=False)
class AllClasses:
    """Draw random batches of images with the numbers of their classes, as tasks that are all support.

    A batch is a random subset of all images, each at most once; batch `i` of a run depends only on `(seed, split, i)`
    as every task does. Where turned classes count as classes of their own (`rotated_classes`), the turned images are
    images of their own, of class `4 c + quarter`; a random `rotation` of tasks is left out.

    Args:
        images: the images and their classes; its ways, shots and queries don't matter.
        batch: images of a batch, at least 1 and at most all of them.

    Raises:
        ConfigError: if `batch` is below 1.
        DataError: if there are fewer images than `batch`.

    Example:
        >>> images = torch.zeros(30, 8, 8, dtype=torch.uint8)
        >>> source = AllClasses(ClassImages(images, np.arange(30) // 3, tuple("abcdefghij"), queries=1), batch=16)
        >>> (x, c), (none, _) = vars(source.sample(np.random.default_rng(0))).values()
        >>> len(source), x.shape, c.shape, len(none)
        (10, torch.Size([16, 1, 8, 8]), torch.Size([16]), 0)

    References:
        Ravi, Larochelle 2017, Optimization as a Model for Few-Shot Learning (ICLR), section 5.1.
    """

    images: ClassImages
    batch: int = 64
    _rows: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the settings and find the images that have a class."""
        if self.batch < 1:
            raise ConfigError(f"a flat batch needs at least 1 image, got {self.batch}")
        object.__setattr__(self, "_rows", np.flatnonzero(self.images.labels >= 0))
        if len(self._rows) * self._turns < self.batch:
            raise DataError(
                f"a batch of {self.batch} images was asked for, but there are {len(self._rows) * self._turns} in all; "
                "lower the batch"
            )

    def __len__(self) -> int:
        """Return the number of classes, turned ones included."""
        return len(self.images)

    @property
    def _turns(self) -> int:
        return 4 if self.images.rotated_classes else 1

    def to(self, device: torch.device | str) -> "AllClasses":
        """Return the same batches with the images on `device`; itself if they are there already."""
        images = self.images.to(device)
        return self if images is self.images else replace(self, images=images)

    def sample(self, rng: np.random.Generator) -> Task:
        """Return one batch.

        Returns:
            A `Task` whose support is `(x, c)` with `x: [batch, C, H, W]` and `c: [batch]`, int64, the numbers of the
            classes; the query has the same form and no images.
        """
        tasks = self.sample_batch((rng,))
        (x, c), (xq, cq) = tasks.support, tasks.query
        return Task((x[0], c[0]), (xq[0], cq[0]))

    def sample_batch(self, rngs: Sequence[np.random.Generator]) -> Tasks:
        """Return one batch per generator, with one gather for all their images; batch `i` is `sample(rngs[i])`."""
        every = len(self._rows) * self._turns
        drawn = np.stack([rng.choice(every, self.batch, replace=False) for rng in rngs])
        rows, quarters = self._rows[drawn // self._turns], drawn % self._turns
        x = self.images._values(rows.ravel(), quarters.ravel())
        c = torch.from_numpy(self.images.labels[rows].astype(np.int64) * self._turns + quarters).to(x.device)
        count, shape = len(rngs), x.shape[1:]
        return Tasks(
            (x.view(count, self.batch, *shape), c),
            (x.new_empty(count, 0, *shape), c.new_empty(count, 0)),
        )


def flat_for_training(source: ClassImages, part: str, flat_batch: int) -> TaskSource:
    """Return flat batches of `flat_batch` images for the part "train", and `source` itself otherwise or for 0."""
    return AllClasses(source, flat_batch) if part == "train" and flat_batch else source
