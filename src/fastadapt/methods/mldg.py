"""MLDG: a step that lowers the loss on some domains is to lower it on another one too (Li et al. 2018)."""

from typing import Any, ClassVar

from torch import nn

from fastadapt.engine.engine import Route
from fastadapt.engine.execution import Execution
from fastadapt.errors import ConfigError
from fastadapt.inner.differentiation import Differentiation, MetaGradient
from fastadapt.layers.norm import Norm, NormPlan
from fastadapt.learner import MetaBatch, Outcome
from fastadapt.losses import Loss
from fastadapt.methods.loop import InnerLoop, State
from fastadapt.methods.meta_gradient import MetaGradientLearner
from fastadapt.methods.split_loop import SplitLoop, without_loss
from fastadapt.predictor import Predictor
from fastadapt.rules.rules import Params, Rule
from fastadapt.selection import Selection


class MLDG(MetaGradientLearner):
    r"""Learn for a domain that no training sample is of: meta-learning for domain generalisation.

        F(theta) = L_S(theta)                        support: some of the training domains
        G(theta) = L_Q(theta - alpha grad F(theta))  query: the domain that was left out
        loss     = (1/T) sum_i [F_i(theta) + beta G_i(theta)]

    To first order in alpha, `G = L_Q - alpha <grad L_Q, grad L_S>`: gradients that agree between domains are rewarded.
    A task is one split of the training domains, as `fastadapt.data.domains.DomainSplits` draws them. Nothing is adapted
    afterwards: `adapt` returns the network as it is, unless it is asked for steps, `test_steps`.

    Args:
        model: the network; its trainable parameters are theta.
        loss: L_Q, the loss on the domain that was left out; default mean squared error.
        rule: the inner update rule; default `SGD(0.01)`.
        steps: inner steps in training; 0 is pooled training on `L_S + beta L_Q`, without the meta step.
        beta: the weight of G, >= 0.
        meta_gradient: "exact", `(I - alpha H) grad L_Q(theta')`, or "first_order", `grad L_Q(theta')`.
        adapt: which parameters the inner step moves.
        norm: the batch-norm mode.
        inner_loss: L_S, where it is another; default `loss`.
        test_steps: inner steps of `adapt` and evaluation.
        route: "auto", "vmap" or "loop", or an `Execution`.

    Raises:
        ConfigError: for a setting outside its range.
        SelectionError: if `adapt` selects nothing.

    Example:
        >>> import torch
        >>> from fastadapt import SGD, Task
        >>> net = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.ones_(net.weight)
        >>> x = torch.ones(1, 1)
        >>> learner = MLDG(net, rule=SGD(0.25))
        >>> outcome = learner(Task((x, 3 * x), (x, 2 * x)))    # (1 - 3)^2, and at theta' = 2 (2 - 2)^2
        >>> outcome.loss.item()
        4.0

    References:
        Li, Yang, Song, Hospedales 2018, Learning to Generalize: Meta-Learning for Domain Generalization
        (arXiv:1710.03463). The objective there is of second order; DomainBed's public code takes the first-order one.
    """

    pieced: ClassVar[bool] = False

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        rule: Rule | None = None,
        steps: int = 1,
        beta: float = 1.0,
        meta_gradient: MetaGradient | Differentiation = "exact",
        adapt: Selection = "all",
        norm: Norm = "transductive",
        inner_loss: Loss | None = None,
        test_steps: int = 0,
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
            inner_loss=inner_loss,
            test_steps=test_steps,
            route=route,
        )
        if self.meta_gradient not in ("exact", "first_order"):
            name = type(self).__name__
            raise ConfigError(f"meta_gradient must be exact or first order in {name}, got {self.meta_gradient!r}")
        if not 0 <= beta < float("inf"):
            raise ConfigError(f"beta weighs the domain that is left out and must be a number >= 0, got {beta}")
        self.beta = beta

    @property
    def weights(self) -> tuple[float, float]:
        """The weights of F and of G."""
        return 1.0, self.beta

    def signature(self) -> dict[str, Any]:
        """Return the facts of `MetaGradientLearner.signature`, with the weights of the two losses."""
        return {**super().signature(), "weights": list(self.weights)}

    def forward(self, tasks: MetaBatch) -> Outcome:
        """Return `(1/T) sum_i [F_i + beta G_i]`; `metrics` holds F and G as "support loss" and "query loss".

        Args:
            tasks: `T` splits of the domains.

        Raises:
            TaskError: if the tasks have no usable form.
        """
        return self.differentiated(tasks)

    def _loop(self, state: State, plan: NormPlan, support: Any, query: Any, extra: Any, steps: int) -> InnerLoop:
        return SplitLoop(self, state, plan.of(state["running"]), steps, {"support": support, "query": query, **extra})

    def _key(self) -> Any:
        return super()._key(), self.weights

    def _predictor(self, state: State, plan: NormPlan, params: Params, k: int, support: Any) -> Predictor:
        return super()._predictor(state, plan, without_loss(params), k, support)
