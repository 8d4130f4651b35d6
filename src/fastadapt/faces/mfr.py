"""MFR, meta face recognition in unseen domains (Guo et al. 2020): MLDG with losses on pairs of faces."""

import dataclasses
from typing import Any

from torch import nn

from fastadapt.engine.engine import Route
from fastadapt.engine.execution import Execution
from fastadapt.errors import ConfigError
from fastadapt.faces.objectives import PairLoss
from fastadapt.inner.differentiation import Differentiation, MetaGradient
from fastadapt.layers.norm import Norm
from fastadapt.losses import Loss
from fastadapt.methods.mldg import MLDG
from fastadapt.rules.rules import SGD, Rule
from fastadapt.selection import Selection


class MFR(MLDG):
    r"""Learn an embedding of faces for a domain that no training image is of.

        L_S    = L_hp + L_cls + L_da      on all training domains but one, at theta
        theta' = theta - alpha grad L_S
        loss   = (1/T) sum_i [gamma L_S(theta) + (1 - gamma) (L_hp + L_cls)(theta')]     on the one that was left out

    The paper leaves out every domain once in each outer step, `DomainSplits(how="all")`; one at random has the same
    expectation and costs a fraction. Nothing is adapted afterwards.

    Args:
        model: the embedding, `[n, ...] -> [n, d]`; rows are brought to length 1 by the losses.
        loss: on pairs, for support and query alike (of one domain L_da is 0); default `PairLoss()`.
        rule: the inner update rule; default `SGD(0.05)`. With normalised embeddings a small rate changes hardly
            anything: compare "query loss" with and without the step.
        gamma: the weight of L_S in 0..1; 1 is pooled training on the means of the splits.
        steps: inner steps; the paper has one.
        meta_gradient: "exact", `(I - alpha H) grad L_Q(theta')`, or "first_order".
        adapt: which parameters the inner step moves.
        norm: the batch-norm mode; moments of one domain are another network than those of several.
        inner_loss: L_S, where it is another; default `loss`.
        test_steps: inner steps of `adapt` and evaluation.
        thresholds_every: outer steps after which tau_p grows by 0.1 and tau_n doubles, as is told of the paper, where
            the loss is a `PairLoss`; None keeps them.
        route: "auto", "vmap" or "loop", or an `Execution`.

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> import torch
        >>> from fastadapt import Task
        >>> x, y = torch.randn(8, 3), torch.tensor([0, 1, 0, 1, 2, 3, 2, 3])     # two domains of two identities
        >>> outcome = MFR(nn.Linear(3, 2))(Task((x, y, 2), (x[:4], y[:4], 2)))
        >>> sorted(outcome.metrics)[-2:]
        ['soft', 'support loss']

    References:
        Guo, Zhu, Zhao, Cao, Lei, Li 2020, Learning Meta Face Recognition in Unseen Domains (arXiv:2003.07733). Of it
        the abstract, the captions and the figures of its repository were read; the rest is as readers tell it, or ours,
        see docs/faces.md.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        rule: Rule | None = None,
        gamma: float = 0.5,
        steps: int = 1,
        meta_gradient: MetaGradient | Differentiation = "exact",
        adapt: Selection = "all",
        norm: Norm = "running",
        inner_loss: Loss | None = None,
        test_steps: int = 0,
        thresholds_every: int | None = None,
        route: Route | Execution = "auto",
    ) -> None:
        super().__init__(
            model,
            PairLoss() if loss is None else loss,
            rule=SGD(0.05) if rule is None else rule,
            steps=steps,
            meta_gradient=meta_gradient,
            adapt=adapt,
            norm=norm,
            inner_loss=inner_loss,
            test_steps=test_steps,
            route=route,
        )
        if not 0 <= gamma <= 1:
            raise ConfigError(f"gamma weighs the support loss against the query loss and must be in 0..1, got {gamma}")
        if thresholds_every is not None and thresholds_every < 1:
            raise ConfigError(f"thresholds_every counts outer steps and must be at least 1, got {thresholds_every}")
        self.gamma = gamma
        self.thresholds_every = thresholds_every
        self._losses = self.loss, self.inner_loss
        self._raised = 0

    @property
    def weights(self) -> tuple[float, float]:
        """The weights of the support loss and of the query loss."""
        return self.gamma, 1 - self.gamma

    def signature(self) -> dict[str, Any]:
        """Return the facts of `MLDG.signature`, with what moves the thresholds."""
        return {**super().signature(), "thresholds_every": self.thresholds_every}

    def at_step(self, step: int) -> None:
        """Raise the thresholds of hard pairs with the outer steps, where that is asked for."""
        raised = 0 if self.thresholds_every is None else step // self.thresholds_every
        if raised != self._raised:
            self._raised = raised
            self.loss, self.inner_loss = (_raised(loss, raised) for loss in self._losses)


def _raised(loss: Any, times: int) -> Any:
    if not isinstance(loss, PairLoss):
        return loss
    return dataclasses.replace(
        loss, positive=min(loss.positive + 0.1 * times, 1.0), negative=min(loss.negative * 2**times, 1.0)
    )
