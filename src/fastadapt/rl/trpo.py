"""TRPO as an outer step: the natural gradient, as far as a bound on the divergence allows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from fastadapt.errors import ConfigError
from fastadapt.learner import Learner, Outcome
from fastadapt.rl.curvature import (
    Adapted,
    Judged,
    conjugate_gradients,
    difference_products,
    flat,
    hessian_products,
    move,
    pulled_back,
)
from fastadapt.rl.gathered import Gathered
from fastadapt.rl.meta_policy import MetaPolicy
from fastadapt.rl.plain import told
from fastadapt.training.outer_step import Stepped


@dataclass(frozen=True)
class TRPO:
    r"""Take an outer step that changes the adapted policies by at most `max_kl` on average.

        g = grad_theta L,     (H + damping I) d = g,     H = Hessian of mean KL(pi_old || pi_{theta_i'(theta)})
        theta <- theta - 0.8^j sqrt(2 max_kl / (d'Hd)) d

    with the first j at which the surrogate L falls and the divergence is at most `max_kl`; where none of them does,
    theta stays. Both L and the divergence are of the adapted policies as functions of theta, through the inner steps.

    Args:
        max_kl: delta, the bound on the divergence in nats.
        cg_steps: iterations of conjugate gradients for d.
        damping: added to H.
        shrink: what the step is multiplied by in the line search.
        tries: how many lengths it tries.
        product: how H is multiplied with a vector: "exact" differentiates the gradient of the divergence, "difference"
            takes the symmetric difference of that gradient over `1 / (|theta| + 1e-8)`, as the published code does.
        curvature_share: share of the tasks that H is of, in (0, 1]; the products are most of the time of a step.
            Gradient and line search are always of all tasks.

    Raises:
        ConfigError: for a value outside its range.

    References:
        Schulman, Levine, Moritz, Jordan, Abbeel 2015, Trust Region Policy Optimization (arXiv:1502.05477). Finn,
        Abbeel, Levine 2017 (arXiv:1703.03400), section 5.3, and its public code.
    """

    max_kl: float = 0.01
    cg_steps: int = 10
    damping: float = 1e-5
    shrink: float = 0.8
    tries: int = 15
    product: Literal["exact", "difference"] = "exact"
    curvature_share: float = 1.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not (self.max_kl > 0 and self.damping >= 0 and 0 < self.shrink < 1):
            raise ConfigError(
                f"TRPO needs max_kl > 0, damping >= 0 and shrink in (0, 1), got {self.max_kl}, {self.damping} and "
                f"{self.shrink}"
            )
        if not 0 < self.curvature_share <= 1:
            raise ConfigError(f"TRPO needs a curvature_share in (0, 1], got {self.curvature_share}")
        if min(self.cg_steps, self.tries) < 1:
            raise ConfigError(f"TRPO needs at least 1 of cg_steps and tries, got {self.cg_steps} and {self.tries}")

    def __call__(self, learner: Learner, tasks: Any, optimizer: Any, training: Any) -> Stepped:
        """Gather the episodes of a meta-batch and step; the optimizer is not asked.

        Args:
            learner: whose policy is trained; parameters that are frozen stay.
            tasks: a meta-batch of `Environments`.
            optimizer: none is needed; there as every outer step has it.
            training: likewise.

        Raises:
            ConfigError: if the learner is no `MetaPolicy`.
        """
        if not isinstance(learner, MetaPolicy):
            raise ConfigError(
                f"TRPO steps the policy of a MetaPolicy, got a {type(learner).__name__}; leave outer_step out"
            )
        gathered = learner.gather(tasks)
        some = gathered.first(math.ceil(self.curvature_share * len(gathered.metrics["return"])))
        losses: list[Tensor] = []
        moved, gradient, facts = self.step(
            list(learner.theta().values()),
            *_functions(learner, gathered, losses),
            None if self.curvature_share == 1 else _functions(learner, some, []),
        )
        return told(Stepped(Outcome(losses[0].mean(), losses[0], gathered.metrics), moved, gradient, facts))

    def step(
        self,
        params: Sequence[Tensor],
        adapted: Adapted,
        judged: Judged,
        fewer: tuple[Adapted, Judged] | None = None,
    ) -> tuple[bool, Tensor, dict[str, float]]:
        """Step any parameters in place.

        Args:
            params: theta.
            adapted: returns theta' as a function of theta as it is now; theta itself where nothing is adapted.
            judged: returns the surrogate and the divergence at theta'; the latter is at its minimum, 0, at first.
            fewer: the two on fewer tasks, whose divergence H is of; None takes the same.

        Returns:
            Whether all numbers were finite; the norm of the gradient; and the facts: `kl`, the divergence of the step
            that was taken, `improvement` of the surrogate, and `line search`, the power j, -1 where the step was
            rejected.
        """
        phi = adapted()
        leaves = [p.detach().requires_grad_() for p in phi]
        loss, divergence = judged(leaves)
        before = float(loss.detach())
        slope = torch.autograd.grad(loss, leaves, retain_graph=fewer is None, allow_unused=True)
        gradient = flat(pulled_back(phi, params, slope), params)
        if fewer is not None:
            phi = fewer[0]()
            leaves = [p.detach().requires_grad_() for p in phi]
            divergence = fewer[1](leaves)[1]
        if self.product == "exact":
            product = hessian_products(params, phi, leaves, divergence, self.damping)
        else:
            product = difference_products(params, *(fewer or (adapted, judged)), self.damping)
        direction = conjugate_gradients(product, gradient, self.cg_steps)
        curvature = float(direction @ product(direction))
        del product, divergence, loss, phi, slope
        norm, facts = gradient.norm(), {"kl": 0.0, "improvement": 0.0, "line search": -1.0}
        if not math.isfinite(before + float(norm) + curvature + float(direction.norm())):
            return False, norm, facts
        length = math.sqrt(2 * self.max_kl / (max(curvature, 0.0) + 1e-8))
        start = [p.detach().clone() for p in params]
        for j in range(self.tries):
            move(params, start, direction, -length * self.shrink**j)
            with torch.no_grad():
                after, kl = (float(value) for value in judged(adapted()))
            if after < before and kl <= self.max_kl:
                return True, norm, {"kl": kl, "improvement": before - after, "line search": float(j)}
        move(params, start, direction, 0.0)
        return True, norm, facts


def _functions(learner: MetaPolicy, gathered: Gathered, losses: list[Tensor]) -> tuple[Adapted, Judged]:
    """Return the two functions of an outer step on what was gathered; the first losses of the tasks are kept."""
    theta = learner.theta()

    def adapted() -> list[Tensor]:
        path = learner.path(theta, gathered.supports)
        likelihood = learner.likelihood(gathered, path)  # what E-MAML's term is of, a function of theta as theta' is
        return [*path[-1].values(), *([] if likelihood is None else [likelihood])]

    def judged(phi: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        params, likelihood = dict(zip(theta, phi, strict=False)), phi[len(theta) :]
        surrogate, divergence = learner.judged(gathered, params, *likelihood)
        losses[:] = losses or [surrogate.detach()]
        return surrogate.mean(), divergence.mean()

    return adapted, judged
