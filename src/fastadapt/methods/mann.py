"""Memory-augmented networks: an LSTM with a memory that is shown a label one step late (Santoro et al. 2016)."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from fastadapt.layers.norm import Norm
from fastadapt.learner import MetaBatch, Outcome
from fastadapt.losses import Loss
from fastadapt.methods.compared import COLUMNS, Memory
from fastadapt.methods.episodes import Episode, episodes_of
from fastadapt.methods.sequence import KNOWN, SequenceComparison, SequenceLearner, numbered, of_one_shape, one_hot
from fastadapt.nets.lrua import Controller

Order = Callable[[int], Tensor]
_LAST = "last"  # the label of the sample before a query


class Recalls(SequenceComparison):
    """Let a `Controller` step through the samples, each beside the label of the one before it.

    Args:
        ways: see `SequenceComparison`.
        features: see `SequenceComparison`.
        hidden: see `Controller`.
        slots: see `Controller`.
        width: see `Controller`.
        heads: see `Controller`.
        decay: see `Controller`.
    """

    def __init__(
        self,
        ways: int,
        features: int,
        hidden: int = 200,
        slots: int | None = 128,
        width: int = 40,
        heads: int = 4,
        decay: float = 0.95,
    ) -> None:
        memory = {"hidden": hidden, "slots": slots, "width": width, "heads": heads, "decay": decay}
        super().__init__(ways, features, **memory)
        self.controller = Controller(features + ways, hidden=hidden, slots=slots, width=width, heads=heads, decay=decay)
        self.head = nn.Linear(self.controller.outputs, ways)

    def read(self, features: Tensor, labels: Tensor) -> Memory:
        """Return the state after the samples, and the last label, which no step has seen yet."""
        _, state = self._walked(features, labels)
        return {**state, _LAST: labels[..., -1, :]}

    def answer(self, features: Tensor, memory: Memory) -> Tensor:
        """Return the outputs of one more step, with each query by itself, `[..., n, N]`."""
        batch, state = features.dim() - 2, {}
        for name, own in memory.items():
            if name not in (KNOWN, COLUMNS):
                value = own.unsqueeze(batch)
                state[name] = value.expand(*features.shape[:-1], *value.shape[batch + 1 :])
        return self.head(self.controller.step(torch.cat((features, state.pop(_LAST)), -1), state))

    def each_step(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the outputs at every step of sequences `[..., L, d]` with labels `[..., L, N]`, `[..., L, N]`."""
        return self.head(self._walked(features, labels)[0])

    def _walked(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Memory]:
        before = torch.cat((torch.zeros_like(labels[..., :1, :]), labels[..., :-1, :]), -2)
        return self.controller(torch.cat((features, before), -1), self.controller.start(features[..., 0, 0]))


class MANN(SequenceLearner):
    r"""Learn to bind samples to labels that are shown one step late, in an external memory.

        input of step t: [f(x_t), y_{t-1}],      loss = (1/L) sum_t -log p(y_t | x_1, ..., x_t, y_1, ..., y_{t-1})

    While it trains, support set and query of a task are one sequence in random order, whose every step is judged; a
    published task has 5 classes of 10 samples. `adapt` shows the support set in the order in which it is given, and
    what is in the memory then answers each query by one further step, so that no answer depends on other queries.
    Nothing is adapted by gradients. Traces and evaluation judge the queries in this way; the published results
    are of another kind, accuracy by how often a class was seen before: `fastadapt.compare.by_instance.by_instance`.

    Labels are one-hot: a learner is built for `ways` classes, and takes tasks of fewer.

    Args:
        model: the embedding `f`, see `MetricLearner`; features are flattened. The paper has none, `nn.Flatten()`.
        loss: on the outputs; default cross-entropy.
        ways: classes that a label can tell apart, N.
        features: numbers of the embedding.
        hidden: units of the LSTM.
        slots: of the memory; None is the baseline of the paper, an LSTM without a memory.
        width: numbers of a slot.
        heads: that read and write.
        decay: of the usage of a slot.
        shuffle: put the samples of a training task into a random order, drawn from torch's generator.
        norm: the batch-norm mode; any but "per_step".

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> learner = MANN(nn.Flatten(), ways=5, features=9, slots=16)
        >>> learner.adapt((torch.rand(5, 3, 3), torch.arange(5)))(torch.rand(7, 3, 3)).shape
        torch.Size([7, 5])

    References:
        Santoro, Bartunov, Botvinick, Wierstra, Lillicrap 2016, Meta-Learning with Memory-Augmented Neural Networks
        (ICML).
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        ways: int,
        features: int,
        hidden: int = 200,
        slots: int | None = 128,
        width: int = 40,
        heads: int = 4,
        decay: float = 0.95,
        shuffle: bool = True,
        norm: Norm = "running",
    ) -> None:
        comparison = Recalls(ways, features, hidden, slots, width, heads, decay)
        super().__init__(model, comparison, loss, norm, shuffle)
        self.recalls = comparison

    def prepare(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return a support set as it is given: a training task is shuffled with its query."""
        return x, y

    def forward(self, tasks: MetaBatch) -> Outcome:
        """Return the mean loss over all steps of all tasks; outputs and metrics are those at the queries."""
        shuffled = self.shuffle and self.training
        episodes, outputs = self.at_each_step(tasks, torch.randperm if shuffled else torch.arange)
        losses, metrics, answers = [], [], []
        for episode, each in zip(episodes, outputs, strict=True):
            whole = replace(episode, xq=torch.cat((episode.x, episode.xq)), yq=torch.cat((episode.y, episode.yq)))
            losses.append(self.judged(each, whole)[0])
            answers.append(each.detach()[len(episode.y) :])
            with torch.no_grad():
                metrics.append(self.judged(answers[-1], episode)[1])
        stacked = {name: torch.stack([each[name] for each in metrics]) for name in metrics[0]}
        return Outcome(torch.stack(losses).mean(), torch.stack(losses), stacked, answers)

    def at_each_step(
        self, tasks: MetaBatch, order: Order, norm: Norm | None = None
    ) -> tuple[list[Episode], list[Tensor]]:
        """Return the tasks, and the output for each sample at its step of a sequence of support set and query.

        Args:
            tasks: of classes.
            order: `order(L)`, the places of samples (support set before query) in the order in which they are shown.
            norm: the batch-norm mode; None takes the learner's own.

        Returns:
            For each task the outputs `[L, N]`, support set before query whatever the order was.
        """
        episodes = episodes_of(tasks, type(self).__name__, self.prepare)
        kept, inputs, orders = self.kept(episodes, norm), [], []
        for episode, each in zip(episodes, kept, strict=True):
            ways = len(each.memory[KNOWN])
            features = torch.cat([self.reader.fitting(part, ways) for part in (each.memory["samples"], each.scores)])
            y = numbered(torch.cat((episode.y, episode.yq)), each.memory[COLUMNS])
            orders.append(order(len(y)).to(y.device))
            inputs.append((features[orders[-1]], one_hot(y[orders[-1]], self.reader.ways, features)))
        outputs: dict[int, Tensor] = {}
        for places in of_one_shape(inputs):
            scores = self.recalls.each_step(*(torch.stack([inputs[i][part] for i in places]) for part in range(2)))
            for row, i in enumerate(places):
                outputs[i] = self.network.answered(scores[row], kept[i].memory)[orders[i].argsort()]
        return episodes, [outputs[i] for i in range(len(kept))]
