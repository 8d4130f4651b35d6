"""Test-time training: learn to read a stream, a step on each chunk after it was predicted (Tandon et al. 2025)."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fastadapt.engine.engine import Route
from fastadapt.engine.execution import Execution
from fastadapt.errors import ConfigError, TaskError
from fastadapt.inner.differentiation import Differentiation, MetaGradient
from fastadapt.inner.runner import Runner
from fastadapt.inner.trajectory import walk
from fastadapt.layers.norm import Norm, NormPlan
from fastadapt.learner import MetaBatch, Outcome, Trace
from fastadapt.losses import Loss
from fastadapt.methods.gradient import evaluating
from fastadapt.methods.loop import InnerLoop, State
from fastadapt.methods.meta_gradient import MetaGradientLearner
from fastadapt.methods.results import gathered, in_order
from fastadapt.methods.stream_loop import AlongStream, StreamLoop, without_sum
from fastadapt.methods.streams import as_streams, chunks_in, in_turn, learned_from
from fastadapt.predictor import Predictor
from fastadapt.rules.rules import Rule
from fastadapt.selection import Selection
from fastadapt.tasks import Tasks, chunk_of


class TTT(MetaGradientLearner):
    r"""Meta-learn an initialisation theta from which a model learns on while it reads (TTT-E2E).

        theta^{j+1} = theta^j - alpha grad L(D_j; theta^j)      j = 0 .. k-1
        loss        = (1/T) sum_i 1/(k+1) sum_{j=0}^k L(D_j; theta^j)

    A task is a `Stream` of k+1 chunks: each is judged with the weights that the chunks before it made, and then
    learned from. There is no separate query; the losses of the inner steps are the objective. No graph is longer than a
    few steps (`Exact(segment=)`), so that memory hardly grows. Without meta-training, `reading` is dynamic evaluation.

    Args:
        model: the network; its trainable parameters are theta.
        loss: `loss(model, batch) -> scalar` on a chunk; default mean squared error.
        rule: the inner update rule; default `SGD(0.01)`.
        steps: inner steps k in training, >= 0: all chunks but the last.
        meta_gradient: "exact", "first_order", `Exact(...)` or `FirstOrder()`.
        adapt: which parameters the inner loop adapts.
        norm: "transductive" or "running": with which moments batch-norm layers normalise.
        test_steps: inner steps of `trace`; default `steps`. `adapt` and `reading` take a stream as long as it is.
        route: "auto", "vmap" or "loop", or an `Execution`.

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> from fastadapt import SGD
        >>> from fastadapt.tasks import Stream
        >>> net = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.zeros_(net.weight)
        >>> chunks = torch.ones(3, 2, 1)       # y = 1 for x = 1, three times
        >>> learner = TTT(net, rule=SGD(0.25), steps=2)
        >>> learner.reading(Stream((chunks, chunks))).losses
        tensor([[1.0000, 0.2500, 0.0625]])

    References:
        Tandon, Dalal et al. 2025, End-to-End Test-Time Training for Long Context (arXiv:2512.23675); Krause, Kahembwe,
        Murray, Renals 2018, Dynamic Evaluation of Neural Sequence Models (arXiv:1709.07432).
    """

    unchecked: ClassVar[tuple[str, ...]] = ("train", "trace", "reading", "adapt")  # chunks have an axis of their own

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        rule: Rule | None = None,
        steps: int = 1,
        meta_gradient: MetaGradient | Differentiation = "exact",
        adapt: Selection = "all",
        norm: Norm = "transductive",
        test_steps: int | None = None,
        route: Route | Execution = "auto",
    ) -> None:
        super().__init__(
            model,
            loss,
            rule=rule,
            steps=steps,
            meta_gradient=meta_gradient,
            adapt=adapt,
            norm=norm,
            test_steps=test_steps,
            route=route,
        )
        if norm not in ("transductive", "running"):
            raise ConfigError(
                f"norm must be 'transductive' or 'running' for streams, which have no support; got {norm!r}"
            )
        if self.meta_gradient not in ("exact", "first_order"):
            raise ConfigError(f"meta_gradient must be exact or first order in TTT, got {self.meta_gradient!r}")
        self.differentiation = AlongStream(self.differentiation)

    def forward(self, tasks: MetaBatch) -> Outcome:
        """Return the mean over streams and chunks; metrics and outputs are those of the last chunk.

        Args:
            tasks: `T` streams of `steps + 1` chunks.

        Raises:
            TaskError: if the tasks are no streams, or have another number of chunks.
        """
        groups = as_streams(self, tasks)
        for group in groups:
            if learned_from(group) != self.steps:
                raise TaskError(
                    f"a stream has {learned_from(group) + 1} chunks, and TTT(steps={self.steps}) is trained on those "
                    f"of {self.steps + 1}: a step on each but the last; give steps={learned_from(group)}, or others"
                )
        return self.differentiated(groups)

    def reading(self, tasks: MetaBatch) -> Trace:
        """Return losses, metrics and outputs of each chunk of streams, judged before it is learned from.

        Column j is of chunk j with the weights that chunks 0 .. j-1 made.

        Args:
            tasks: streams of any one length.

        Raises:
            TaskError: if the tasks are no streams, or of several lengths.
        """
        groups = as_streams(self, tasks)
        lengths = {learned_from(group) for group in groups}
        if len(lengths) > 1:
            raise TaskError(
                f"streams of several lengths are read together, {sorted(n + 1 for n in lengths)} chunks; read those of "
                "one length at a time"
            )
        k = lengths.pop()
        with self._turn(), evaluating(self):
            state = self.state()
            plan = self._plan(state)

            def f(state: State, support: Any, query: Any, extra: Any, run: Runner) -> tuple[Any, Any]:
                loop = self._loop(state, plan, support, query, extra, k)
                task = {"support": support, "query": query, **extra}
                path = (theta for (theta, _), _ in walk(run, loop, loop.start(), loop.fixed, task, k))
                rows = []
                for j, theta in enumerate((loop.theta, *path)):
                    chunk = {**task, "query": chunk_of(support, query, j)}
                    rows.append(loop.measure(loop.fixed, loop.constants(j), theta, chunk))
                report: dict[str, Any] = {"loss": torch.stack([loss.detach() for loss, _ in rows])}
                names = rows[0][1]["metrics"]
                report["metrics"] = {m: torch.stack([r["metrics"][m] for _, r in rows]) for m in names}
                if "output" in rows[0][1]:
                    report["output"] = torch.stack([r["output"] for _, r in rows])
                return {}, report

            with torch.no_grad():
                ran = self._run(f, state, groups, self._test_batches(groups, k), ("reading", k))
        losses = torch.stack(in_order(ran.stacked, lambda each: each["loss"]))
        return Trace(losses, gathered(ran.stacked, "metrics"), in_order(ran.stacked, lambda each: each.get("output")))

    def trace(
        self,
        tasks: MetaBatch,
        steps: int | None = None,
        norm: Norm | None = None,
        after: Sequence[int] | None = None,
    ) -> Trace:
        """Return losses, metrics and outputs on the last chunk after steps on the first 0, 1, ..., `steps` ones."""
        return super().trace(as_streams(self, tasks), steps, norm, after)

    def adapt(self, support: Any, steps: int | None = None, norm: Norm | None = None) -> Predictor:
        """Return the module after it has read chunks `[k, n, ...]`, or the first `steps` of them."""
        return super().adapt(support, chunks_in(support) if steps is None else steps, norm)

    def adapting(
        self, support: Any, steps: int | None = None, norm: Norm | None = None, rate: float | None = None
    ) -> Iterator[Predictor]:
        """Yield the module after each chunk, see `Learner.adapting`."""
        return super().adapting(support, chunks_in(support) if steps is None else steps, norm, rate)

    def _train_batches(self, groups: list[Tasks]) -> dict[str, list[Tensor]]:
        return in_turn(groups, self.steps)

    def _test_batches(self, groups: list[Tasks], steps: int) -> dict[str, list[Tensor]]:
        few = min(learned_from(group) for group in groups)
        if steps > few:
            raise TaskError(
                f"{steps} steps were asked for on {few} chunks to learn from, a step on each; give longer streams, or "
                "fewer steps"
            )
        return in_turn(groups, steps)

    def _loop(self, state: State, plan: NormPlan, support: Any, query: Any, extra: Any, steps: int) -> InnerLoop:
        return StreamLoop(self, state, plan.of(state["running"]), steps, {"support": support, "query": query, **extra})

    def _predictor(self, state: State, plan: NormPlan, params: dict[str, Tensor], k: int, support: Any) -> Predictor:
        return super()._predictor(state, plan, without_sum(params), k, support)
