"""Reptile: move the initialisation towards the weights that tasks lead to (Nichol et al. 2018)."""

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fastadapt.engine.engine import Route
from fastadapt.engine.execution import Execution
from fastadapt.errors import ConfigError
from fastadapt.inner.calculus import Params, detached
from fastadapt.inner.exact import walk
from fastadapt.inner.loop import check_steps
from fastadapt.inner.runner import Runner
from fastadapt.layers.norm import Norm
from fastadapt.learner import MetaBatch, Outcome
from fastadapt.losses import Loss
from fastadapt.methods.gradient import GradientLearner
from fastadapt.methods.loop import State
from fastadapt.rules import Adam, Rule
from fastadapt.selection import Selection
from fastadapt.tasks import Tasks, as_groups, group_by_shape

InnerState = Literal["reset", "serial", "mean"]


def minibatch_order(
    samples: int, batch: int, steps: int, *, replacement: bool = False, generator: torch.Generator | None = None
) -> Tensor:
    """Return the sample numbers of `steps` minibatches of one task, `[steps, batch]`.

    Without replacement the shuffled samples are streamed, reshuffled when they run out, so a minibatch may
    straddle two passes. With replacement every minibatch is drawn afresh: distinct inside, independent between.
    They are drawn from `generator`, or else from torch's own.

    Example:
        >>> sorted(minibatch_order(6, 2, 3).flatten().tolist())
        [0, 1, 2, 3, 4, 5]
    """
    if replacement:
        return torch.stack([torch.randperm(samples, generator=generator)[:batch] for _ in range(steps)])
    passes = -(-steps * batch // samples)
    stream = torch.cat([torch.randperm(samples, generator=generator) for _ in range(passes)])
    return stream[: steps * batch].view(steps, batch)


class _RuleState(nn.Module):
    """Hold the state of an inner rule between tasks, as buffers."""

    def __init__(self, state: Any) -> None:
        super().__init__()
        leaves, structure = pytree.tree_flatten(state)
        # plain containers, because torch's own description of a structure can't be copied or pickled in silence
        self.places = pytree.tree_unflatten(list(range(len(leaves))), structure)
        for i, leaf in enumerate(leaves):
            self.register_buffer(f"leaf_{i}", leaf.clone())

    def value(self) -> Any:
        return pytree.tree_map(lambda i: getattr(self, f"leaf_{i}"), self.places)

    @torch.no_grad()
    def keep(self, state: Any) -> None:
        for i, leaf in enumerate(pytree.tree_leaves(state)):
            getattr(self, f"leaf_{i}").copy_(leaf)


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
        for name, value in (("batch", batch), ("test_batch", test_batch)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1 sample, got {value}")
        if inner_state not in get_args(InnerState):
            raise ConfigError(f"inner_state must be 'reset', 'serial' or 'mean', got {inner_state!r}")
        self.batch = batch
        self.test_batch = test_batch
        self.replacement = replacement
        self.inner_state = inner_state
        params = dict(model.named_parameters())
        start = detached(self.rule.init({name: params[name] for name in self.adapted}))
        self.rule_state = _RuleState(start) if inner_state != "reset" else None

    def signature(self) -> dict[str, Any]:
        """Return the facts of `GradientLearner.signature`, with the minibatches and the rule's state."""
        own = {"batch": self.batch, "replacement": self.replacement, "inner_state": self.inner_state}
        return {**super().signature(), **own}

    def _state(self) -> State:
        kept = {} if self.rule_state is None else detached(self.rule_state.value())
        return {**super()._state(), "rule": kept}

    def _minibatches(
        self, groups: list[Tasks], steps: int, batch: int | None, seed: int | None = None
    ) -> dict[str, list[Tensor]]:
        """Return `{"batches": one [steps, batch] per task}`, or nothing where every step takes the whole support set.

        A task's minibatches depend on nothing but its own size and its turn; with a `seed`, not on its turn either.
        """
        if batch is None or steps == 0 or not all(group.stacked for group in groups):
            return {}
        first = {p: pytree.tree_leaves(group.support)[0][i] for group in groups for i, p in enumerate(group.positions)}
        if max(len(samples) for samples in first.values()) <= batch:
            return {}
        order = []
        for _, samples in sorted(first.items(), key=lambda item: item[0]):
            generator = None if seed is None else torch.Generator().manual_seed(seed)
            size = len(samples)
            indices = minibatch_order(size, min(batch, size), steps, replacement=self.replacement, generator=generator)
            order.append(indices.to(samples.device))
        return {"batches": order}

    def _train_batches(self, groups: list[Tasks]) -> dict[str, list[Tensor]]:
        return self._minibatches(groups, self.steps, self.batch)

    def _test_batches(self, groups: list[Tasks], steps: int) -> dict[str, list[Tensor]]:
        # the same support set always gives the same predictor
        return self._minibatches(groups, steps, self.test_batch, seed=0)

    def forward(self, tasks: MetaBatch) -> Outcome:
        """Return the mean loss along the inner paths; its `backward()` gives `phi - mean_i phi_i`."""
        groups = as_groups(tasks)
        differentiate = torch.is_grad_enabled()
        extra = self._train_batches(groups)
        if self.rule_state is None or not (self.training and differentiate):
            mean, stacked = self._run(
                self._displacement(), self._state(), groups, extra, ("train", differentiate, self.steps), pieces=True
            )
        elif self.inner_state == "mean":
            mean, stacked = self._run(
                self._displacement(), self._state(), groups, extra, ("train", differentiate, self.steps), pieces=True
            )
            self.rule_state.keep(mean["state"])
        else:
            mean, stacked = self._serially(groups, extra)
        if not differentiate:
            return self._outcome({}, stacked)
        adapted = mean["displacement"]
        still = {n: p for n, p in self.model.named_parameters() if p.requires_grad and n not in adapted}
        return self._outcome({**adapted, **{n: torch.zeros_like(p) for n, p in still.items()}}, stacked)

    def _displaced(self, phi: Params, before: Params, end: Params) -> Params:
        """Return phi less where one task leads; `before` and `end` are its weights around the last step."""
        return {name: phi[name] - end[name] for name in end}

    def _reported(self, losses: list[Tensor]) -> Tensor:
        """Return the loss of one task from those ahead of every inner step."""
        return torch.stack(losses).mean(0)

    def _displacement(self) -> Any:
        plan = self._plan(self._state())

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

    def _serially(self, groups: list[Tasks], extra: dict[str, list[Tensor]]) -> tuple[Any, list[Any]]:
        """Run the tasks one after another, handing the rule's state from each to the next."""
        assert self.rule_state is not None
        places = sorted((position, group, i) for group in groups for i, position in enumerate(group.positions))
        total: Any = None
        stacked = []
        for position, group, i in places:
            [one] = group_by_shape([group[i]])
            rest = {name: value[position].unsqueeze(0) for name, value in extra.items()}
            mean, each = self.engine(
                self._displacement(),
                self._state(),
                one,
                rest,
                self.model,
                ("serial", self._key()),
                pieces=True,
                owner=self,
            )
            self.rule_state.keep(mean["state"])
            share = pytree.tree_map(lambda leaf: leaf / len(places), mean)
            total = share if total is None else pytree.tree_map(torch.add, total, share)
            stacked.append((Tasks(one.support, one.query, (position,)), each))
        return total, stacked
