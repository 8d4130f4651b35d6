"""Accuracy class by class, and balanced over the classes of a task: what a share of right answers hides.

Where one class has most of the queries, always answering with it looks good. The balanced accuracy of a task is the
mean over its classes of the share that is right, so that this earns no more than chance.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastadapt.judging.labels import IGNORED


@dataclass(frozen=True)
class ByClass:
    """Hold the accuracy of a measurement class by class, after the number of inner steps of its headline.

    Args:
        labels: the classes: numbers, or names where these are known.
        queries: how many queries each has, over all tasks.
        accuracy: the share of them that is right; where a source numbers the classes of each task at random, a
            number is not one class.
        balanced: the mean over tasks of the balanced accuracy.
        half: half-width of its 95 % interval.
    """

    labels: list[Any]
    queries: list[int]
    accuracy: list[float]
    balanced: float
    half: float

    def __str__(self) -> str:
        """Return the balanced accuracy as part of a sentence."""
        return f"balanced accuracy {self.balanced:.4f} ± {self.half:.4f}"


@dataclass
class Tally:
    """Count right answers task by task and class by class.

    Example:
        >>> tally = Tally()
        >>> tally.add(0, np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0]))      # three of one class, one of another
        >>> tally.result().balanced, tally.result().accuracy
        (0.5, [1.0, 0.0])
    """

    names: Sequence[Any] | None = None
    _right: dict[Any, Any] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))
    _asked: dict[Any, Any] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))

    def add(self, task: Any, truth: np.ndarray, answer: np.ndarray) -> None:
        """Count the queries of a task, which may come in several parts: its classes, and what was answered."""
        truth, answer = truth.ravel(), answer.ravel()
        truth, answer = truth[truth != IGNORED], answer[truth != IGNORED]
        for label in np.unique(truth).tolist():
            self._asked[task][label] += int((truth == label).sum())
            self._right[task][label] += int((answer[truth == label] == label).sum())

    def see(self, numbers: Sequence[int], truths: Sequence[Any], outputs: Sequence[Tensor], column: int) -> None:
        """Count the queries of some tasks.

        Args:
            numbers: of the tasks.
            truths: the labels of their queries, class indices `[Q, ...]` or class probabilities `[Q, N, ...]`.
            outputs: what was answered after each number of inner steps, `[k+1, Q, N, ...]`.
            column: which of these counts.
        """
        for number, truth, output in zip(numbers, truths, outputs, strict=True):
            if not isinstance(truth, Tensor) or not isinstance(output, Tensor) or output.dim() < 3:
                continue
            scores = output[min(column, len(output) - 1)]
            truth = truth.argmax(1) if truth.dim() == scores.dim() else truth
            answer = scores.argmax(1).masked_fill(~torch.isfinite(scores).all(1), -1)  # which no class is
            self.add(number, truth.cpu().numpy(), answer.cpu().numpy())

    @property
    def unequal(self) -> bool:
        """Whether the classes of any task have different numbers of queries, or tasks have different classes."""
        counts = [set(asked.values()) for asked in self._asked.values()]
        return any(len(count) > 1 for count in counts)

    def result(self) -> ByClass:
        """Return the accuracies."""
        labels = sorted({label for asked in self._asked.values() for label in asked})
        asked = [sum(task.get(label, 0) for task in self._asked.values()) for label in labels]
        right = [sum(task.get(label, 0) for task in self._right.values()) for label in labels]
        each = np.array(
            [np.mean([self._right[t][label] / n for label, n in asked.items()]) for t, asked in self._asked.items()]
        )
        half = 1.959963984540054 * float(each.std(ddof=1)) / math.sqrt(len(each)) if len(each) > 1 else math.inf
        named = labels if self.names is None else [self.names[int(label)] for label in labels]
        shares = [r / n for r, n in zip(right, asked, strict=True)]
        return ByClass(named, asked, shares, float(each.mean()), half)
