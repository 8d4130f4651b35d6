"""Fine-tuning of a classifier: the weaker of the two baselines of Ravi & Larochelle (2017)."""

from typing import Any

import torch
from torch import Tensor, nn

from fastadapt.engine.engine import Route
from fastadapt.engine.execution import Execution
from fastadapt.inner.calculus import Calculus, Params
from fastadapt.inner.trajectory import Carry
from fastadapt.judging.loss_values import value_of
from fastadapt.layers.bound import Bound, outcome
from fastadapt.layers.norm import Norm, NormPlan, Statistics
from fastadapt.losses import Loss
from fastadapt.methods.loop import InnerLoop, State
from fastadapt.methods.transfer import Transfer
from fastadapt.rules.rules import DecayedSGD, Rule
from fastadapt.selection import Selection


class FineTune(Transfer):
    r"""Train a classifier of all training classes, give it a fresh head and fine-tune it on a new task.

        theta^{t+1} = theta^t - alpha / (1 + t d) * grad L(D^S; theta^t)      t = 0 .. k-1

    from the trained body and the fresh head, over all layers, on the whole support set at each step. With
    `norm="running"` batch norm is in training mode during the updates: it normalises by the support set, and the
    running averages follow it with the layer's momentum; queries are answered with those averages. After 15 updates
    at momentum 0.1 they are of the support set for four fifths.

    `lr` and `decay` decide much: `tune_transfer` chooses them on validation tasks.

    Args:
        model: the network of a new task, see `Transfer`; its head is the fresh one.
        loss: on logits; default cross-entropy.
        classes: how many training classes there are; None for a body that was trained elsewhere.
        lr: alpha, >= 0.
        decay: d >= 0.
        test_steps: updates k.
        adapt: which parameters are fine-tuned; "head" leaves the body as it is.
        norm: the batch-norm mode; any but "per_step".
        route: "auto", "vmap" or "loop", or an `Execution`.

    Raises:
        ConfigError: for a setting outside its range.
        SelectionError: if the network does not end with a linear layer, or `adapt` selects nothing.

    Example:
        >>> from fastadapt import MLP, Task
        >>> learner = FineTune(MLP(4, (8,), 5), classes=64, test_steps=3)
        >>> x = torch.randn(10, 4)
        >>> batch = Task((x, torch.arange(10) * 6), (x[:0], torch.arange(0)))   # six apart, of 64 classes
        >>> learner(batch).loss.shape
        torch.Size([])
        >>> learner.adapt((x, torch.arange(10) % 5))(x).shape                   # five ways
        torch.Size([10, 5])

    References:
        Ravi, Larochelle 2017, Optimization as a Model for Few-Shot Learning (ICLR), and its public code.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        classes: int | None = None,
        lr: float = 0.01,
        decay: float = 0.0,
        test_steps: int = 15,
        adapt: Selection = "all",
        norm: Norm = "running",
        route: Route | Execution = "auto",
    ) -> None:
        super().__init__(
            model,
            loss,
            classes=classes,
            rule=DecayedSGD(lr, decay),
            test_steps=test_steps,
            adapt=adapt,
            norm=norm,
            route=route,
        )
        self.rule: DecayedSGD

    def signature(self) -> dict[str, Any]:
        """Return the facts of `Transfer.signature`, with the rates."""
        return {**super().signature(), "rule": repr(self.rule)}

    def _rule_name(self) -> str:
        return type(self.rule).__name__  # the rates are tensors of the state: one route serves a whole grid of them

    def _rule_tensors(self) -> dict[str, Tensor]:
        of = next(self.model.parameters())
        rates = {"lr": self.rule.lr, "decay": self.rule.decay}
        return {name: torch.as_tensor(value, dtype=of.dtype, device=of.device) for name, value in rates.items()}

    def _loop(self, state: State, plan: NormPlan, support: Any, query: Any, extra: Any, steps: int) -> InnerLoop:
        return FineTuneLoop(self, state, plan, steps, {"support": support, "query": query, **extra})


class FineTuneLoop(InnerLoop):
    """Carry the running moments along with the adapted parameters, under the names of their buffers.

    Args:
        learner: as in `InnerLoop`.
        state: as in `InnerLoop`.
        plan: as in `InnerLoop`; with a plan that uses running moments they move, with any other there are none.
        steps: as in `InnerLoop`.
        task: as in `InnerLoop`.
    """

    def __init__(self, learner: FineTune, state: State, plan: NormPlan, steps: int, task: State) -> None:
        super().__init__(learner, state, plan, steps, task)
        self.moving = {name: value[0] for name, value in state["running"].items()} if plan.uses_running else {}
        self.theta = {**self.theta, **self.moving}

    def rule(self, fixed: Any, constants: Any, task: dict[str, Any]) -> Rule:
        """Return the update rule with the rates of the state."""
        return DecayedSGD(**constants["rates"])

    def bound(self, fixed: Any, constants: Any, theta: Params, statistics: Statistics, **options: Any) -> Bound:
        """Return the model with these parameters, and with the moments among them as its buffers."""
        weights, moving = self._parted(theta)
        constants = {**constants, "buffers": {**constants["buffers"], **moving}}
        return super().bound(fixed, constants, weights, statistics, **options)

    def support_loss(self, fixed: Any, constants: Any, theta: Params, batch: Any) -> tuple[Tensor, Any]:
        """Return the inner loss under batch statistics, and the moments to feed to the running averages."""
        if not self.moving:
            return super().support_loss(fixed, constants, theta, batch)
        statistics = Statistics(feeds=True)
        model = self.bound(fixed, constants, theta, statistics)
        loss, _ = value_of(outcome(model, self.learner.inner_objective, batch)[0], self.learner.inner_loss)
        return loss, statistics.fed

    def advance(
        self, calculus: Calculus, fixed: Any, constants: Any, carry: Carry, task: Any, through: bool
    ) -> tuple[Carry, Any]:
        """Return the carry after one update, its running moments moved towards those of the support set."""
        weights, moving = self._parted(carry[0])
        before = carry[1]
        (weights, state), report = super().advance(calculus, fixed, constants, (weights, before), task, through)
        for layer, seen in report["fed"].items():
            for kind, new in zip(("mean", "var"), seen, strict=True):
                name = f"{layer}.running_{kind}"
                moving[name] = moving[name] + self._momentum(layer, before) * (new - moving[name])
        return ({**weights, **moving}, state), report

    def _parted(self, theta: Params) -> tuple[Params, Params]:
        weights = {name: p for name, p in theta.items() if name not in self.moving}
        return weights, {name: p for name, p in theta.items() if name in self.moving}

    def _momentum(self, layer: str, step: Tensor) -> float | Tensor:
        running = self.learner.running
        assert running is not None  # or there would be no moments to move
        momentum = running.momenta[layer]
        if momentum is None:  # the cumulative average counts the support set as one more batch at each update
            return 1 / (float(running.updates[0]) + step + 1)
        return momentum
