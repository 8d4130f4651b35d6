"""One task's inner loop of a gradient-based learner, as the pure functions that the sweep and the engine run."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fastadapt.errors import TaskError
from fastadapt.inner.calculus import Calculus, Params, detached
from fastadapt.inner.exact import Carry
from fastadapt.inner.loop import advance
from fastadapt.layers.bound import Bound
from fastadapt.layers.norm import NormPlan, Statistics
from fastadapt.rules import Rule, with_lr

if TYPE_CHECKING:
    from fastadapt.methods.gradient import GradientLearner

State = dict[str, Any]


class InnerLoop:
    """Hold what the inner loop of one call needs besides the task.

    Args:
        learner: whose network, losses, rule and selection it uses.
        state: the tensors of the learner, see `GradientLearner._state`.
        plan: which statistics normalise what.
        steps: inner steps k.
        task: the task, to see whether its samples are collected anew at every step.
    """

    def __init__(self, learner: "GradientLearner", state: State, plan: NormPlan, steps: int, task: State) -> None:
        self.learner = learner
        self.state = state
        self.plan = plan
        self.steps = steps
        self.repeatable = not (callable(task["support"]) or callable(task["query"]))
        params = state["params"]
        adapted = set(learner.adapted)
        learned = {name for name, p in learner.model.named_parameters() if p.requires_grad}
        self.theta = {name: params[name] for name in learner.adapted}
        self.fixed = {
            "params": {name: p for name, p in params.items() if name in learned and name not in adapted},
            "rates": state["rates"] if learner.rate_names else {},
        }
        self.rates = {} if learner.rate_names else state["rates"]
        self.frozen = {name: p for name, p in params.items() if name not in learned}

    def start(self) -> Carry:
        """Return the carry before the first step."""
        kept = self.state["rule"]
        return self.theta, kept if kept else self.learner.rule.init(self.theta)

    def constants(self, j: int) -> dict[str, Any]:
        """Return frozen parameters, and the buffers that belong to step `j`."""
        return {"params": self.frozen, "rates": self.rates, "buffers": self.plan.buffers(self.state["buffers"], j)}

    def task_at(self, task: dict[str, Any], j: int) -> dict[str, Any]:
        """Return the support, with the sample numbers of the minibatch of step `j` where there are any."""
        one = {name: value for name, value in task.items() if name not in ("batches", "last", "query")}
        if "last" in task and j == self.steps - 1:  # of another size than those before it
            return {**one, "rows": task["last"]}
        return one if "batches" not in task else {**one, "rows": task["batches"][..., j, :]}

    def rule(self, fixed: Any, constants: Any, task: dict[str, Any]) -> Rule:
        """Return the update rule, with the rates that are tensors or that of the task."""
        rates = {**constants["rates"], **fixed["rates"]}
        if "lr" in task:
            return with_lr(self.learner.rule, task["lr"])
        return with_lr(self.learner.rule, self.learner.rates_by_name(rates)) if rates else self.learner.rule

    def bound(self, fixed: Any, constants: Any, theta: Params, statistics: Statistics, **options: Any) -> Bound:
        """Return the model with these parameters."""
        params = {**constants["params"], **fixed["params"], **theta}
        return Bound(self.learner.model, params, constants["buffers"], statistics, **options)

    def support_loss(self, fixed: Any, constants: Any, theta: Params, batch: Any) -> tuple[Tensor, Any]:
        """Return the inner loss, and the moments to feed to the running averages."""
        statistics = self.plan.support()
        loss = self.learner.inner_loss(self.bound(fixed, constants, theta, statistics), batch)
        return loss, statistics.fed if self.plan.feeds_running else {}

    def advance(
        self, calculus: Calculus, fixed: Any, constants: Any, carry: Carry, task: Any, through: bool
    ) -> tuple[Carry, Any]:
        """Return the carry after one inner step, with the loss before it and the moments it saw."""
        theta, state = carry
        batch = task["support"]
        if callable(batch):
            batch = self.collect(batch, fixed, constants, theta)
        elif "rows" in task:
            batch = pytree.tree_map(lambda leaf: leaf[task["rows"]], batch)
        fixed_in = fixed if through else detached(fixed)
        step = advance(
            lambda at: self.support_loss(fixed_in, constants, at, batch),
            theta,
            state,
            self.rule(fixed, constants, task),
            calculus,
            through,
        )
        return (step.params, step.state), {"loss": step.loss.detach(), "fed": step.aux}

    def collect(self, collector: Callable[[Any], Any], fixed: Any, constants: Any, theta: Params) -> Any:
        """Gather a batch with the model as adapted so far; sampling is not differentiated."""
        with torch.no_grad():
            return collector(self.bound(detached(fixed), constants, detached(theta), self.plan.support()))

    def judge(
        self, fixed: Any, constants: Any, theta: Params, task: Any, batched_rows: bool = False
    ) -> tuple[Tensor, dict[str, Any]]:
        """Return the query loss of adapted parameters, and `{metrics, output, fed}`."""
        learner, support, query = self.learner, task["support"], task["query"]
        if callable(query):
            query = self.collect(query, fixed, constants, theta)
        if any(leaf.dim() and not leaf.shape[0] for leaf in pytree.tree_leaves(query) if isinstance(leaf, Tensor)):
            raise TaskError("a task has no query samples to be judged on; draw at least one")

        def forward_support(statistics: Statistics) -> None:
            learner.inner_loss(self.bound(fixed, constants, theta, statistics), support)

        statistics = self.plan.query(forward_support)
        beside = pytree.tree_leaves(support)[0] if self.plan.beside_support else None
        model = self.bound(fixed, constants, theta, statistics, beside=beside, batched_rows=batched_rows)
        loss = learner.loss(model, query)
        report: dict[str, Any] = {"metrics": {}, "fed": statistics.fed if self.plan.feeds_running else {}}
        if isinstance(model.output, Tensor):
            report["output"] = model.output.detach()
        measure = getattr(learner.loss, "metrics", None)
        if measure is not None:
            output = model.output.detach() if isinstance(model.output, Tensor) else model.output
            report["metrics"] = {name: value.detach() for name, value in measure(output, query).items()}
        return loss, report
