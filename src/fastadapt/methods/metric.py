"""What the metric methods share: the contract of a learner, kept by one pass of an embedding and a comparison."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastadapt.errors import ConfigError, TaskError
from fastadapt.inner.loop import check_after, check_steps
from fastadapt.inner.unchanged import unchanged
from fastadapt.judging.labels import IGNORED
from fastadapt.judging.loss_values import called
from fastadapt.judging.not_finite import not_finite
from fastadapt.layers.norm import Norm, NormPlan, RunningMoments, batch_norm_layers, check_norm
from fastadapt.layers.supported import as_module
from fastadapt.layers.tracing import written_for
from fastadapt.layers.turns import turn
from fastadapt.learner import Learner, MetaBatch, Outcome, Trace
from fastadapt.losses import CrossEntropy, Loss, as_loss
from fastadapt.methods.compared import Compared, Comparison, Memory
from fastadapt.methods.episodes import Episode, episodes_of, support_of
from fastadapt.methods.gradient import evaluating
from fastadapt.methods.judged import judged
from fastadapt.methods.one_pass import Answer, OnePass
from fastadapt.predictor import Predictor
from fastadapt.tasks import as_support


class MetricLearner(Learner):
    r"""Learn an embedding in which a comparison tells new classes apart; nothing is adapted by gradients.

        p(y = c | x) = softmax_c s_c(f(x); {(f(x_j), y_j)}),      loss = (1/T) sum_i L(D_i^Q)

    A method is a `Comparison`, which says what is remembered of a support set and how a query is compared with it,
    and, where its training does not minimise the loss, an `objective`. There are no inner steps, and a trace has one
    column. Tasks may have any number of classes, whatever the training had.

    Batch norm: with "running", support and query of a training task are one batch, as in the public codes; what was
    trained so answers each query by itself. The other modes are those of `fastadapt.layers.norm`; there is no
    "per_step". Where no layer makes samples meet, those of all tasks are embedded together.

    Args:
        model: the embedding `f`, any module whose output is compared; one of `fastadapt.nets` with `ways=None`.
        comparison: what compares.
        loss: of the outputs on the query; default cross-entropy. Losses of torch are applied to `(outputs, y)`.
        norm: the batch-norm mode; any but "per_step".

    Raises:
        ConfigError: for a setting outside its range.
    """

    def __init__(self, model: nn.Module, comparison: Comparison, loss: Loss | None, norm: Norm) -> None:
        super().__init__()
        check_norm(norm)
        if norm == "per_step":
            name = type(self).__name__
            raise ConfigError(f"norm='per_step' follows inner steps, and {name} has none; choose norm='running'")
        self.network = Compared(as_module(model), comparison)
        self.loss = CrossEntropy() if loss is None else as_loss(loss)
        self.norm: Norm = norm
        self.test_steps = 0
        self.layered = bool(batch_norm_layers(self.network))
        self.running = RunningMoments(self.network, 1) if norm == "running" and self.layered else None

    @property
    def model(self) -> nn.Module:
        """The embedding."""
        return self.network.embedding

    @property
    def comparison(self) -> Comparison:
        """What compares."""
        return self.network.comparison

    def signature(self) -> dict[str, Any]:
        """Return the facts of `Learner.signature`, with the comparison's settings and the loss."""
        comparison = {name: repr(value) for name, value in self.comparison.settings.items()}
        return {**super().signature(), "comparison": comparison, "losses": [called(self.loss)]}

    # ---- what a method may say -----------------------------------------------------------------

    def prepare(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is embedded of a support set: all of it as it is."""
        return x, y

    def objective(self, answer: Answer, episode: Episode) -> Tensor:
        """Return what training minimises for one task, a scalar: the loss of its outputs."""
        return self.judged(answer.outputs, episode)[0]

    # ---- the contract --------------------------------------------------------------------------

    def forward(self, tasks: MetaBatch) -> Outcome:
        """Return the mean objective over the tasks."""
        episodes, answers = self._answers(tasks, None)
        pairs = list(zip(answers, episodes, strict=True))
        losses = torch.stack([self.objective(answer, episode) for answer, episode in pairs])
        with torch.no_grad():
            metrics = [self.judged(answer.outputs, episode)[1] for answer, episode in pairs]
        stacked = {name: torch.stack([each[name] for each in metrics]) for name in metrics[0]}
        return Outcome(losses.mean(), losses, stacked, [answer.outputs.detach() for answer in answers])

    @torch.no_grad()
    def trace(
        self, tasks: MetaBatch, steps: int | None = None, norm: Norm | None = None, after: Sequence[int] | None = None
    ) -> Trace:
        """Return losses, metrics and outputs on the queries; there are no inner steps, and one column."""
        check_steps(0 if steps is None else steps)
        check_after(after, 0 if steps is None else steps)
        with turn(self.network), evaluating(self):
            episodes, answers = self._answers(tasks, norm)
            judged = [self.judged(answer.outputs, episode) for answer, episode in zip(answers, episodes, strict=True)]
        losses = torch.stack([loss for loss, _ in judged]).unsqueeze(1)
        metrics = {name: torch.stack([each[name] for _, each in judged]).unsqueeze(1) for name in judged[0][1]}
        return Trace(losses, metrics, [answer.outputs.unsqueeze(0) for answer in answers])

    @torch.no_grad()
    def adapt(self, support: Any, steps: int | None = None, norm: Norm | None = None) -> Predictor:
        """Return a module that remembers the support set, see `Learner.adapt`; `steps` change nothing."""
        if isinstance(steps, Tensor):
            raise TaskError("adapt takes the support set as one pair, and this is a second tensor; write adapt((x, y))")
        check_steps(0 if steps is None else steps)
        x, y, ways = support_of(as_support(support), type(self).__name__)
        with turn(self.network), evaluating(self), written_for("autograd"), unchanged((x, y), self.network):
            x, y = self.prepare(x, y)
            run = OnePass(self.network, self._plan(norm))
            memory = run.remembered(x, y, ways)
            _check_finite(memory, support)
            return run.predictor(x, memory)

    def adapting(
        self, support: Any, steps: int | None = None, norm: Norm | None = None, rate: float | None = None
    ) -> Iterator[Predictor]:
        """Yield the one predictor that there is without inner steps."""
        yield self.adapt(support, steps, norm)

    def _plan(self, norm: Norm | None) -> NormPlan:
        mode = self.norm if norm is None else norm
        check_norm(mode)
        if mode in ("running", "per_step") and self.layered and self.running is None:
            raise TaskError(
                f"norm={mode!r} was asked of a learner built with norm={self.norm!r}, which kept no running moments"
            )
        running = self.running.tensors() if self.running is not None and mode in ("running", "per_step") else {}
        return NormPlan(mode, self.training, running, 1, self.layered)

    def _answers(self, tasks: MetaBatch, norm: Norm | None) -> tuple[list[Episode], list[Answer]]:
        """Return the tasks in the given order, and the answers to their queries; the running moments follow these."""
        episodes = episodes_of(tasks, type(self).__name__, self.prepare)
        return episodes, self._answered(episodes, self.network, norm)

    def _answered(self, episodes: Sequence[Episode], network: Compared, norm: Norm | None) -> list[Answer]:
        """Return the answers of a network that has this learner's embedding."""
        batches = [(episode.x, episode.xq) for episode in episodes]
        with turn(network), written_for("autograd"), unchanged(batches, network):
            answers, fed = OnePass(network, self._plan(norm)).answers(episodes)
        if self.running is not None and fed:
            each = {name: zip(*(seen[name] for seen in fed), strict=True) for name in fed[0]}
            means = {name: [torch.stack(moment).mean(0) for moment in moments] for name, moments in each.items()}
            self.running.absorb(0, {name: (mean, variance) for name, (mean, variance) in means.items()})
        return answers

    def judged(self, outputs: Tensor, episode: Episode) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of outputs on a query, and its metrics."""
        return judged(self.loss, self.model, outputs, episode)


def counted(outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return outputs and labels of the queries that count."""
    kept = y != IGNORED
    return outputs[kept], y[kept]


def _check_finite(memory: Memory, support: Any) -> None:
    """Refuse a support set of which nothing finite can be remembered."""
    if all(bool(torch.isfinite(value).all()) for value in memory.values()):
        return
    fault = not_finite(support, "support") or "its features are not finite"
    raise TaskError(
        f"{fault}: what is remembered of the support set is not finite, and no query could be compared with it; leave "
        "such samples out, or scale the data"
    )
