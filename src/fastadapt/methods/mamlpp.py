"""MAML++: MAML with six changes that make it train more steadily, each a switch (Antoniou et al. 2019)."""

from typing import Any

import torch
from torch import Tensor, nn

from fastadapt.engine.engine import Route
from fastadapt.engine.execution import Execution
from fastadapt.errors import ConfigError
from fastadapt.inner.calculus import Params
from fastadapt.inner.differentiation import Differentiation, MetaGradient
from fastadapt.inner.first_order import FirstOrder
from fastadapt.layers.norm import Norm, NormPlan
from fastadapt.losses import Loss
from fastadapt.methods.loop import InnerLoop, State
from fastadapt.methods.maml import MAML
from fastadapt.methods.step_affine import StepAffine, StepAffineLoop, but_norms
from fastadapt.predictor import Predictor
from fastadapt.rules.rates import Stepwise, learned_rates
from fastadapt.rules.rules import SGD, Rule
from fastadapt.selection import Selection

_LEAST = 0.03
"""What a step but the last keeps of its first weight, as the public code has it."""


def multi_step_weights(steps: int, epoch: int, epochs: int) -> tuple[float, ...]:
    r"""Return the weights `w_1 .. w_k` of the query losses after each inner step, which sum to 1.

        w_j = max(1/k - e d, 0.03/k),    w_k = min(1/k + e (k-1) d, 1 - (k-1) 0.03/k),    d = 1/(k E)

    for `e < E`; from epoch `E` on the last step counts alone.

    Args:
        steps: k >= 1.
        epoch: e, counted from 0.
        epochs: E >= 0; with 0 the last step always counts alone.

    Example:
        >>> [round(w, 5) for w in multi_step_weights(5, 5, 15)]
        [0.13333, 0.13333, 0.13333, 0.13333, 0.46667]
        >>> multi_step_weights(3, 15, 15)
        (0.0, 0.0, 1.0)
    """
    if epoch >= epochs:
        return (0.0,) * (steps - 1) + (1.0,)
    first, decay, least = 1 / steps, epoch / (steps * epochs), _LEAST / steps
    last = min(first + (steps - 1) * decay, 1 - (steps - 1) * least)
    return (max(first - decay, least),) * (steps - 1) + (last,)


