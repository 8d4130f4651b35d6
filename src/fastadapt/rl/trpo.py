"""TRPO as an outer step: the natural gradient, as far as a bound on the divergence allows."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from fastadapt.errors import ConfigError
from fastadapt.learner import Learner, Outcome
from fastadapt.rl.meta_policy import Gathered, MetaPolicy
from fastadapt.rl.plain import told
from fastadapt.training.outer_step import Stepped

Adapted = Callable[[], Sequence[Tensor]]
Judged = Callable[[Sequence[Tensor]], tuple[Tensor, Tensor]]


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
        gradient = flat(_pulled_back(phi, params, slope), params)
        if fewer is not None:
            phi = fewer[0]()
            leaves = [p.detach().requires_grad_() for p in phi]
            divergence = fewer[1](leaves)[1]
        if self.product == "exact":
            product = _hessian(params, phi, leaves, divergence, self.damping)
        else:
            product = _differences(params, *(fewer or (adapted, judged)), self.damping)
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
        return list(learner.adapted_to(theta, gathered.supports).values())

    def judged(phi: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        surrogate, divergence = learner.judged(gathered, dict(zip(theta, phi, strict=True)))
        losses[:] = losses or [surrogate.detach()]
        return surrogate.mean(), divergence.mean()

    return adapted, judged


def _hessian(
    params: Sequence[Tensor], phi: Sequence[Tensor], leaves: Sequence[Tensor], divergence: Tensor, damping: float
) -> Callable[[Tensor], Tensor]:
    """Return `v -> (J'FJ + damping I) v`.

    J is the derivative of theta' by theta, F the Hessian of the divergence by theta'. J'FJ is the Hessian by theta,
    exactly: its other term is the gradient of the divergence by theta' times a second derivative, and that gradient is
    0 where the divergence is at its minimum.
    """
    slope = torch.autograd.grad(divergence, leaves, create_graph=True, allow_unused=True)
    used = [(s, p) for s, p in zip(slope, leaves, strict=True) if s is not None and s.requires_grad]
    # J v is the derivative of J'y by y, which is linear in y
    y = [torch.zeros_like(p, requires_grad=True) for p in leaves]
    pulled = _pulled_back(phi, params, y, create_graph=True)
    shapes = [p.shape for p in params]

    def product(vector: Tensor) -> Tensor:
        pieces = [
            piece.view(shape) for piece, shape in zip(vector.split([s.numel() for s in shapes]), shapes, strict=True)
        ]
        kept = [(a, b) for a, b in zip(pulled, pieces, strict=True) if a is not None]
        ahead = torch.autograd.grad([a for a, _ in kept], y, [b for _, b in kept], retain_graph=True, allow_unused=True)
        moved = {id(p): a for p, a in zip(leaves, ahead, strict=True)}
        turned = torch.autograd.grad(
            [s for s, _ in used], leaves, [moved[id(p)] for _, p in used], retain_graph=True, allow_unused=True
        )
        return flat(_pulled_back(phi, params, turned), params) + damping * vector

    return product


def _differences(
    params: Sequence[Tensor], adapted: Adapted, judged: Judged, damping: float
) -> Callable[[Tensor], Tensor]:
    """Return `v -> (K(theta + e v) - K(theta - e v)) / 2e + damping v`, K the gradient of the divergence."""
    start = [p.detach().clone() for p in params]
    epsilon = 1 / (float(flat(start, params).norm()) + 1e-8)

    def product(vector: Tensor) -> Tensor:
        slopes = []
        for sign in (1.0, -1.0):
            move(params, start, vector, sign * epsilon)
            slopes.append(flat(torch.autograd.grad(judged(adapted())[1], params, allow_unused=True), params))
        move(params, start, vector, 0.0)
        return (slopes[0] - slopes[1]) / (2 * epsilon) + damping * vector

    return product


def _pulled_back(
    phi: Sequence[Tensor], params: Sequence[Tensor], slope: Sequence[Tensor | None], create_graph: bool = False
) -> tuple[Tensor | None, ...]:
    """Return `J's`: the gradient by theta, given that by theta'."""
    kept = [(p, s) for p, s in zip(phi, slope, strict=True) if s is not None]
    outputs, given = [p for p, _ in kept], [s for _, s in kept]
    return torch.autograd.grad(outputs, params, given, retain_graph=True, create_graph=create_graph, allow_unused=True)


def conjugate_gradients(
    product: Callable[[Tensor], Tensor], target: Tensor, steps: int = 10, least: float = 1e-10
) -> Tensor:
    """Return x with `A x = target`, for a symmetric positive definite A that is known by its products alone.

    Args:
        product: `A v` of a vector.
        target: `[n]`.
        steps: iterations at most.
        least: squared norm of the residual below which it ends.

    Example:
        >>> a = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
        >>> conjugate_gradients(lambda v: a @ v, torch.tensor([3.0, 4.0]), steps=2).round(decimals=4).tolist()
        [1.0, 1.0]

    References:
        Hestenes, Stiefel 1952, Methods of Conjugate Gradients for Solving Linear Systems.
    """
    x, residual = torch.zeros_like(target), target.clone()
    direction, square = target.clone(), target @ target
    for _ in range(steps):
        if float(square) < least:
            break
        turned = product(direction)
        length = square / (direction @ turned)
        x = x + length * direction
        residual = residual - length * turned
        ahead = residual @ residual
        direction = residual + ahead / square * direction
        square = ahead
    return x


def flat(tensors: Sequence[Tensor | None], like: Sequence[Tensor]) -> Tensor:
    """Return tensors as one vector, zeros where there is none."""
    parts = [torch.zeros_like(p) if t is None else t for t, p in zip(tensors, like, strict=True)]
    return torch.cat([part.reshape(-1) for part in parts])


@torch.no_grad()
def move(params: Sequence[Tensor], start: Sequence[Tensor], direction: Tensor, length: float) -> None:
    """Set parameters, in place, to `start + length * direction`; with length 0 to `start`, bit for bit."""
    pieces = direction.split([p.numel() for p in params])
    for p, s, piece in zip(params, start, pieces, strict=True):
        p.copy_(s if length == 0 else s + length * piece.view_as(p))
