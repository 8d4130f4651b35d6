"""Accuracy by instance number: how often a sample is told that is the first, second, ... of its class in a sequence."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from fastadapt.errors import ConfigError
from fastadapt.evaluation import Protocol, confidence
from fastadapt.judging.labels import IGNORED
from fastadapt.learner import Learner
from fastadapt.methods.gradient import evaluating
from fastadapt.methods.mann import MANN
from fastadapt.results.evaluation_json import json_values
from fastadapt.tasks import SampleFunction, TaskSource, draw_batch


@dataclass(frozen=True)
class ByInstance:
    """Hold accuracy by instance number.

    Args:
        protocol: the tasks it was measured on.
        mean: accuracy on the first, second, ... instance of a class, the mean over tasks.
        ci95: half-width of the 95 % confidence interval of each, over tasks.
        per_task: the accuracies of every task, `[tasks][instances]`.
    """

    protocol: Protocol
    mean: list[float]
    ci95: list[float]
    per_task: list[list[float]]

    def __str__(self) -> str:
        """Return a line for each instance."""
        rows = enumerate(zip(self.mean, self.ci95, strict=True), 1)
        lines = [f"instance {number:>2}: {mean:.4f} ± {half:.4f}" for number, (mean, half) in rows]
        return "\n".join([*lines, f"95 % CI, {len(self.per_task)} tasks; protocol {self.protocol.name}"])

    def to_json(self, *, per_task: bool = False) -> str:
        """Return the result as JSON, with the numbers of every task if asked for."""
        record: dict[str, Any] = asdict(self)
        if not per_task:
            del record["per_task"]
        return json.dumps(json_values(record), indent=2)


def by_instance(
    learner: Learner, source: TaskSource | SampleFunction, protocol: Protocol | None = None, *, meta_batch: int = 25
) -> ByInstance:
    """Show tasks sample by sample, and count the right answers by how often the class of a sample came before.

    Support set and queries of a task are one sequence, in an order that depends only on the protocol's seed and the
    number of the task. Each sample is answered before its label is shown. The first instance of a class can be told by
    elimination alone; the second has had one labelled sample of its class before, and so on.

    Args:
        learner: a `MANN`, with or without its memory; it is left as it was.
        source: where the tasks come from; all classes of a task should have as many samples.
        protocol: tasks, seed, split and batch-norm mode; default 600 tasks.
        meta_batch: tasks at a time; bounds memory, changes no result beyond rounding.

    Returns:
        Accuracies, up to the number of samples of the smallest class.

    Raises:
        ConfigError: if the learner does not answer at every step of a sequence.

    Example:
        >>> from fastadapt import ClassImages
        >>> images = torch.zeros(30, 8, 8, dtype=torch.uint8)
        >>> source = ClassImages(images, torch.arange(30).numpy() // 3, tuple("abcdefghij"), ways=5, queries=2)
        >>> result = by_instance(MANN(torch.nn.Flatten(), ways=5, features=64, slots=8), source, Protocol(tasks=4))
        >>> len(result.mean)
        3

    References:
        Santoro et al. 2016, Meta-Learning with Memory-Augmented Neural Networks (ICML), table 1.
    """
    if not isinstance(learner, MANN):
        raise ConfigError(
            f"accuracy by instance number needs a learner that answers at every step of a sequence, and "
            f"{type(learner).__name__} answers behind a support set; use evaluate, or train a MANN"
        )
    protocol = protocol if protocol is not None else Protocol()
    if meta_batch < 1:
        raise ConfigError(f"meta_batch must be at least 1 task at a time, got {meta_batch}")
    device = next(p.device for p in learner.parameters())
    rows: list[list[float]] = []
    for first in range(0, protocol.tasks, meta_batch):
        numbers = range(first, min(first + meta_batch, protocol.tasks))
        tasks = draw_batch(source, seed=protocol.seed, split=protocol.split, indices=numbers)
        orders: list[Tensor] = []

        def order(samples: int, orders: list[Tensor] = orders, first: int = first) -> Tensor:
            generator = torch.Generator().manual_seed((protocol.seed * 1_000_003 + first + len(orders)) % 2**63)
            orders.append(torch.randperm(samples, generator=generator))
            return orders[-1]

        with evaluating(learner), torch.no_grad():
            episodes, outputs = learner.at_each_step([group.to(device) for group in tasks], order, protocol.norm)
        for episode, answers, shown in zip(episodes, outputs, orders, strict=True):
            y = torch.cat((episode.y, episode.yq))
            rows.append(_accuracies((answers.argmax(1) == y)[shown.to(y.device)].cpu(), y.cpu()[shown]))
    most = min(len(row) for row in rows)
    table = [row[:most] for row in rows]
    means = [confidence([row[i] for row in table], protocol.ddof) for i in range(most)]
    return ByInstance(protocol, [mean for mean, _ in means], [half for _, half in means], table)


def _accuracies(right: Tensor, y: Tensor) -> list[float]:
    """Return the share of right answers at the first, second, ... instance, both in the order of the showing."""
    same = y.unsqueeze(1) == y
    number = same.tril().sum(1)
    counts = y != IGNORED
    fewest = int(torch.unique(y[counts], return_counts=True)[1].min())
    return [float(right[counts & (number == i)].double().mean()) for i in range(1, fewest + 1)]