class MAMLPlusPlus(MAML):
    r"""Meta-learn as MAML does, with changes that can be switched off one by one.

    * *Multi-step loss*: `sum_j w_j L_Q(theta^j)`, annealed to the last step alone over `multi_step_epochs`.
    * *Derivative-order annealing*: first order for `first_order_epochs`, then `meta_gradient`.
    * *Per-layer per-step rates* (LSLR): one learned rate for each tensor and inner step, by the rule.
    * *Per-step running statistics* of batch norm: `norm="per_step"`.
    * *Per-step weights and biases* of batch norm: `step_affine`; the outer loop learns them, no inner step adapts them.
    * *Cosine annealing* of the outer rate belongs to the outer loop: `Training(schedule="cosine", final_lr=1e-5)`.

    With all of them off it is MAML. What is annealed follows from the outer step, of which `meta_train` tells; in a
    loop of your own say `learner.at_step(step)` before each. Everything else is as in `MAML`.

    Args:
        model: the network; its trainable parameters are theta.
        loss: `loss(model, batch) -> scalar`; default mean squared error.
        rule: the inner update rule; None steps at learned rates that begin at 0.1, one for each tensor and inner step:
            `Stepwise(SGD(learned_rates(model, 0.1, per="tensor", steps=steps)))`.
        steps: inner steps k in training, >= 1.
        meta_gradient: "exact" or "first_order", or such an object.
        adapt: which parameters the inner loop adapts.
        norm: the batch-norm mode.
        inner_loss: the loss on the support where its scale differs; default `loss`.
        test_steps: inner steps of `adapt` and evaluation; default `steps`.
        batch: samples of an inner minibatch in training; None takes all at every step.
        multi_step_epochs: epochs E of the multi-step loss; 0 counts the last step alone.
        first_order_epochs: epochs at the beginning in which inner gradients are constants. The public code counts
            `first_order_to_second_order_epoch` one less.
        step_affine: whether batch norm has scale and shift of its own after each inner step. After `j` steps, support
            and query share them; in the public code the queries after a step have those of the support before it.
        epoch: outer steps of an epoch.
        route: "auto", "vmap" or "loop", or an `Execution`.

    Raises:
        ConfigError: for a setting outside its range.
        SelectionError: if `adapt` selects nothing.

    Example:
        >>> from fastadapt import MLP, Sinusoid, draw
        >>> learner = MAMLPlusPlus(MLP(1, (8,), 1), steps=3, multi_step_epochs=10, epoch=100)
        >>> learner.at_step(500)
        >>> learner.step_loss_weights
        tensor([0.1667, 0.1667, 0.6667])
        >>> learner(draw(Sinusoid(), seed=0, split="train", indices=range(2))).loss.backward()

    References:
        Antoniou, Edwards, Storkey 2019, How to Train Your MAML (arXiv:1810.09502), and its public code.
    """

    step_loss_weights: Tensor
    outer_step: Tensor

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        rule: Rule | None = None,
        steps: int = 5,
        meta_gradient: MetaGradient | Differentiation = "exact",
        adapt: Selection = "all",
        norm: Norm = "per_step",
        inner_loss: Loss | None = None,
        test_steps: int | None = None,
        batch: int | None = None,
        multi_step_epochs: int = 15,
        first_order_epochs: int = 0,
        step_affine: bool = True,
        epoch: int = 500,
        route: Route | Execution = "auto",
    ) -> None:
        numbers = {"steps": steps, "epoch": epoch}
        numbers |= {"multi_step_epochs": multi_step_epochs, "first_order_epochs": first_order_epochs}
        for name, value in numbers.items():
            least = 1 if name in ("steps", "epoch") else 0
            if not isinstance(value, int) or value < least:
                raise ConfigError(f"{name} must be a whole number >= {least}, got {value!r}")
        if rule is None:
            rule = Stepwise(SGD(learned_rates(model, 0.1, per="tensor", steps=steps)))
        super().__init__(
            model,
            loss,
            rule=rule,
            steps=steps,
            meta_gradient=meta_gradient,
            adapt=but_norms(model, adapt) if step_affine else adapt,
            norm=norm,
            inner_loss=inner_loss,
            test_steps=test_steps,
            batch=batch,
            route=route,
        )
        if self.meta_gradient not in ("exact", "first_order"):
            raise ConfigError(f"meta_gradient must be exact or first order in MAML++, got {self.meta_gradient!r}")
        self.multi_step_epochs, self.first_order_epochs, self.epoch = multi_step_epochs, first_order_epochs, epoch
        self.in_the_end = self.differentiation
        affine = StepAffine(self.model, steps) if step_affine else None
        self.step_affine = affine if affine is not None and affine.names else None
        of = next(self.model.parameters())
        self.register_buffer("step_loss_weights", torch.zeros(steps, dtype=of.dtype.to_real(), device=of.device))
        self.register_buffer("outer_step", torch.zeros((), dtype=torch.long, device=of.device))
        self.at_step(0)

    def at_step(self, step: int) -> None:
        """Weigh and differentiate as outer step `step` does, counted from 0."""
        epoch = step // self.epoch
        weights = multi_step_weights(self.steps, epoch, self.multi_step_epochs)
        # in place: a graph on a GPU reads them where they are, and programs take them as inputs
        for weight, value in zip(self.step_loss_weights, weights, strict=True):
            weight.fill_(value)
        self.outer_step.fill_(step)
        # Python's own state changes twice in a training: what was compiled before is left then
        self.weighs_every_step = epoch < self.multi_step_epochs and self.steps > 1
        first = epoch < self.first_order_epochs and self.in_the_end.through
        way = FirstOrder() if first else self.in_the_end
        if type(way) is not type(self.differentiation):
            self.differentiation = way

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.at_step(int(self.outer_step))

    def signature(self) -> dict[str, Any]:
        """Return the facts of `MAML.signature`, with the epochs of what is annealed."""
        epochs = {name: getattr(self, name) for name in ("multi_step_epochs", "first_order_epochs", "epoch")}
        of = {"meta_gradient": self.in_the_end.name, "step_affine": self.step_affine is not None}
        return {**super().signature(), **of, **epochs}

    def state(self) -> State:
        """Return every tensor that a task's computation depends on, without a graph."""
        state = super().state()
        return {**state, "weights": self.step_loss_weights} if self.weighs_every_step else state

    def _own_tensors(self) -> Params:
        return {**super()._own_tensors(), **({} if self.step_affine is None else self.step_affine.tensors())}

    def _loop(self, state: State, plan: NormPlan, support: Any, query: Any, extra: Any, steps: int) -> InnerLoop:
        kind = InnerLoop if self.step_affine is None else StepAffineLoop
        return kind(self, state, plan.of(state["running"]), steps, {"support": support, "query": query, **extra})

    def _predictor(self, state: State, plan: NormPlan, params: Params, k: int, support: Any) -> Predictor:
        if self.step_affine is not None:
            params = self.step_affine.at(params, self.step_affine.slot(k))
        return super()._predictor(state, plan, params, k, support)
