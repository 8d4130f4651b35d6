"""Batches of pieces of many texts, for ordinary training of a language model."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from fastadapt.tasks import Task


@dataclass(frozen=True, eq=False)
class Pieces:
    """Draw batches of pieces, each from anywhere in any text; a batch comes as the support of a task.

    Args:
        texts: of symbols, `[n]` each.
        count: pieces of a batch.
        length: symbols of a piece.

    Example:
        >>> task = Pieces([torch.arange(100)], count=3, length=8).sample(np.random.default_rng(0))
        >>> task.support[0].shape, bool((task.support[1] == task.support[0] + 1).all())
        (torch.Size([3, 8]), True)
    """

    texts: Sequence[Tensor] = field(repr=False)
    count: int = 32
    length: int = 64

    one_meaning = True

    def sample(self, rng: np.random.Generator) -> Task:
        """Return one batch, and another piece for a query."""
        read = []
        for i in rng.integers(len(self.texts), size=self.count + 1):
            start = int(rng.integers(len(self.texts[i]) - self.length))
            read.append(self.texts[i][start : start + self.length + 1])
        whole = torch.stack(read)
        x, y = whole[:, :-1], whole[:, 1:]
        return Task((x[:-1], y[:-1]), (x[-1:], y[-1:]))
