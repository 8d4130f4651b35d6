"""Many tasks through an embedding and a comparison: together where no layer makes samples meet, else task by task."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fastadapt.errors import ConfigError, TaskError
from fastadapt.layers.bound import Bound, inside
from fastadapt.layers.layout import Layout
from fastadapt.layers.norm import Moments, Norm, NormPlan
from fastadapt.methods.compared import Compared, Memory
from fastadapt.methods.episodes import Episode
from fastadapt.predictor import Predictor, frozen_copy

ROWS = 512
"""Samples that are embedded at once where they don't meet: bounds memory."""


@dataclass(frozen=True, eq=False)
class Answer:
    """Hold what was answered to the query of a task.

    Args:
        scores: what the comparison says, `[Q, ...]`.
        outputs: `[Q, N]`, an output for each class.
        memory: what is remembered of the support set.
        studied: what the comparison looked at of support and query together, see `Comparison.study`; nothing where
            they were not embedded in one pass.
    """

    scores: Tensor
    outputs: Tensor
    memory: Memory
    studied: Memory = field(default_factory=dict)


@dataclass(eq=False)
class OnePass:
    """Hold a network and whose statistics normalise what, for one call.

    Args:
        network: the embedding and the comparison, without a memory.
        plan: the batch-norm statistics.
    """

    network: Compared
    plan: NormPlan

    def __post_init__(self) -> None:
        self.params: dict[str, Tensor] = dict(self.network.named_parameters())
        self.buffers = self.plan.buffers(dict(self.network.named_buffers()), 0)
        self.layout = Layout(self.network)

    def answers(self, episodes: Sequence[Episode]) -> tuple[list[Answer], list[dict[str, Moments]]]:
        """Return the answers to the query of each task, and the moments to feed to running averages, if any."""
        plan = self.plan
        if not plan.layered or plan.uses_running:
            return self._together(episodes)[0], []
        if not plan.feeds_running:
            return [self._apart(episode) for episode in episodes], []
        ran = [self._together([episode]) for episode in episodes]
        return [answer for answers, _ in ran for answer in answers], [fed for _, fed in ran]

    def remembered(self, x: Tensor, y: Tensor, ways: int) -> Memory:
        """Return what is remembered of a support set, embedded by itself."""
        with inside(self._bound(self.network, {}, self.plan.support(), layout=self.layout)).in_place():
            return self.network.remember(checked(self.network.embedding(x), self.network.embedding), y, ways)

    def predictor(self, x: Tensor, memory: Memory) -> Predictor:
        """Return the module that answers for a support set `x` of which something is remembered."""
        network = self._with(memory)
        given = self._query(network, memory, x).given or []
        beside = x if self.plan.beside_support else None
        frozen = frozen_copy(network, self.params, {**self.buffers, **_named(memory)})
        return Predictor(frozen, self.plan.mode, given, beside).eval()

    def _together(self, episodes: Sequence[Episode]) -> tuple[list[Answer], dict[str, Moments]]:
        """Return the answers of tasks whose samples are embedded as one batch, and the moments that were seen."""
        statistics, answers = self.plan.support(), []
        sets = [part for episode in episodes for part in (episode.x, episode.xq)]
        with inside(self._bound(self.network, {}, statistics, layout=self.layout)).in_place():
            parts = self._embedded(sets).split([len(part) for part in sets])
            for episode, known, asked in zip(episodes, parts[::2], parts[1::2], strict=True):
                memory = self.network.remember(known, episode.y, episode.ways)
                scores = self.network.comparison(asked, memory)
                studied = self.network.study(known, asked, episode.y, episode.yq)
                answers.append(self._answer(scores, memory, studied))
        return answers, statistics.fed

    def _embedded(self, sets: list[Tensor]) -> Tensor:
        embedding = self.network.embedding
        if self.plan.layered and self.plan.feeds_running:  # these samples meet
            return checked(embedding(torch.cat(sets)), embedding)
        if len({part.shape[1:] for part in sets}) > 1:  # images of several sizes
            return torch.cat([self._embedded([part]) for part in sets])
        return torch.cat([checked(embedding(some), embedding) for some in torch.cat(sets).split(ROWS)])

    def _apart(self, episode: Episode) -> Answer:
        """Return the answers of one task as its predictor gives them: the support first, then the queries."""
        memory = self.remembered(episode.x, episode.y, episode.ways)
        network = self._with(memory, answers=False)
        statistics = self._query(network, memory, episode.x)
        beside = episode.x if self.plan.beside_support else None
        rows = not torch.is_grad_enabled()
        bound = self._bound(network, memory, statistics, beside=beside, batched_rows=rows)
        return self._answer(bound(episode.xq), memory)

    def _answer(self, scores: Tensor, memory: Memory, studied: Memory | None = None) -> Answer:
        return Answer(scores, self.network.answered(scores, memory), memory, studied or {})

    def _query(self, network: Compared, memory: Memory, x: Tensor) -> Any:
        """Return the statistics for queries; where they are those of the support set, it goes through the network."""
        return self.plan.query(lambda own: self._bound(network, memory, own)(x))

    def _with(self, memory: Memory, answers: bool = True) -> Compared:
        """Return the network with places for what is remembered; it shares its parts with the learner's."""
        network = Compared(self.network.embedding, self.network.comparison, {}, answers)
        network.training = self.network.training
        for name, value in memory.items():  # of its device and type
            network.memory.register_buffer(name, torch.empty_like(value))
        return network

    def _bound(self, network: Compared, memory: Memory, statistics: Any, **options: Any) -> Bound:
        return Bound(network, self.params, {**self.buffers, **_named(memory)}, statistics, **options)


def check_one_pass(name: str, norm: Norm) -> None:
    """Refuse the modes in which support and query of a training task are not embedded in one pass.

    Raises:
        ConfigError: for any mode but "running".
    """
    if norm != "running":
        raise ConfigError(
            f"{name} learns from support and query together, and norm={norm!r} keeps them apart; choose norm='running'"
        )


def checked(features: Any, model: nn.Module) -> Tensor:
    """Return features `[n, ...]`, if that is what an embedding returned.

    Raises:
        TaskError: if it is not.
    """
    if not isinstance(features, Tensor) or features.dim() < 2:
        got = f"shape {tuple(features.shape)}" if isinstance(features, Tensor) else f"a {type(features).__name__}"
        raise TaskError(
            f"an embedding returns features [n, ...] of n samples, and {type(model).__name__} returned {got}; return "
            "one row of numbers for each sample"
        )
    return features


def _named(memory: Memory) -> Memory:
    return {f"memory.{name}": value for name, value in memory.items()}
