"""Learners whose meta-gradient passes through the inner loop: of one task the objective, of many the mean."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fastadapt.errors import ConfigError, TaskError
from fastadapt.inner.calculus import Params
from fastadapt.inner.differentiation import Differentiation, MetaGradient, as_differentiation
from fastadapt.inner.runner import Runner
from fastadapt.inner.trajectory import walk
from fastadapt.learner import MetaBatch, Outcome
from fastadapt.losses import Loss
from fastadapt.methods.gradient import GradientLearner
from fastadapt.methods.loop import InnerLoop, State
from fastadapt.methods.minibatches import check_batch_size, minibatches
from fastadapt.methods.results import without_graph
from fastadapt.tasks import Tasks, as_groups


class MetaGradientLearner(GradientLearner):
    """Differentiate a meta-objective through the inner loop.

        (1/T) sum_i sum_j w_j L_Q(theta_i^j)

    Args:
        model: the network.
        loss: the loss on the query.
        meta_gradient: how the gradient passes through the inner loop.
        step_weights: `w_1 .. w_k`; None weighs the last step alone.
        batch: samples of an inner minibatch in training; None takes the whole support set at every step.
        settings: those of `GradientLearner`.

    Raises:
        ConfigError: for a setting outside its range.
    """

    pieced: ClassVar[bool] = True  # whether one task's gradient is nothing but pieces, so that it can be compiled

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        meta_gradient: MetaGradient | Differentiation = "exact",
        step_weights: Sequence[float] | None = None,
        batch: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(model, loss, **settings)
        check_batch_size("batch", batch)
        self.batch = batch
        self.differentiation = as_differentiation(meta_gradient)
        self.step_weights = None if step_weights is None else tuple(float(w) for w in step_weights)
        if self.step_weights is not None:
            _check_weights(self.step_weights, self.steps, self.differentiation)
        if not self.differentiation.through:
            self._check_that_all_can_learn()

    @property
    def meta_gradient(self) -> str:
        """What the way of differentiation is called."""
        return self.differentiation.name

    def signature(self) -> dict[str, Any]:
        """Return the facts of `GradientLearner.signature`, with the kind of meta-gradient."""
        batch = {} if self.batch is None else {"batch": self.batch}
        return {**super().signature(), "meta_gradient": self.meta_gradient, "step_weights": self.step_weights, **batch}

    def proximal(self, theta: Params, start: Params) -> Tensor | None:
        """Return what the way of differentiation adds to the inner objective, if it does."""
        add = getattr(self.differentiation, "proximal", None)
        return None if add is None else add(theta, start)

    def differentiated(self, tasks: MetaBatch, inner_lr: Tensor | None = None) -> Outcome:
        """Return the meta-objective of a meta-batch, see `MAML.forward`."""
        groups = as_groups(tasks)
        count = sum(len(group) for group in groups)
        _check_rates(inner_lr, count)
        if not self.differentiation.through and torch.is_grad_enabled():
            _refuse_learned_support(groups)
        state = self.state()
        plan = self._plan(state)
        differentiate = torch.is_grad_enabled() and bool(self.learned())
        terms = self.step_weights or [0.0] * (self.steps - 1) + [1.0]

        def f(state: State, support: Any, query: Any, extra: Any, run: Runner) -> tuple[Any, Any]:
            data = {name: value for name, value in extra.items() if name.startswith("data ")}
            rest = {name: value for name, value in extra.items() if name not in data}
            asked = {name.removeprefix("data "): value for name, value in data.items()}
            loop = self._loop({**state, "data": asked}, plan, support, query, rest, self.steps)
            task = {"support": support, "query": query, **rest}
            if not differentiate:
                return {}, evaluated(run, loop, task)
            weights = dict(enumerate(state.get("weights", terms), start=1)) if self.steps else {0: 1.0}
            theta, fixed, loss, report = self.differentiation.gradient(
                run, loop, loop.start(), loop.fixed, task, weights
            )
            theta, fixed = loop.before(run.calculus, theta, fixed)
            rates = {f"rates {name}": g for name, g in fixed["rates"].items()}
            fed = [seen["fed"] for seen in report["inner"]] + [report["query"]["fed"]]
            each = {"loss": loss, **report["query"], "fed": fed, "data": fixed["data"]}
            return {**theta, **fixed["params"], **rates}, each

        def evaluated(run: Runner, loop: InnerLoop, task: Any) -> Any:
            start = loop.start()
            *_, (carry, _) = [(start, None), *walk(run, loop, start, loop.fixed, task, self.steps)]
            loss, report = loop.judge(loop.fixed, loop.constants(self.steps), carry[0], task)
            return {"loss": loss.detach(), **report, "fed": []}

        extra: dict[str, Any] = {} if inner_lr is None else {"lr": inner_lr}
        extra |= self._train_batches(groups)
        given = "given" if "weights" in state else self.step_weights
        key = ("train", differentiate, self.steps, self.differentiation, given)
        pieces = differentiate and self.pieced
        return self._outcome(self._run(f, state, groups, extra, key, pieces=pieces), lambda mean: mean)

    def _train_batches(self, groups: list[Tasks]) -> dict[str, list[Tensor]]:
        """Return what each task's inner loop needs in training besides the support."""
        return minibatches(groups, self.steps, self.batch)

    def _check_that_all_can_learn(self) -> None:
        """Refuse parameters of an inner loss that a first-order meta-gradient can't reach."""
        outer = self.loss.parameters() if isinstance(self.loss, nn.Module) else ()
        inner = self.inner_loss.named_parameters() if isinstance(self.inner_loss, nn.Module) else ()
        reached = {id(p) for p in (*outer, *self.model.parameters())}
        lost = [name for name, p in inner if p.requires_grad and id(p) not in reached]
        if lost:
            raise ConfigError(
                f"the inner loss has a parameter {lost[0]!r}, and meta_gradient={self.meta_gradient!r} takes inner "
                "gradients as constants, so that it would never learn; take Exact(), or freeze it with "
                "requires_grad_(False)"
            )


def _refuse_learned_support(groups: list[Tasks]) -> None:
    """Refuse a support set that requires a gradient where inner gradients are constants: it would get zeros.

    What stands in front of support and query alike, an encoder, gets the query's share, as the parameters do.
    """
    wanted = [name for group in groups for name in without_graph(group).wanted]
    if wanted and not any(name.startswith("query") for name in wanted):
        raise TaskError(
            "a support set requires a gradient, and first order takes inner gradients as constants, so that it would "
            "get none; take Exact(), or pass the support set detached"
        )


def _check_rates(inner_lr: Tensor | None, count: int) -> None:
    if inner_lr is not None and inner_lr.shape != (count,):
        raise TaskError(f"inner_lr needs one rate for each of the {count} tasks, got shape {tuple(inner_lr.shape)}")
    if inner_lr is not None and inner_lr.requires_grad:
        raise TaskError("inner_lr is taken as a constant, but it requires a gradient; pass inner_lr.detach()")


def _check_weights(weights: tuple[float, ...], steps: int, differentiation: Differentiation) -> None:
    if len(weights) != steps or not all(0 <= w < float("inf") for w in weights) or not any(weights[-1:]):
        raise ConfigError(
            f"step_weights needs one finite weight >= 0 for each of the {steps} inner steps, the last above 0; "
            f"got {weights}"
        )
    if differentiation.name not in ("exact", "first_order"):
        raise ConfigError(
            "step_weights are summed by the exact and the first-order meta-gradient; leave them out for "
            f"{differentiation.name!r}"
        )
