"""CDT, the cross-domain triplet for faces in unseen domains (Faraki et al. 2021), with the meta step around it."""

from typing import Any

import torch
from torch import Tensor, nn

from fastadapt.engine.engine import Route
from fastadapt.engine.execution import Execution
from fastadapt.errors import ConfigError, TaskError
from fastadapt.faces.cross_domain import Metric, metrics_of, triplet
from fastadapt.faces.mfr import MFR
from fastadapt.faces.objectives import MarginLoss, embedded, paired
from fastadapt.inner.differentiation import Differentiation, MetaGradient
from fastadapt.judging.loss_values import value_of
from fastadapt.layers.norm import Norm
from fastadapt.losses import Loss
from fastadapt.rules.rules import SGD, Rule
from fastadapt.selection import Selection
from fastadapt.tasks import Task


class CDT(MFR):
    r"""Measure the triplets of one domain by how the pairs of another scatter.

        L_S    = L_id                     on all training domains but one, t, at theta
        theta' = theta - alpha grad L_S
        L_Q    = L_id(t) + lambda [L_cdt(t; j) + L_cdt(j; t)]       at theta', j the first domain of the support
        loss   = (1/T) sum_i [gamma L_S(theta) + (1 - gamma) L_Q(theta')]

    `L_cdt(i; j)` is the triplet loss of domain i with the metrics of j, see `fastadapt.faces.cross_domain`. Both
    domains' features are taken at theta'. The source puts the support's domains in random order, so j is a random one.

    Args:
        model: the embedding, `[n, ...] -> [n, d]`.
        loss: L_id, on pairs; default `MarginLoss()`, which needs `model.identities`.
        rule: the inner update rule; default `SGD(0.05)`.
        triplets: lambda, >= 0.
        margin: tau of the triplets.
        metric: what Sigma+ and Sigma- are made of: "covariance", "precision", "kissme", or "euclid", the plain triplet.
        shrinkage: rho of the metrics.
        unit_trace: bring metrics to the trace d.
        through: let the gradient pass through the metrics; by default they are constants.
        both: add the loss of the support's domain under the metrics of the one left out.
        within: take each domain's own metrics, an ablation.
        semi_hard: the nearest negative that is farther away than the positive, instead of any other identity.
        gamma: the weight of L_S in 0..1.
        steps: inner steps; 0 is the ablation without the meta step.
        meta_gradient: "exact" or "first_order".
        adapt: which parameters the inner step moves.
        norm: the batch-norm mode.
        inner_loss: L_S, where it is another; default `loss`.
        test_steps: inner steps of `adapt` and evaluation.
        route: "auto", "vmap" or "loop", or an `Execution`.

    Raises:
        ConfigError: for a setting outside its range.

    References:
        Faraki, Yu, Tsai, Suh, Chandraker 2021, Cross-Domain Similarity Learning for Face Recognition in Unseen Domains
        (arXiv:2103.07503). Of it the abstract and captions were read; the meta step and all defaults are our reading,
        see docs/faces.md.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        rule: Rule | None = None,
        triplets: float = 1.0,
        margin: float = 0.5,
        metric: Metric = "covariance",
        shrinkage: float = 0.1,
        unit_trace: bool = True,
        through: bool = False,
        both: bool = True,
        within: bool = False,
        semi_hard: bool = False,
        gamma: float = 0.5,
        steps: int = 1,
        meta_gradient: MetaGradient | Differentiation = "exact",
        adapt: Selection = "all",
        norm: Norm = "running",
        inner_loss: Loss | None = None,
        test_steps: int = 0,
        route: Route | Execution = "auto",
    ) -> None:
        super().__init__(
            model,
            MarginLoss() if loss is None else loss,
            rule=SGD(0.05) if rule is None else rule,
            gamma=gamma,
            steps=steps,
            meta_gradient=meta_gradient,
            adapt=adapt,
            norm=norm,
            inner_loss=inner_loss,
            test_steps=test_steps,
            route=route,
        )
        if not 0 <= triplets < float("inf") or not 0 <= margin < float("inf"):
            raise ConfigError(f"triplets weighs a loss, margin is a distance, both >= 0; got {triplets} and {margin}")
        _ = metrics_of(torch.eye(2), torch.eye(2), kind=metric, shrinkage=shrinkage)  # refuses what it does not know
        self.triplets, self.margin, self.through, self.both = triplets, margin, through, both
        self.within, self.semi_hard = within, semi_hard
        self.metric: dict[str, Any] = {"kind": metric, "shrinkage": shrinkage, "unit_trace": unit_trace}

    def signature(self) -> dict[str, Any]:
        """Return the facts of `MFR.signature`, with the switches of the triplets."""
        names = ("triplets", "margin", "through", "both", "within", "semi_hard")
        return {**super().signature(), **self.metric, **{name: getattr(self, name) for name in names}}

    def meta_objective(self, model: Any, task: Task) -> Any:
        """Return `L_id(t) + lambda [L_cdt(t; j) + L_cdt(j; t)]`, with the parameters after the inner step."""
        once = _Once(model)
        identity, told = value_of(self.loss(once, task.query), self.loss)
        x, y = paired(task.support)
        first = x[: y[0].numel()], y[0].flatten(), y.shape[2]
        out, other = embedded(once, task.query)[0], embedded(model, first)[0]
        between = self.between(out, out if self.within else other)
        if self.both:
            between = between + self.between(other, other if self.within else out)
        return {"loss": identity + self.triplets * between, **told, "triplets": between}

    def between(self, features: Tensor, measure: Tensor) -> Tensor:
        """Return `L_cdt(i; j)` for embeddings `[2, B, d]` of domain i and of j, whose pairs make the metrics."""
        anchor, positive = features
        if len(anchor) < 2 or measure.shape[1] < 2:
            raise TaskError("a triplet needs a negative, and a domain has one identity; draw at least 2 of each")
        pairs = pair_differences(measure if self.through else measure.detach())
        metrics = metrics_of(*pairs, **self.metric)
        negative = self._semi_hard(anchor, positive) if self.semi_hard else positive.roll(1, 0)
        return triplet(anchor, positive, negative, metrics, self.margin)

    @staticmethod
    def _semi_hard(anchor: Tensor, probe: Tensor) -> Tensor:
        """Return for each anchor the nearest probe of another identity that is farther away than its own."""
        cosines = (anchor @ probe.T).detach()
        own = torch.eye(len(anchor), dtype=torch.bool, device=anchor.device)
        too_near = own | (cosines >= cosines.diagonal().unsqueeze(1))
        nearest = torch.where(too_near, -2.0, cosines)
        # where all others are nearer, the farthest of them
        farthest = torch.where(own, 2.0, cosines).argmin(1)
        chosen = torch.where(nearest.amax(1) > -2.0, nearest.argmax(1), farthest)
        return probe[chosen]


class _Once:
    """Answer as a model does, and for the same tensor again without running it."""

    def __init__(self, model: Any) -> None:
        self._model, self._seen, self._output = model, None, None

    def __call__(self, x: Any) -> Any:
        if self._seen is not x:
            self._seen, self._output = x, self._model(x)
        return self._output

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def pair_differences(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the differences within pairs of one identity, `[B, d]`, and of two, `[B (B - 1), d]`, of `[2, B, d]`.

    Example:
        >>> positive, negative = pair_differences(torch.zeros(2, 3, 4))
        >>> positive.shape, negative.shape
        (torch.Size([3, 4]), torch.Size([6, 4]))
    """
    gallery, probe = features
    count = len(gallery)
    others = [torch.arange(count).roll(-i) for i in range(1, count)]
    negative = torch.cat([gallery - probe[order.to(probe.device)] for order in others])
    return gallery - probe, negative
