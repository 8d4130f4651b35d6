"""What the gradient-based methods share: binding, the inner loop, `adapt` and `trace`."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fastadapt.engine.engine import Engine, Route, TaskFunction
from fastadapt.engine.execution import Execution
from fastadapt.errors import TaskError
from fastadapt.inner.calculus import Autograd, Params, able_to_differentiate, detached, differentiable
from fastadapt.inner.exact import walk
from fastadapt.inner.loop import check_after, check_steps
from fastadapt.inner.runner import Inline, Runner
from fastadapt.layers.bound import Bound
from fastadapt.layers.kernels import on_kernels_that_differentiate
from fastadapt.layers.norm import Moments, Norm, NormPlan, RunningMoments, batch_norm_layers, check_norm
from fastadapt.learner import Learner, MetaBatch, Outcome, Trace, with_gradient
from fastadapt.losses import MSE, Loss
from fastadapt.methods.loop import InnerLoop, State
from fastadapt.predictor import Predictor, frozen_copy
from fastadapt.rates import learned_rates_of
from fastadapt.rules import SGD, Rule, with_lr
from fastadapt.selection import Selection, select
from fastadapt.tasks import Tasks, as_groups


class GradientLearner(Learner):
    """Adapt by gradient steps from a learned initialisation.

    Args:
        model: the network; its trainable parameters are the meta-parameters theta.
        loss: `loss(model, batch) -> scalar`, on the query.
        rule: the inner update rule.
        steps: inner steps k in training.
        adapt: which parameters the inner loop adapts, see `fastadapt.select`.
        norm: the batch-norm mode.
        inner_loss: the loss on the support, where its scale differs from the query's; default `loss`.
        test_steps: inner steps of `adapt` and of evaluation; default `steps`.
        route: how tasks are run, see `fastadapt.engine.engine`.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        rule: Rule | None = None,
        steps: int = 1,
        adapt: Selection = "all",
        norm: Norm = "transductive",
        inner_loss: Loss | None = None,
        test_steps: int | None = None,
        route: Route | Execution = "auto",
    ) -> None:
        super().__init__()
        check_steps(steps)
        check_steps(steps if test_steps is None else test_steps, "test_steps")
        check_norm(norm)
        self.model = model
        self.loss = loss if loss is not None else MSE()
        self.inner_loss = inner_loss if inner_loss is not None else self.loss
        self.rule = rule if rule is not None else SGD()
        self.steps = steps
        self.test_steps = steps if test_steps is None else test_steps
        self.norm: Norm = norm
        self.adapted = select(model, adapt)
        self.rate_names, self.rates = learned_rates_of(self.rule, self.adapted)
        self.engine: Engine = Engine(route)
        self.layered = bool(batch_norm_layers(model))
        slots = {"running": 1, "per_step": max(steps, self.test_steps) + 1}.get(norm, 0)
        self.running = RunningMoments(model, slots) if slots and self.layered else None

    def signature(self) -> dict[str, Any]:
        """Return the facts of `Learner.signature`, with the inner loop's."""
        inner = {"rule": self._rule_name(), "steps": self.steps, "adapted": list(self.adapted)}
        return {**super().signature(), **inner, "losses": [_name(self.loss), _name(self.inner_loss)]}

    @abstractmethod
    def forward(self, tasks: MetaBatch) -> Outcome:
        """Return the meta-objective of a meta-batch."""

    def _key(self) -> Any:
        """Return what distinguishes the computation of one task beside its shapes, for remembering how to run it."""
        parts = tuple(part.training for part in self.model.modules())
        trainable = tuple(p.requires_grad for p in self.model.parameters())
        return self._rule_name(), self.norm, id(self.inner_loss), id(self.loss), parts, trainable

    def _rule_name(self) -> str:
        constant = isinstance(self.rule.lr, (int, float))
        return repr(self.rule if constant else with_lr(self.rule, "learned"))  # type: ignore[arg-type]

    # ---- one task, as pure functions of `state` ------------------------------------------------

    def _state(self) -> State:
        """Return every tensor that a task's computation depends on, without a graph."""
        return detached(
            {
                "params": dict(self.model.named_parameters()),
                "buffers": dict(self.model.named_buffers()),
                "running": self.running.tensors() if self.running is not None else {},
                "rule": {},
                "rates": self._rates(),
            }
        )

    def _meta(self) -> Params:
        """Return the meta-parameters by name: the trainable ones of the network, and learned inner rates."""
        theta = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        return {**theta, **{f"rates {name}": p for name, p in zip(self.rate_names, self.rates, strict=True)}}

    def _plan(self, state: State, norm: Norm | None = None) -> NormPlan:
        mode = self.norm if norm is None else norm
        if norm is not None:
            check_norm(norm)
        running = state["running"] if mode in ("running", "per_step") else {}
        if mode in ("running", "per_step") and self.layered and not running:
            raise TaskError(
                f"norm={mode!r} was asked of a learner built with norm={self.norm!r}, which kept no running moments"
            )
        return NormPlan(mode, self.training, running, self.running.slots if self.running else 1, self.layered)

    def _loop(self, state: State, plan: NormPlan, support: Any, query: Any, extra: Any, steps: int) -> InnerLoop:
        return InnerLoop(self, state, plan, steps, {"support": support, "query": query, **extra})

    def _rates(self) -> dict[str, Tensor]:
        """Return the inner rates that are tensors, learned or not."""
        lr = self.rule.lr
        if self.rate_names:
            return dict(zip(self.rate_names, self.rates, strict=True))
        return {"all": lr} if isinstance(lr, Tensor) else dict(lr) if isinstance(lr, Mapping) else {}

    def rates_by_name(self, rates: dict[str, Tensor]) -> Any:
        """Return the learned inner rates as the rule takes them: one for all parameters, or one for each by name."""
        return rates.get("all", rates)

    # ---- many tasks ----------------------------------------------------------------------------

    def _run(
        self,
        f: TaskFunction,
        state: State,
        tasks: MetaBatch,
        extra: Mapping[str, Sequence[Tensor] | Tensor],
        key: Any,
        pieces: bool = False,
    ) -> tuple[Any, list[Any]]:
        """Run `f` over every group; return the mean over tasks and the stacked results, one for each group.

        `pieces` says that `f` does nothing but call pieces through its runner, so that they can be compiled.
        """
        groups = as_groups(tasks)
        count = sum(len(group) for group in groups)
        total: Any = None
        stacked = []
        for group in groups:
            rest = {name: torch.stack([value[p] for p in group.positions]) for name, value in extra.items()}
            mean, each = self.engine(f, state, group, rest, self.model, (*key, self._key()), pieces, owner=self)
            if len(groups) == 1:
                return mean, [(group, each)]
            share = len(group) / count
            mean = pytree.tree_map(lambda leaf, s=share: leaf * s, mean)
            total = mean if total is None else pytree.tree_map(torch.add, total, mean)
            stacked.append((group, each))
        return total, stacked

    def _outcome(self, mean: dict[str, Any], stacked: list[Any]) -> Outcome:
        """Put the groups' results back into the order in which the tasks were given."""
        losses = torch.stack(in_order(stacked, lambda each: each["loss"]))
        metrics = _gathered(stacked, "metrics")
        for _, each in stacked:
            self._absorb(each.get("fed", ()))
        loss = with_gradient(losses.mean(), self._meta(), mean)
        return Outcome(loss, losses, metrics, in_order(stacked, lambda each: each.get("output")))

    def _absorb(self, fed: Any) -> None:
        """Feed the running moments with what the forward passes saw, averaged over tasks."""
        if self.running is None or not self.training:
            return
        for slot, seen in enumerate(fed):
            averaged = {name: (mean.mean(0), var.mean(0)) for name, (mean, var) in seen.items()}
            self.running.absorb(slot, averaged)

    def trace(
        self,
        tasks: MetaBatch,
        steps: int | None = None,
        norm: Norm | None = None,
        after: Sequence[int] | None = None,
    ) -> Trace:
        """Return losses, metrics and outputs on the queries after 0, 1, ..., `steps` inner steps."""
        k = self.test_steps if steps is None else steps
        check_steps(k)
        with evaluating(self):
            return self._trace(as_groups(tasks), k, norm, check_after(after, k))

    def _trace(self, groups: list[Tasks], k: int, norm: Norm | None, after: tuple[int, ...]) -> Trace:
        state = self._state()
        plan = self._plan(state, norm)

        def f(state: State, support: Any, query: Any, extra: Any, run: Runner) -> tuple[Any, Any]:
            loop = self._loop(state, plan, support, query, extra, k)
            task = {"support": support, "query": query, **extra}

            def judged(theta: Params, j: int) -> tuple[Tensor, dict[str, Any]]:
                return loop.judge(loop.fixed, loop.constants(j), theta, task, batched_rows=True)

            rows = [judged(loop.theta, 0)] if 0 in after else []
            for j, (carry, _) in enumerate(walk(run, loop, loop.start(), loop.fixed, task, after[-1]), start=1):
                if j in after:
                    rows.append(judged(carry[0], j))
            report: dict[str, Any] = {"loss": torch.stack([loss.detach() for loss, _ in rows])}
            report["metrics"] = {m: torch.stack([r["metrics"][m] for _, r in rows]) for m in rows[0][1]["metrics"]}
            if "output" in rows[0][1] and not callable(query):
                report["output"] = torch.stack([r["output"] for _, r in rows])
            return {}, report

        with torch.no_grad():
            _, stacked = self._run(f, state, groups, self._test_batches(groups, k), ("trace", k, after, plan.mode))
        losses = in_order(stacked, lambda each: each["loss"])
        return Trace(
            torch.stack(losses), _gathered(stacked, "metrics"), in_order(stacked, lambda each: each.get("output"))
        )

    def _test_batches(self, groups: list[Tasks], steps: int) -> dict[str, list[Tensor]]:
        """Return what each task's inner loop needs besides the support; minibatches for Reptile."""
        return {}

    def adapt(self, support: Any, steps: int | None = None, norm: Norm | None = None) -> Predictor:
        """Return a module adapted to a new task, see `Learner.adapt`."""
        k = self.test_steps if steps is None else steps
        check_steps(k)
        with evaluating(self), able_to_differentiate():
            return self._adapt(differentiable(support), k, norm)

    def adapting(
        self, support: Any, steps: int | None = None, norm: Norm | None = None, rate: float | None = None
    ) -> Iterator[Predictor]:
        """Yield the module after 0, 1, ..., `steps` inner steps, see `Learner.adapting`."""
        k = self.test_steps if steps is None else steps
        check_steps(k)
        # what holds during a step must not hold while the caller has the word, so each step enters it anew
        with evaluating(self), able_to_differentiate():
            support = differentiable(support)
            state, plan = self._state(), self._plan(self._state(), norm)
            loop, task = self._alone(state, plan, support, k)
            task |= {} if rate is None else {"lr": torch.tensor(rate)}
            carry = loop.start()
        for j in range(k + 1):
            with evaluating(self), able_to_differentiate():
                predictor = self._predictor(state, plan, {**state["params"], **detached(carry[0])}, j, support)
            yield predictor
            if j < k:
                with evaluating(self), able_to_differentiate():
                    carry = on_kernels_that_differentiate(partial(_advanced, loop, carry, task, j))

    def _adapt(self, support: Any, k: int, norm: Norm | None) -> Predictor:
        state = self._state()
        plan = self._plan(state, norm)
        theta = state["params"]
        loop, task = self._alone(state, plan, support, k)

        def descend_to_the_end() -> Params:
            end = loop.theta
            for carry, _ in walk(Inline(Autograd()), loop, loop.start(), loop.fixed, task, k):
                end = carry[0]
            return {**theta, **detached(end)}

        return self._predictor(state, plan, on_kernels_that_differentiate(descend_to_the_end), k, support)

    def _alone(self, state: State, plan: NormPlan, support: Any, k: int) -> tuple[InnerLoop, dict[str, Any]]:
        """Return the inner loop of a task that has no queries, and the task."""
        one = pytree.tree_map(lambda leaf: leaf.unsqueeze(0) if isinstance(leaf, Tensor) else leaf, support)
        extra: dict[str, Any] = {}
        if not callable(support):
            extra = {name: value[0] for name, value in self._test_batches([Tasks(one, one)], k).items()}
        return self._loop(state, plan, support, None, extra, k), {"support": support, **extra}

    def _predictor(self, state: State, plan: NormPlan, params: Params, k: int, support: Any) -> Predictor:
        """Return the module with the parameters after `k` inner steps."""
        # a loop that fine-tunes carries its running moments along with the parameters
        moving = {name: params.pop(name) for name in state["buffers"] if name in params}
        buffers = {**plan.buffers(state["buffers"], k), **moving}
        moments: list[Moments] = []
        if plan.mode == "support" and self.layered:
            with torch.no_grad():
                moments = (
                    plan.query(
                        lambda statistics: self.inner_loss(Bound(self.model, params, buffers, statistics), support)
                    ).given
                    or []
                )
        beside = pytree.tree_leaves(support)[0] if plan.beside_support else None
        return Predictor(frozen_copy(self.model, params, buffers), plan.mode, moments, beside).eval()


