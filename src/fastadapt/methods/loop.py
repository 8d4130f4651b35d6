"""One task's inner loop of a gradient-based learner, as the pure functions that the sweep and the engine run."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fastadapt.errors import TaskError
from fastadapt.inner.calculus import Autograd, Calculus, Params, detached
from fastadapt.inner.hooks import hooks_of
from fastadapt.inner.loop import advance
from fastadapt.inner.trajectory import Carry
from fastadapt.judging.loss_values import value_of
from fastadapt.layers.bound import Bound, inside, outcome
from fastadapt.layers.layout import Layout
from fastadapt.layers.norm import NormPlan, RunningMoments, Statistics
from fastadapt.layers.scope import held
from fastadapt.rules.rules import Rule, with_lr, with_tensors
from fastadapt.tasks import Task, first_tensor, is_collector

State = dict[str, Any]


class Adapting(Protocol):
    """What an inner loop takes from a learner."""

    model: nn.Module
    loss: Any
    inner_loss: Any
    rule: Any
    running: RunningMoments | None

    @property
    def adapted(self) -> Sequence[str]:
        """The names of the parameters that the inner loop adapts."""
        ...

    def layout(self) -> Layout:
        """Return where the tensors of the model, and of losses that have some, lie."""
        ...

    def learned(self) -> Mapping[str, Tensor]:
        """Return the meta-parameters by name, those of the model under its own names."""
        ...

    def inner_objective(self, model: Any, support: Any) -> Any:
        """Return what every inner step descends."""
        ...

    def meta_objective(self, model: Any, task: Task) -> Any:
        """Return what the outer loop minimises, for one task at its adapted parameters."""
        ...

    def proximal(self, theta: Params, start: Params) -> Tensor | None:
        """Return what the way of differentiation adds to the inner objective."""
        ...


class InnerLoop:
    """Hold what the inner loop of one call needs besides the task.

    Args:
        learner: whose network, losses, rule and selection it uses.
        state: the tensors of the learner, see `GradientLearner.state`.
        plan: which statistics normalise what.
        steps: inner steps k.
        task: the task, to see whether its samples are collected anew at every step.
    """

    def __init__(self, learner: Adapting, state: State, plan: NormPlan, steps: int, task: State) -> None:
        self.learner, self.model = learner, learner.model
        self.state = state
        self.plan = plan
        self.steps = steps
        self.repeatable = not (is_collector(task["support"]) or is_collector(task["query"]))
        self.layout = learner.layout()
        self.hooks = hooks_of(dict(learner.model.named_parameters()))
        params, learned = state["params"], learner.learned()
        adapted = set(learner.adapted)
        self.theta = {name: params[name] for name in learner.adapted}
        rates = state["rates"]
        self.fixed: dict[str, Any] = {
            "params": {name: p for name, p in params.items() if name in learned and name not in adapted},
            "rates": {name: rate for name, rate in rates.items() if f"rates {name}" in learned},
            "data": state.get("data", {}),
        }
        self.rates = {name: rate for name, rate in rates.items() if name not in self.fixed["rates"]}
        self.frozen = {name: p for name, p in params.items() if name not in learned}

    def start(self) -> Carry:
        """Return the carry before the first step."""
        kept = self.state["rule"]
        return self.theta, kept if kept else self.learner.rule.init(self.theta)

    def before(self, calculus: Calculus, theta: Params, fixed: Any) -> tuple[Params, Any]:
        """Return the gradient to the meta-parameters, given those to the start of the loop and to what is fixed.

        They are the same where the loop starts at the meta-parameters; where its start is made of them, the gradient
        goes on from there.
        """
        return theta, fixed

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
        """Return the update rule, with the tensors of this call in it, or with the rate of the task."""
        if "lr" in task:
            return with_lr(self.learner.rule, task["lr"])
        tensors = {**constants["rates"], **fixed["rates"]}
        return with_tensors(self.learner.rule, tensors) if tensors else self.learner.rule

    def bound(self, fixed: Any, constants: Any, theta: Params, statistics: Statistics, **options: Any) -> Bound:
        """Return the model with these parameters."""
        params = {**constants["params"], **fixed["params"], **theta}
        return Bound(self.learner.model, params, constants["buffers"], statistics, layout=self.layout, **options)

    def support_loss(self, fixed: Any, constants: Any, theta: Params, batch: Any) -> tuple[Tensor, Any]:
        """Return the inner objective, and the moments to feed to the running averages."""
        statistics = self.plan.support()
        model = self.bound(fixed, constants, theta, statistics)
        value, _ = value_of(outcome(model, self.learner.inner_objective, batch)[0], self.learner.inner_loss)
        extra = self.learner.proximal(theta, self.state["params"])
        return value if extra is None else value + extra, statistics.fed if self.plan.feeds_running else {}

    def advance(
        self, calculus: Calculus, fixed: Any, constants: Any, carry: Carry, task: Any, through: bool
    ) -> tuple[Carry, Any]:
        """Return the carry after one inner step, with the loss before it and the moments it saw."""
        if self.hooks and not isinstance(calculus, Autograd):
            raise NotImplementedError("a hook on a parameter is called for one task after another")
        theta, state = carry
        batch = self.data(task["support"], fixed, "support")
        if is_collector(batch):
            batch = self.collect(batch, fixed, constants, theta)
        elif "rows" in task:
            rows = task["rows"]
            batch = pytree.tree_map(lambda leaf: leaf[rows] if isinstance(leaf, Tensor) else leaf, batch)
        fixed_in = fixed if through else detached(fixed)
        step = advance(
            lambda at: self.support_loss(fixed_in, constants, at, batch),
            theta,
            state,
            self.rule(fixed, constants, task),
            calculus,
            through,
            self.hooks,
        )
        return (step.params, step.state), {"loss": step.loss.detach(), "fed": step.aux}

    def data(self, batch: Any, fixed: Any, which: str) -> Any:
        """Return a batch with those of its tensors in place that a gradient is wanted of."""
        asked = {name.removeprefix(which): value for name, value in fixed["data"].items() if name.startswith(which)}
        if not asked:
            return batch
        leaves, structure = pytree.tree_flatten(batch)
        return pytree.tree_unflatten([asked.get(f" {i}", leaf) for i, leaf in enumerate(leaves)], structure)

    def collect(self, collector: Any, fixed: Any, constants: Any, theta: Params) -> Any:
        """Gather a batch with the model as adapted so far; sampling is not differentiated."""
        model = self.bound(detached(fixed), constants, detached(theta), self.plan.support())
        with torch.no_grad(), inside(model).in_place():
            return collector.collect(model)

    def judge(self, fixed: Any, constants: Any, theta: Params, task: Any) -> tuple[Tensor, dict[str, Any]]:
        """Return the meta-objective at adapted parameters, and `{metrics, output, fed}`."""
        return self._judged(self.learner.meta_objective, fixed, constants, theta, task, False)

    def measure(self, fixed: Any, constants: Any, theta: Params, task: Any) -> tuple[Tensor, dict[str, Any]]:
        """Return the query loss of adapted parameters, whatever the outer loop minimises, and the report."""

        def measured(theta: Params) -> tuple[Tensor, dict[str, Any]]:
            return self._judged(
                lambda model, task: self.learner.loss(model, task.query), fixed, constants, theta, task, True
            )

        with torch.enable_grad():  # nothing here requires a gradient, but a loss may take one of its own
            try:
                return measured(theta)
            except RuntimeError as error:
                if "does not require grad" not in str(error):
                    raise
            return detached(measured({name: p.detach().requires_grad_() for name, p in theta.items()}))

    def _judged(
        self, objective: Callable[[Any, Task], Any], fixed: Any, constants: Any, theta: Params, task: Any, rows: bool
    ) -> tuple[Tensor, dict[str, Any]]:
        support, query = self.data(task["support"], fixed, "support"), self.data(task["query"], fixed, "query")
        if is_collector(query):
            query = self.collect(query, fixed, constants, theta)
        leaves = pytree.tree_leaves(query)
        if query is None or any(leaf.dim() and not leaf.shape[0] for leaf in leaves if isinstance(leaf, Tensor)):
            raise TaskError("a task has no query samples to be judged on; draw at least one")

        def forward_support(statistics: Statistics) -> None:
            outcome(self.bound(fixed, constants, theta, statistics), self.learner.inner_objective, support)

        with held():
            statistics = self.plan.query(forward_support)
            beside = first_tensor(support) if self.plan.beside_support else None
            model = self.bound(fixed, constants, theta, statistics, beside=beside, batched_rows=rows)
            returned, output = outcome(model, objective, Task(support, query), of=first_tensor(query))
            loss, metrics = value_of(returned, self.learner.loss)
            report: dict[str, Any] = {"fed": statistics.fed if self.plan.feeds_running else {}}
            if isinstance(output, Tensor):
                report["output"] = output = output.detach()
            measure: Any = getattr(self.learner.loss, "metrics", None)
            if callable(measure):
                metrics = {**measure(output, query), **metrics}  # type: ignore[dict-item]
        report["metrics"] = {name: value.detach() for name, value in metrics.items()}
        return loss, report
