"""What the gradient-based methods share: the contract of a learner, kept by running an inner loop for each task."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fastadapt.engine.engine import Engine, Route, TaskFunction
from fastadapt.engine.execution import Execution
from fastadapt.errors import TaskError
from fastadapt.inner.calculus import Params, able_to_differentiate, detached, differentiable
from fastadapt.inner.loop import check_after, check_steps
from fastadapt.inner.runner import Runner
from fastadapt.inner.trajectory import walk
from fastadapt.inner.unchanged import unchanged
from fastadapt.judging.loss_values import called
from fastadapt.layers.bound import Bound, outcome
from fastadapt.layers.kernels import on_kernels_that_differentiate
from fastadapt.layers.layout import Layout
from fastadapt.layers.norm import (
    Moments,
    Norm,
    NormPlan,
    RunningMoments,
    Statistics,
    batch_norm_layers,
    check_held,
    check_norm,
)
from fastadapt.layers.supported import as_module
from fastadapt.layers.turns import turn
from fastadapt.learner import Learner, MetaBatch, Outcome, Trace, with_gradient, with_task_gradients
from fastadapt.losses import Loss, as_loss
from fastadapt.methods.adapted import adapted, advanced
from fastadapt.methods.fitting import checked_support
from fastadapt.methods.loop import InnerLoop, State
from fastadapt.methods.results import Ran, gathered, in_order
from fastadapt.methods.running import Running
from fastadapt.predictor import Predictor, frozen_copy
from fastadapt.rules.rates import learned_tensors
from fastadapt.rules.rules import Rule, as_rule, rule_name, rule_tensors
from fastadapt.selection import Selection, select
from fastadapt.tasks import Task, Tasks, as_groups, first_tensor, group_by_shape, is_collector

_KNOWN: dict[int, dict[str, Any]] = {}
"""What was looked up in the present turn of a learner. It is no state of the learner, whose state programs watch."""


class GradientLearner(Learner):
    """Adapt by gradient steps from a learned initialisation.

    A method says two things: `inner_objective`, which every inner step descends, and `meta_objective`, which the outer
    loop minimises at the adapted parameters. Both see the model with its parameters in place.

    Args:
        model: the network; its trainable parameters are the meta-parameters theta.
        loss: `loss(model, batch) -> scalar`, on the query; or a loss of torch, applied to `(model(x), y)`.
        rule: the inner update rule; tensors in it that require a gradient are learned.
        steps: inner steps k in training.
        adapt: which parameters the inner loop adapts, see `fastadapt.select`; what is frozen when it is used never is.
        norm: the batch-norm mode.
        inner_loss: the loss on the support, where it differs from the query's; default `loss`.
        test_steps: inner steps of `adapt` and of evaluation; default `steps`.
        route: how tasks are run, see `fastadapt.engine.engine`.
    """

    unchecked: ClassVar[tuple[str, ...]] = ()  # computations whose labels are not those of the network's outputs

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
        self.model = as_module(model)
        self.loss = as_loss(loss)
        self.inner_loss = self.loss if inner_loss is None else as_loss(inner_loss)
        self.rule = as_rule(rule)
        self.steps = steps
        self.test_steps = steps if test_steps is None else test_steps
        self.norm: Norm = norm
        self.selection = adapt
        self.rate_names, self.rates, self.rule_parts = learned_tensors(self.rule, self.adapted)
        self.engine: Engine = Engine(route)
        self.layered = bool(batch_norm_layers(model))
        slots = {"running": 1, "per_step": max(steps, self.test_steps) + 1}.get(norm, 0)
        self.running = RunningMoments(model, slots) if slots and self.layered else None

    @property
    def adapted(self) -> tuple[str, ...]:
        """The names of the parameters that the inner loop adapts: those that are selected and trainable now."""
        return self._once_a_turn("adapted", lambda: select(self.model, self.selection))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Let no other thread run the model; what is asked of it several times is looked up once."""
        with turn(self.model):
            before = _KNOWN.get(id(self))
            _KNOWN[id(self)] = {}
            try:
                yield
            finally:
                _KNOWN.pop(id(self))
                if before is not None:
                    _KNOWN[id(self)] = before

    def _once_a_turn(self, name: str, look: Callable[[], Any]) -> Any:
        known = _KNOWN.get(id(self))
        if known is None:
            return look()
        if name not in known:
            known[name] = look()
        return known[name]

    def signature(self) -> dict[str, Any]:
        """Return the facts of `Learner.signature`, with the inner loop's."""
        inner = {"rule": self._rule_name(), "steps": self.steps, "adapted": list(self.adapted)}
        return {**super().signature(), **inner, "losses": [called(self.loss), called(self.inner_loss)]}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what `forward` returns, while no other thread runs the model."""
        with self._turn():
            return super().__call__(*args, **kwargs)

    @abstractmethod
    def forward(self, tasks: MetaBatch) -> Outcome:
        """Return the meta-objective of a meta-batch."""

    # ---- what a method says --------------------------------------------------------------------

    def inner_objective(self, model: Any, support: Any) -> Any:
        """Return `L(D^S; theta)`, which every inner step descends."""
        return self.inner_loss(model, support)

    def meta_objective(self, model: Any, task: Task) -> Any:
        """Return `L(D^Q; theta^k)`, which the outer loop minimises."""
        return self.loss(model, task.query)

    def proximal(self, theta: Params, start: Params) -> Tensor | None:
        """Return what the way of differentiation adds to the inner objective: nothing."""
        return None

    # ---- one task, as pure functions of `state` ------------------------------------------------

    def layout(self) -> Layout:
        """Return where the tensors of the model lie, and those of losses that are modules."""
        return self._once_a_turn("layout", lambda: Layout(self.model, self._loss_modules()))

    def _loss_modules(self) -> dict[str, nn.Module]:
        both = {"loss": self.loss, "inner_loss": self.inner_loss}
        return {name: loss for name, loss in both.items() if isinstance(loss, nn.Module)}

    def _own_tensors(self) -> Params:
        """Return the parameters of the model by their names, and those of the losses behind the loss's name."""
        own: Params = dict(self.model.named_parameters())
        known = {id(p) for p in own.values()}
        for loss, module in self._loss_modules().items():
            fresh = {f"{loss}:{name}": p for name, p in module.named_parameters() if id(p) not in known}
            known |= {id(p) for p in fresh.values()}
            own |= fresh
        return own

    def state(self) -> State:
        """Return every tensor that a task's computation depends on, without a graph.

        A buffer that requires a gradient (the output of another network) keeps its own, and is found as what a closure
        holds is.
        """
        state = {
            "params": self._own_tensors(),
            "running": self.running.tensors() if self.running is not None else {},
            "rule": {},
            "rates": self._rule_tensors(),
        }
        return {
            **detached(state),
            "buffers": {n: b if b.requires_grad else b.detach() for n, b in self.model.named_buffers()},
        }

    def learned(self) -> Params:
        """Return the meta-parameters by name: the trainable ones of network and losses, and those of the rule."""
        return self._once_a_turn("learned", self._learned)

    def _learned(self) -> Params:
        theta = {name: p for name, p in self._own_tensors().items() if p.requires_grad}
        return {**theta, **{f"rates {name}": t for name, t in self._rule_tensors().items() if t.requires_grad}}

    def _rule_tensors(self) -> dict[str, Tensor]:
        """Return the tensors in the update rule, learned or not."""
        return rule_tensors(self.rule)

    def _plan(self, state: State, norm: Norm | None = None) -> NormPlan:
        mode = self.norm if norm is None else norm
        check_norm(mode)
        running = state["running"] if mode in ("running", "per_step") else {}
        if mode in ("running", "per_step") and self.layered and not running:
            raise TaskError(
                f"norm={mode!r} was asked of a learner built with norm={self.norm!r}, which kept no running moments"
            )
        slots = min(self.running.slots, self.steps + 1) if self.running else 1  # no training feeds those behind
        return NormPlan(mode, self.training, running, slots, self.layered)

    def _loop(self, state: State, plan: NormPlan, support: Any, query: Any, extra: Any, steps: int) -> InnerLoop:
        return InnerLoop(self, state, plan.of(state["running"]), steps, {"support": support, "query": query, **extra})

    def _key(self) -> Any:
        """Return what distinguishes the computation of one task beside its shapes, for remembering how to run it."""
        parts = tuple(part.training for part in self.model.modules())
        trainable = tuple((p.requires_grad, bool(p._backward_hooks)) for p in self.model.parameters())
        return self._rule_name(), self.norm, id(self.inner_loss), id(self.loss), parts, trainable

    def _rule_name(self) -> str:
        return rule_name(self.rule)

    # ---- many tasks ----------------------------------------------------------------------------

    def _run(
        self,
        f: TaskFunction,
        state: State,
        tasks: MetaBatch,
        extra: Mapping[str, Sequence[Tensor] | Tensor],
        key: Any,
        pieces: bool = False,
    ) -> Ran:
        """Run `f` over every group of tasks, see `fastadapt.methods.running`."""
        engine = Running(self.engine, self, (key, self._key()))
        return engine.run(f, state, as_groups(tasks), extra, pieces)

    def _outcome(self, ran: Ran, pick: Callable[[Any], Params]) -> Outcome:
        """Put the groups' results back into the order in which the tasks were given.

        Args:
            ran: what came of the tasks.
            pick: returns the gradients by the names of `learned`, from the mean over tasks.
        """
        losses = torch.stack(in_order(ran.stacked, lambda each: each["loss"]))
        metrics = gathered(ran.stacked, "metrics")
        for _, each in ran.stacked:
            self._absorb(each.get("fed", ()))
        learned = self.learned()
        loss = with_gradient(losses.mean(), *ran.graph(learned, pick))
        if ran.again is not None:  # else each task depends on those before it
            losses = with_task_gradients(losses, *ran.graph(learned, pick, for_tasks=True))
        return Outcome(
            loss,
            losses,
            metrics,
            in_order(ran.stacked, lambda each: each.get("output")),
        )

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
        with self._turn(), evaluating(self):
            return self._trace(as_groups(tasks), k, norm, check_after(after, k))

    def _trace(self, groups: list[Tasks], k: int, norm: Norm | None, after: tuple[int, ...]) -> Trace:
        state = self.state()
        plan = self._plan(state, norm)

        def f(state: State, support: Any, query: Any, extra: Any, run: Runner) -> tuple[Any, Any]:
            loop = self._loop(state, plan, support, query, extra, k)
            task = {"support": support, "query": query, **extra}

            def judged(theta: Params, j: int) -> tuple[Tensor, dict[str, Any]]:
                return loop.measure(loop.fixed, loop.constants(j), theta, task)

            rows = [judged(loop.theta, 0)] if 0 in after else []
            for j, (carry, _) in enumerate(walk(run, loop, loop.start(), loop.fixed, task, after[-1]), start=1):
                if j in after:
                    rows.append(judged(carry[0], j))
            report: dict[str, Any] = {"loss": torch.stack([loss.detach() for loss, _ in rows])}
            report["metrics"] = {m: torch.stack([r["metrics"][m] for _, r in rows]) for m in rows[0][1]["metrics"]}
            if "output" in rows[0][1] and not is_collector(query):
                report["output"] = torch.stack([r["output"] for _, r in rows])
            return {}, report

        with torch.no_grad():
            ran = self._run(f, state, groups, self._test_batches(groups, k), ("trace", k, after, plan.mode))
        losses = torch.stack(in_order(ran.stacked, lambda each: each["loss"]))
        outputs = in_order(ran.stacked, lambda each: each.get("output"))
        return Trace(losses, gathered(ran.stacked, "metrics"), outputs)

    def _test_batches(self, groups: list[Tasks], steps: int) -> dict[str, list[Tensor]]:
        """Return what each task's inner loop needs besides the support; minibatches for Reptile."""
        return {}

    def adapt(self, support: Any, steps: int | None = None, norm: Norm | None = None) -> Predictor:
        """Return a module adapted to a new task, see `Learner.adapt`."""
        k = self.test_steps if steps is None else steps
        if isinstance(k, Tensor):
            raise TaskError("adapt takes the support set as one pair, and this is a second tensor; write adapt((x, y))")
        check_steps(k)
        support = checked_support(self, support)
        with self._turn(), evaluating(self), able_to_differentiate(), unchanged(support, self.model):
            return self._adapt(differentiable(support), k, norm)

    def adapting(
        self, support: Any, steps: int | None = None, norm: Norm | None = None, rate: float | None = None
    ) -> Iterator[Predictor]:
        """Yield the module after 0, 1, ..., `steps` inner steps, see `Learner.adapting`."""
        k = self.test_steps if steps is None else steps
        check_steps(k)
        # what holds during a step must not hold while the caller has the word, so each step enters it anew
        with self._turn(), evaluating(self), able_to_differentiate():
            support = differentiable(checked_support(self, support))
            state, plan = self.state(), self._plan(self.state(), norm)
            loop, task = self._alone(state, plan, support, k)
            task |= {} if rate is None else {"lr": torch.tensor(rate)}
            carry = loop.start()
        for j in range(k + 1):
            with self._turn(), evaluating(self), able_to_differentiate():
                predictor = self._predictor(state, plan, {**state["params"], **detached(carry[0])}, j, support)
            yield predictor
            if j < k:
                with self._turn(), evaluating(self), able_to_differentiate():
                    carry = on_kernels_that_differentiate(partial(advanced, loop, carry, task, j))

    def _adapt(self, support: Any, k: int, norm: Norm | None) -> Predictor:
        state = self.state()
        plan = self._plan(state, norm)
        end = adapted(self, state, plan, support, k)
        return self._predictor(state, plan, {**state["params"], **end}, k, support)

    def _alone(self, state: State, plan: NormPlan, support: Any, k: int) -> tuple[InnerLoop, dict[str, Any]]:
        """Return the inner loop of a task that has no queries, and the task."""
        extra: dict[str, Any] = {}
        if not is_collector(support):
            extra = {
                name: value[0]
                for name, value in self._test_batches(group_by_shape([Task(support, support)]), k).items()
            }
        return self._loop(state, plan, support, None, extra, k), {"support": support, **extra}

    def _predictor(self, state: State, plan: NormPlan, params: Params, k: int, support: Any) -> Predictor:
        """Return the module with the parameters after `k` inner steps."""
        # a loop that fine-tunes carries its running moments along with the parameters
        moving = {name: params.pop(name) for name in state["buffers"] if name in params}
        buffers = {**plan.buffers(state["buffers"], k), **moving}
        moments: list[Moments] = []
        if plan.mode == "support" and self.layered:
            with torch.no_grad():
                layout = self.layout()

                def forward_support(own: Statistics) -> None:
                    outcome(Bound(self.model, params, buffers, own, layout=layout), self.inner_objective, support)

                moments = plan.query(forward_support).given or []
        beside = first_tensor(support) if plan.beside_support else None
        own = {name: params[name] for name, _ in self.model.named_parameters()}
        return Predictor(frozen_copy(self.model, own, buffers), plan.mode, moments, beside).eval()


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put `module` in evaluation mode, and every part of it back as it was afterwards."""
    if isinstance(module, GradientLearner):
        check_held(module.model)
    before = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.training = training
