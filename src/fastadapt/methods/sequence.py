"""What methods share that read a support set as a sequence: labels beside the samples, and all tasks read at once."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastadapt.errors import ConfigError, TaskError
from fastadapt.judging.labels import IGNORED
from fastadapt.layers.norm import Norm
from fastadapt.losses import Loss
from fastadapt.methods.compared import COLUMNS, Compared, Comparison, Memory, check_shape
from fastadapt.methods.episodes import Episode
from fastadapt.methods.metric import MetricLearner
from fastadapt.methods.one_pass import Answer

KNOWN = "known"
"""Under which a memory keeps a number for each class that has a sample."""


class SequenceComparison(Comparison):
    """Read a support set in the order in which it is given, and answer each query as what comes next, by itself.

    Args:
        ways: classes that a label can tell apart, N; a task may have fewer.
        features: numbers of the embedding, d.
        settings: further arguments of the constructor.
    """

    def __init__(self, ways: int, features: int, **settings: Any) -> None:
        super().__init__(ways=ways, features=features, **settings)
        if ways < 2 or features < 1:
            raise ConfigError(f"ways must be at least 2 and features at least 1, got {ways} and {features}")
        self.ways, self.features = ways, features

    @abstractmethod
    def read(self, features: Tensor, labels: Tensor) -> Memory:
        """Return what is kept of support sets `[..., S, d]` whose labels are rows of zeros and a one, `[..., S, N]`."""

    @abstractmethod
    def answer(self, features: Tensor, memory: Memory) -> Tensor:
        """Return the scores of queries `[..., n, d]`, `[..., n, N]`."""

    def remember(self, features: Tensor, y: Tensor, ways: int) -> Memory:
        """Return what is kept of a support set, and a number for each of its classes."""
        features = self.fitting(features, ways)
        # gates make finite numbers of infinite ones: what is refused for it has to be seen here
        known = features.new_full((ways,), 1.0 if bool(torch.isfinite(features).all()) else math.nan)
        return {**self.read(features, one_hot(y, self.ways, features)), KNOWN: known}

    def forward(self, features: Tensor, memory: Memory) -> Tensor:
        """Return a score for each of the N labels, `[n, N]`."""
        return self.answer(features.flatten(1), memory)

    def outputs(self, scores: Tensor, memory: Memory) -> Tensor:
        """Return the scores of the labels that the support set has, `[n, ways]`."""
        return scores[..., : len(memory[KNOWN])]

    def fitting(self, features: Tensor, ways: int) -> Tensor:
        """Return features as rows, `[n, d]`, if they and so many classes fit.

        Raises:
            TaskError: if they don't.
        """
        if ways > self.ways:
            raise TaskError(
                f"a task has {ways} classes, and this learner was built with ways={self.ways}: its labels tell no more "
                f"apart; build and train one with ways={ways}, or choose ProtoNet, which takes any number"
            )
        features = features.flatten(1)
        check_shape(features, (self.features,), "features")
        return features


class Kept(Comparison):
    """Compare nothing: keep the embedded support set and queries as they are, to be read for all tasks at once."""

    def remember(self, features: Tensor, y: Tensor, ways: int) -> Memory:
        """Return `{"samples": [S, ...]}`, and a number for each class."""
        return {"samples": features, KNOWN: features.new_zeros(ways)}

    def forward(self, features: Tensor, memory: Memory) -> Tensor:
        """Return the features."""
        return features

    def outputs(self, scores: Tensor, memory: Memory) -> Tensor:
        """Return zeros, `[n, ways]`: there is no answer yet."""
        return scores.new_zeros(len(scores), len(memory[KNOWN]))


class SequenceLearner(MetricLearner):
    """Embed as `MetricLearner` does, then let a `SequenceComparison` read tasks of one shape together.

    Args:
        model: the embedding.
        comparison: what reads.
        loss: on the outputs; default cross-entropy.
        norm: the batch-norm mode; any but "per_step".
        shuffle: while it trains, put samples into a random order, drawn from torch's generator. An order that was
            always the same, class by class, would be learned in place of the labels.
    """

    def __init__(
        self, model: nn.Module, comparison: SequenceComparison, loss: Loss | None, norm: Norm, shuffle: bool
    ) -> None:
        super().__init__(model, comparison, loss, norm)
        self.reader = comparison
        self.shuffle = shuffle

    def signature(self) -> dict[str, Any]:
        """Return the facts of `MetricLearner.signature`, with whether the order is shuffled."""
        return {**super().signature(), "shuffle": self.shuffle}

    def prepare(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return a support set in a random order while it trains, else as it is given."""
        if not (self.shuffle and self.training):
            return x, y
        order = torch.randperm(len(y)).to(y.device)
        return x[order], y[order]

    def kept(self, episodes: Sequence[Episode], norm: Norm | None) -> list[Answer]:
        """Return the embedded queries of each task as scores, and its embedded support set as memory."""
        return super()._answered(episodes, Compared(self.model, Kept()), norm)

    def _answered(self, episodes: Sequence[Episode], network: Compared, norm: Norm | None) -> list[Answer]:
        kept, answers = self.kept(episodes, norm), {}
        inputs = []
        for episode, each in zip(episodes, kept, strict=True):
            ways, columns = len(each.memory[KNOWN]), each.memory[COLUMNS]
            known, asked = (self.reader.fitting(part, ways) for part in (each.memory["samples"], each.scores))
            inputs.append((known, one_hot(columns[episode.y], self.reader.ways, known), asked))
        for places in of_one_shape(inputs):
            known, labels, asked = (torch.stack([inputs[i][part] for i in places]) for part in range(3))
            memories = self.reader.read(known, labels)
            scores = self.reader.answer(asked, memories)
            for row, i in enumerate(places):
                own = {name: value[row] for name, value in memories.items()}
                memory = {**own, KNOWN: kept[i].memory[KNOWN], COLUMNS: kept[i].memory[COLUMNS]}
                answers[i] = Answer(scores[row], self.network.answered(scores[row], memory), memory)
        return [answers[i] for i in range(len(kept))]


def one_hot(y: Tensor, ways: int, like: Tensor) -> Tensor:
    """Return rows of zeros with a one, `[..., N]`, of the type of `like`; a number that is no class has none.

    Example:
        >>> one_hot(torch.tensor([1, -100]), 2, torch.zeros(()))
        tensor([[0., 1.],
                [0., 0.]])
    """
    return (y.unsqueeze(-1) == torch.arange(ways, device=y.device)).to(like.dtype)


def of_one_shape(inputs: Sequence[tuple[Tensor, ...]]) -> list[list[int]]:
    """Return the places of inputs whose tensors have the same shapes, together."""
    places: dict[tuple[torch.Size, ...], list[int]] = {}
    for place, tensors in enumerate(inputs):
        places.setdefault(tuple(tensor.shape for tensor in tensors), []).append(place)
    return list(places.values())


def numbered(y: Tensor, columns: Tensor) -> Tensor:
    """Return class numbers as the comparison counts them; a query that does not count stays marked."""
    return torch.where(y < 0, IGNORED, columns[y.clamp(min=0)])