def _advanced(loop: InnerLoop, carry: Any, task: dict[str, Any], j: int) -> Any:
    """Return the carry after inner step `j`, computed as `walk` does."""
    return loop.advance(Autograd(), loop.fixed, loop.constants(j), carry, loop.task_at(task, j), through=False)[0]


def _name(loss: Any) -> str:
    """Return what a loss is called: a dataclass with its settings, otherwise its name."""
    return repr(loss) if is_dataclass(loss) else getattr(loss, "__qualname__", type(loss).__qualname__)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put `module` in evaluation mode, and every part of it back as it was afterwards."""
    before = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.training = training


def in_order(stacked: list[Any], pick: Any) -> list[Tensor]:
    """Return the picked leaf of every task, in the order in which the tasks were given."""
    if len(stacked) == 1 and stacked[0][0].positions == tuple(range(len(stacked[0][0]))):
        leaf = pick(stacked[0][1])
        return [] if leaf is None else list(leaf)
    rows = [
        (p, leaf[i])
        for group, each in stacked
        if (leaf := pick(each)) is not None
        for i, p in enumerate(group.positions)
    ]
    return [leaf for _, leaf in sorted(rows, key=lambda row: row[0])]


def _gathered(stacked: list[Any], name: str) -> dict[str, Tensor]:
    keys = stacked[0][1].get(name, {})
    return {key: torch.stack(in_order(stacked, lambda each, key=key: each[name][key])) for key in keys}
