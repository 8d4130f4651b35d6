"""The memory module: samples are written to a memory of keys, and the nearest key answers (Kaiser et al. 2017)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastadapt.errors import ConfigError, TaskError
from fastadapt.layers.norm import Norm
from fastadapt.losses import Loss
from fastadapt.methods.compared import Comparison, Memory, check_shape
from fastadapt.methods.episodes import Episode
from fastadapt.methods.metric import MetricLearner
from fastadapt.methods.one_pass import Answer, check_one_pass
from fastadapt.methods.slots import AGE_NOISE, Slots
from fastadapt.nets.nearest import directions

NEIGHBOURS = 256
"""Of a query, from which the public code derives the temperature of its softmax."""


class Keys(Comparison):
    r"""Write the support set to `Slots`, and compare a query with their keys, `s_c(x) = t max_{i: V_i = c} q . K_i`.

    `q` is a linear map of the features, of length 1, and `t = max(1, log(0.2 k) / margin)` for `k = 256` neighbours, or
    as many as there are slots.

    Args:
        features: numbers of the embedding.
        keys: numbers of a key.
        slots: of the memory; None has one for each sample.
        margin: see `MemoryModule`.
    """

    studies = True

    def __init__(self, features: int, keys: int = 128, slots: int | None = None, margin: float = 0.1) -> None:
        super().__init__(features=features, keys=keys, slots=slots, margin=margin)
        if min(features, keys, 1 if slots is None else slots) < 1 or not 0 < margin < float("inf"):
            raise ConfigError(
                f"a memory needs features and keys >= 1, slots >= 1 or None and a margin > 0, got {features}, {keys}, "
                f"{slots} and {margin}"
            )
        self.slots = slots
        self.project = nn.Linear(features, keys, bias=False)
        nn.init.trunc_normal_(self.project.weight, std=0.01, a=-0.02, b=0.02)
        self.temperature = max(1.0, math.log(0.2 * min(NEIGHBOURS, slots or NEIGHBOURS)) / margin)

    def queries(self, features: Tensor) -> Tensor:
        """Return the keys of samples, `[n, keys]`."""
        check_shape(features.flatten(1), (self.project.in_features,), "features")
        return directions(self.project(features.flatten(1)))

    def empty(self, queries: Tensor) -> Slots:
        """Return a memory for these samples with nothing in it."""
        return Slots(len(queries) if self.slots is None else self.slots, queries[0].detach())

    def remember(self, features: Tensor, y: Tensor, ways: int) -> Memory:
        """Return `{"keys": [M, d], "labels": [M, N]}` after the samples were written in their order."""
        if self.slots is not None and self.slots < ways:
            raise TaskError(f"a memory of {self.slots} slots can't hold {ways} classes; give slots={ways} or more")
        queries = self.queries(features).detach()
        memory = self.empty(queries)
        for q, v in zip(queries, y.tolist(), strict=True):
            memory.write(q, v)
        labels = F.one_hot(memory.values[: memory.used], ways).to(queries.dtype)
        return {"keys": memory.keys[: memory.used].clone(), "labels": labels}

    def forward(self, features: Tensor, memory: Memory) -> Tensor:
        """Return `t q . K_i` of each query and each slot, `[n, M]`."""
        return self.temperature * self.queries(features) @ memory["keys"].T

    def outputs(self, scores: Tensor, memory: Memory) -> Tensor:
        """Return the largest score of each class, `[n, N]`; a class that was forgotten is never the answer."""
        forgotten = torch.finfo(scores.dtype).min / 2
        return scores.unsqueeze(2).masked_fill(memory["labels"] == 0, forgotten).amax(1)

    def study(self, features: Tensor, y: Tensor, ways: int) -> Memory:
        """Return the keys of all samples, and their classes."""
        return {"queries": self.queries(features), "classes": y}


class MemoryModule(MetricLearner):
    r"""Learn keys by which a memory, written to sample by sample, finds a sample of the same class again.

        s_c(x) = t max_{i: V_i = c} q(x) . K_i,      q(x) = W f(x) / |W f(x)|

    A new task is an empty memory (see `fastadapt.methods.slots.Slots`) to which its samples are written in their order;
    the largest output is the value of the nearest key. Training writes a whole task, support and query, to an empty
    memory, first one sample of every class, then a second of every class and so on, and asks before it writes:

        loss = mean [q . K_wrong - q . K_right + margin]_+

    over the samples of which the memory has both the right value and another, K being the nearest key of either and no
    gradient going into keys. Published, a memory is shared by 16 sequences of 5 classes whose labels differ: a task of
    80 classes. There each sample of a sequence is an outer step, here all of them are one.

    Args:
        model: the embedding `f`, see `MetricLearner`; `fastadapt.nets.RareEventsEncoder` as published.
        loss: on the outputs, for traces and evaluation; default cross-entropy.
        features: numbers of the embedding.
        keys: numbers of a key.
        slots: of the memory, where the oldest is forgotten; None has one for each sample and forgets nothing.
        margin: by which the right key is to be nearer than any other, > 0.
        norm: "running" alone.

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> learner = MemoryModule(nn.Identity(), features=2)
        >>> support = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
        >>> learner.adapt(support)(torch.tensor([[2.0, 0.1]])).argmax(1)
        tensor([0])

    References:
        Kaiser, Nachum, Roy, Bengio 2017, Learning to Remember Rare Events (arXiv:1703.03129), and their public code.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        features: int,
        keys: int = 128,
        slots: int | None = None,
        margin: float = 0.1,
        norm: Norm = "running",
    ) -> None:
        super().__init__(model, Keys(features, keys, slots, margin), loss, norm)
        check_one_pass(type(self).__name__, norm)
        self.margin = margin

    def objective(self, answer: Answer, episode: Episode) -> Tensor:
        """Return the mean margin loss of the task's samples in sequence, each asked for before it is written."""
        queries, comparison = answer.studied["queries"], self.comparison
        assert isinstance(comparison, Keys)
        memory, detached = comparison.empty(queries), queries.detach()
        asked: list[int] = []
        keys: list[Tensor] = []
        classes = answer.studied["classes"].tolist()
        for i in rounds(classes):
            right, wrong = seen = memory.look(detached[i], classes[i])
            if right is not None and wrong is not None:
                asked.append(i)
                keys.append(memory.keys[wrong] - memory.keys[right])
            memory.write(detached[i], classes[i], AGE_NOISE if self.training else 0.0, seen)
        if not asked:  # of a single class
            return 0.0 * queries.sum()
        return (self.margin + (queries[asked] * torch.stack(keys)).sum(1)).relu().mean()


def rounds(classes: list[int]) -> list[int]:
    """Return the order in which each class comes once before any comes a second time, and so on.

    Example:
        >>> rounds([3, 3, 5, 3, 5])
        [0, 2, 1, 4, 3]
    """
    counts: dict[int, int] = {}
    turn: list[int] = []
    for c in classes:
        turn.append(counts.get(c, 0))
        counts[c] = turn[-1] + 1
    return sorted(range(len(classes)), key=turn.__getitem__)
