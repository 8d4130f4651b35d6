"""Reptile: move the initialisation towards the weights that tasks lead to (Nichol et al. 2018)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fastadapt.engine.engine import Route
from fastadapt.engine.execution import Execution
from fastadapt.inner.calculus import Captured, Params, detached
from fastadapt.inner.loop import check_steps
from fastadapt.inner.runner import Runner
from fastadapt.inner.trajectory import walk
from fastadapt.layers.norm import Norm
from fastadapt.learner import MetaBatch, Outcome
from fastadapt.losses import Loss
from fastadapt.methods.displacement import InnerState, RuleState, check_inner_state, refuse_derivatives
from fastadapt.methods.gradient import GradientLearner
from fastadapt.methods.loop import State
from fastadapt.methods.minibatches import check_batch_size, minibatches
from fastadapt.methods.results import Ran
from fastadapt.rules.rules import Adam, Rule
from fastadapt.selection import Selection
from fastadapt.tasks import Tasks, as_groups, group_by_shape


class Reptile(GradientLearner):
    r"""Meta-learn an initialisation phi without a query set or second derivatives.

        phi_i = k steps of the inner rule on minibatches of task i, from phi
        phi   <- phi + epsilon (mean_i phi_i - phi)

    `loss.backward()` gives the pseudo-gradient `phi - mean_i phi_i`, so `torch.optim.SGD(lr=epsilon)` is the
    paper's update and any other optimizer is its variant. All samples of the support set are used.

    Args:
        model: the network; its trainable parameters are phi.
        loss: `loss(model, batch) -> scalar`; default mean squared error.
        rule: the inner rule; default `Adam(1e-3, beta1=0)`.
        steps: inner steps k in training.
        batch: samples of a minibatch; None takes the whole support set at every step.
        test_steps: inner steps of `adapt` and evaluation; default `steps`.
        test_batch: samples of their minibatches; None takes the whole support set at every step.
        replacement: draw every minibatch afresh rather than streaming the shuffled samples.
        inner_state: the rule's state between tasks. "reset" starts each task afresh; "serial" runs tasks one after
            another through one state, as the reference code does (its Adam moments also serve at test);
            "mean" starts all tasks of a meta-batch from the stored state and stores their mean.
        adapt: which parameters the inner loop adapts.
        norm: the batch-norm mode; "support+query" is the paper's non-transductive protocol.
        route: "auto", "vmap" or "loop", or an `Execution`.

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> from fastadapt import SGD, Task
        >>> net = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.ones_(net.weight)
        >>> x, y = torch.tensor([[1.0], [2.0]]), torch.tensor([[2.0], [3.0]])
        >>> Reptile(net, rule=SGD(0.05), steps=1)(Task((x, y), (x, y))).loss.backward()
        >>> round(float(net.weight.grad) / 0.05, 4)      # (phi - phi_1) / alpha
        -3.0

    References:
        Nichol, Achiam, Schulman 2018, On First-Order Meta-Learning Algorithms (arXiv:1803.02999).
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        rule: Rule | None = None,
        steps: int = 5,
        batch: int | None = None,
        test_steps: int | None = None,
        test_batch: int | None = None,
        replacement: bool = False,
        inner_state: InnerState = "reset",
        adapt: Selection = "all",
        norm: Norm = "transductive",
        route: Route | Execution = "auto",
    ) -> None:
        rule = rule if rule is not None else Adam(1e-3, beta1=0.0)
        super().__init__(
            model, loss, rule=rule, steps=steps, adapt=adapt, norm=norm, test_steps=test_steps, route=route
        )
        check_steps(steps)
        check_batch_size("batch", batch)
        check_batch_size("test_batch", test_batch)
        check_inner_state(inner_state)
        self.batch = batch
        self.test_batch = test_batch
        self.replacement = replacement
        self.inner_state = inner_state
        params = dict(model.named_parameters())
        start = detached(self.rule.init({name: params[name] for name in self.adapted}))
        self.rule_state = RuleState(start) if inner_state != "reset" else None

    def signature(self) -> dict[str, Any]:
        """Return the facts of `GradientLearner.signature`, with the minibatches and the rule's state."""
        own = {"batch": self.batch, "replacement": self.replacement, "inner_state": self.inner_state}
        return {**super().signature(), **own}

    def state(self) -> State:
        """Return the tensors of `GradientLearner.state`, with the rule's state between tasks."""
        # a copy, as the stored state moves on while the losses can still be differentiated
        kept = {} if self.rule_state is None else pytree.tree_map(torch.clone, self.rule_state.value())
        return {**super().state(), "rule": kept}

    def _train_batches(self, groups: list[Tasks]) -> dict[str, list[Tensor]]:
        return minibatches(groups, self.steps, self.batch, replacement=self.replacement)

    def _test_batches(self, groups: list[Tasks], steps: int) -> dict[str, list[Tensor]]:
        # the same support set always gives the same predictor
        return minibatches(groups, steps, self.test_batch, replacement=self.replacement, seed=0)

    def forward(self, tasks: MetaBatch) -> Outcome:
        """Return the mean loss along the inner paths; its `backward()` gives `phi - mean_i phi_i`."""
        groups = as_groups(tasks)
        refuse_derivatives(self, groups)
        differentiate = torch.is_grad_enabled()
        extra = self._train_batches(groups)
        if self.rule_state is not None and self.training and differentiate and self.inner_state == "serial":
            ran = self._serially(groups, extra)
        else:
            key = ("train", differentiate, self.steps)
            ran = self._run(self._displacement(), self.state(), groups, extra, key, pieces=True)
            if self.rule_state is not None and self.training and differentiate:
                self.rule_state.keep(ran.mean["state"])
        return self._outcome(ran, self._moved if differentiate else lambda mean: {})

    def _moved(self, mean: Any) -> Params:
        """Return `phi - mean_i phi_i`, with zeros for what is trainable and does not adapt."""
        adapted = mean["displacement"]
        still = {n: torch.zeros_like(p) for n, p in self.model.named_parameters() if p.requires_grad}
        return {**still, **adapted}

    def _displaced(self, phi: Params, before: Params, end: Params) -> Params:
        """Return phi less where one task leads; `before` and `end` are its weights around the last step."""
        return {name: phi[name] - end[name] for name in end}

    def _reported(self, losses: list[Tensor]) -> Tensor:
        """Return the loss of one task from those ahead of every inner step."""
        return torch.stack(losses).mean(0)

    def _displacement(self) -> Any:
        plan = self._plan(self.state())

        def f(state: State, support: Any, query: Any, extra: Any, run: Runner) -> tuple[Any, Any]:
            phi = state["params"]
            loop = self._loop(state, plan, support, query, extra, self.steps)
            before, end, rule_state = loop.theta, loop.theta, state["rule"]
            losses: list[Tensor] = []
            fed = []
            task = {"support": support, **extra}
            for carry, report in walk(run, loop, loop.start(), loop.fixed, task, self.steps):
                before, (end, rule_state) = end, carry
                losses.append(report["loss"])
                fed.append(report["fed"])
            displacement = self._displaced(loop.theta, before, end)
            loss = self._reported(losses) if losses else next(iter(phi.values())).sum() * 0
            kept = rule_state if self.rule_state is not None else {}
            return {"displacement": detached(displacement), "state": kept}, {"loss": loss.detach(), "fed": fed}

        return f

    def _serially(self, groups: list[Tasks], extra: dict[str, list[Tensor]]) -> Ran:
        """Run the tasks one after another, handing the rule's state from each to the next."""
        assert self.rule_state is not None
        places = sorted((position, group, i) for group in groups for i, position in enumerate(group.positions))
        total: Any = None
        stacked = []
        for position, group, i in places:
            [one] = group_by_shape([group[i]])
            rest = {name: value[position].unsqueeze(0) for name, value in extra.items()}
            captured = Captured()
            mean, each = self.engine(
                self._displacement(),
                self.state(),
                one,
                rest,
                self.model,
                ("serial", self._key()),
                pieces=True,
                owner=self,
                captured=captured,
            )
            captured.check(self.model, self.adapted)
            self.rule_state.keep(mean["state"])
            share = pytree.tree_map(lambda leaf: leaf / len(places), mean)
            total = share if total is None else pytree.tree_map(torch.add, total, share)
            stacked.append((Tasks(one.support, one.query, (position,)), each))
        return Ran(total, stacked)
