"""What a metric method answers with: an embedding, a comparison, and what is remembered of the support set."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastadapt.errors import TaskError
from fastadapt.judging.labels import IGNORED

Memory = dict[str, Tensor]
COLUMNS = "columns"
"""Under which a memory keeps the class of the comparison that each output is."""


class Comparison(nn.Module, ABC):
    """Say how a query is compared with a support set, by the features of both.

    It is a module, as some comparisons have parameters.

    Args:
        settings: the constructor's arguments, JSON values from which it can be built again.
    """

    studies = False
    """Whether a training looks at all samples of a task together, see `study`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.settings = settings

    @abstractmethod
    def remember(self, features: Tensor, y: Tensor, ways: int) -> Memory:
        """Return what is kept of a support set.

        Args:
            features: `[S, ...]`.
            y: `[S]`, class numbers 0..ways-1, each of which has a sample.
            ways: classes.
        """

    @abstractmethod
    def forward(self, features: Tensor, memory: Memory) -> Tensor:
        """Return the scores of queries with features `[n, ...]`, `[n, ...]`."""

    def outputs(self, scores: Tensor, memory: Memory) -> Tensor:
        """Return an output for each class, `[n, ways]`: the scores themselves."""
        return scores

    def study(self, features: Tensor, y: Tensor, ways: int) -> Memory:
        """Return what a training looks at of all samples of a task, support and then query: nothing.

        It is called where the network's batch norm is that of the learner, and after all else: what the layers saw
        here is what their running averages follow.

        Args:
            features: `[n, ...]`.
            y: `[n]`, class numbers 0..ways-1, each of which has a sample.
            ways: classes.
        """
        return {}


class Compared(nn.Module):
    """Embed a sample and compare it with what is remembered of a support set, `[n, ...] -> [n, N]`.

    The output of a class of which there is no sample is the lowest there is, so that it is never the answer.

    Args:
        embedding: any module `[n, ...] -> [n, ...]`.
        comparison: what compares its features.
        memory: the shapes of what is remembered, by name; they are buffers of `memory`.
        answers: false returns the scores that the outputs are made of, from which some methods learn.
    """

    def __init__(
        self,
        embedding: nn.Module,
        comparison: Comparison,
        memory: Mapping[str, Sequence[int]] | None = None,
        answers: bool = True,
    ) -> None:
        super().__init__()
        self.answers = answers
        self.training = embedding.training  # as nothing but its wrapping
        self.embedding = embedding
        self.comparison = comparison
        self.memory = nn.Module()
        for name, shape in (memory or {}).items():
            kind = torch.long if name == COLUMNS else None
            self.memory.register_buffer(name, torch.zeros(tuple(shape), dtype=kind))

    def remember(self, features: Tensor, y: Tensor, ways: int) -> Memory:
        """Return what is kept of a support set, and which class of the comparison each output is.

        Classes that have a sample are numbered anew for the comparison; all others share one number behind them.
        """
        present, numbers = torch.unique(y, return_inverse=True)
        columns = y.new_full((ways,), len(present))
        columns[present] = torch.arange(len(present), device=y.device)
        return {**self.comparison.remember(features, numbers, len(present)), COLUMNS: columns}

    def study(self, known: Tensor, asked: Tensor, y: Tensor, yq: Tensor) -> Memory:
        """Return what a training looks at of all samples that count, support first, whose classes are numbered anew."""
        if not self.comparison.studies:
            return {}
        labels = torch.cat((y, yq))
        counts = labels != IGNORED
        present, numbers = torch.unique(labels[counts], return_inverse=True)
        return self.comparison.study(torch.cat((known, asked))[counts], numbers, len(present))

    def answered(self, scores: Tensor, memory: Memory) -> Tensor:
        """Return an output for each class, `[n, N]`, made of the scores `[n, ...]`."""
        outputs = self.comparison.outputs(scores, memory)
        absent = outputs.new_full((outputs.shape[0], 1), torch.finfo(outputs.dtype).min / 2)
        return torch.cat((outputs, absent), 1)[:, memory[COLUMNS]]

    def forward(self, x: Tensor) -> Tensor:
        """Return an output for each class, `[n, N]`, for samples `[n, ...]`."""
        memory = dict(self.memory.named_buffers())
        scores = self.comparison(self.embedding(x), memory)
        return self.answered(scores, memory) if self.answers else scores

    def described(self, net: dict[str, Any]) -> dict[str, Any]:
        """Return name and arguments of this module, given those of the embedding."""
        comparison = {"name": type(self.comparison).__name__, "arguments": dict(self.comparison.settings)}
        memory = {name: list(value.shape) for name, value in self.memory.named_buffers()}
        return {"name": "Compared", "arguments": {"embedding": net, "comparison": comparison, "memory": memory}}


def check_shape(features: Tensor, wanted: Sequence[int], setting: str) -> None:
    """Refuse features `[n, ...]` of another shape than a comparison was built for.

    Raises:
        TaskError: if one has not the shape `wanted`.
    """
    shape = tuple(features.shape[1:])
    if shape != tuple(wanted):
        size = shape[0] if len(shape) == 1 else shape
        raise TaskError(
            f"the embedding gives features of shape {shape} for a sample, and the comparison was built for "
            f"{tuple(wanted)}; give {setting}={size}"
        )


def class_means(features: Tensor, y: Tensor, ways: int) -> Tensor:
    """Return the mean over the samples of each class, `[ways, ...]`, of features `[S, ...]`.

    Example:
        >>> class_means(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0, 0, 1]), 2).flatten()
        tensor([2., 5.])
    """
    members = F.one_hot(y, ways).to(features.dtype)
    weights = members / members.sum(0)
    return (weights.T @ features.flatten(1)).view(ways, *features.shape[1:])
