"""N-way K-shot tasks over rows of numbers that have a class; the draws are those of images with the same classes."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fastadapt.data.images.classes import ClassImages
from fastadapt.errors import ConfigError, DataError


@dataclass(frozen=True, eq=False)
class ClassVectors(ClassImages):
    """Draw N-way K-shot tasks from features held in memory.

    A generator draws the very samples that `ClassImages` draws of images with the same labels and names: so methods on
    images and heads on their features are compared on the same tasks.

    Args:
        images: the features, `[M, d]`, float32; the name is that of the base class.
        labels: `[M]`, integers; the position in `class_names` of each row's class, or -1 for one that isn't used.
        class_names: one name per class.
        ways: classes of a task, N.
        shots: support samples per class (K).
        queries: query samples per class (Q).
        names: `[M]`, what each sample is called; `None` numbers them within their class.

    Raises:
        ConfigError: if a setting is outside its range, or asks to turn what is no image.
        DataError: if the arrays don't fit together, there are fewer classes than `ways`, or a class has fewer samples
            than `shots + queries`.

    Example:
        >>> source = ClassVectors(torch.randn(30, 4), np.arange(30) // 3, tuple("abcdefghij"), shots=1, queries=2)
        >>> source.sample(np.random.default_rng(0)).support[0].shape
        torch.Size([5, 4])
    """

    def _check_arrays(self) -> None:
        if self.images.dim() != 2 or not self.images.is_floating_point():
            raise DataError(f"features must be floats [M, d], got {self.images.dtype} {list(self.images.shape)}")
        if self.rotation != "none" or self.rotated_classes or self.invert or self.mean or self.std:
            raise ConfigError("features are taken as they are; rotation, invert, mean and std are for images")
        self._check_labels()

    def _values(self, rows: np.ndarray, turns: np.ndarray) -> Tensor:
        return self.images.index_select(0, torch.from_numpy(rows).to(self.images.device))
