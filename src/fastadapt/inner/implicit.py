r"""The implicit meta-gradient: differentiate where the inner loop ends, not how it got there.

    phi*  = argmin_phi  L_S(phi) + (lambda / 2) ||phi - theta||^2
    grad  = (I + (1 / lambda) H)^{-1} grad L_Q(phi*)                  H the Hessian of L_S at phi*

Whatever else enters, f, gets `d L_Q / d f - d/df <grad_phi L_S(phi*; f), grad> / lambda`. The linear system is solved
by conjugate gradients on Hessian-vector products, so nothing of the inner loop is kept, however long it is. The
formulas hold at the minimum: take as many inner steps as it takes to come near it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fastadapt.errors import ConfigError
from fastadapt.inner.calculus import Autograd, Calculus, Params
from fastadapt.inner.runner import Runner
from fastadapt.inner.sweep import inner_product
from fastadapt.inner.trajectory import Carry, Loop, learns, placed, walk


@dataclass(frozen=True)
class Implicit:
    """Differentiate the minimum of a regularised inner problem (iMAML).

    The term `(strength / 2) ||phi - theta||^2` belongs to the inner problem, in training as for a new task.

    Args:
        strength: lambda, > 0.
        cg_steps: iterations of conjugate gradients, >= 1; as many as there are parameters solve it exactly.
        damping: added to the operator, `(1 + damping) v + H v / lambda`, >= 0; 0 is the formula.

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> from fastadapt import MAML, MLP, SGD, Sinusoid, draw
        >>> learner = MAML(MLP(1, (8,), 1), rule=SGD(0.1), steps=16, meta_gradient=Implicit(strength=2.0))
        >>> learner(draw(Sinusoid(), seed=0, split="train", indices=range(3))).loss.backward()

    References:
        Rajeswaran, Finn, Kakade, Levine 2019, Meta-Learning with Implicit Gradients (arXiv:1909.04630). The public code
        solves `(1 + damping) v + H v / (lambda + 10)`, and evaluates with lambda = 0.
    """

    strength: float = 2.0
    cg_steps: int = 5
    damping: float = 0.0
    name = "implicit"
    through = True

    def __post_init__(self) -> None:
        if not 0 < self.strength < float("inf"):
            raise ConfigError(f"strength must be finite and > 0, got {self.strength!r}")
        if not isinstance(self.cg_steps, int) or self.cg_steps < 1:
            raise ConfigError(f"cg_steps must be a whole number of at least 1, got {self.cg_steps!r}")
        if not 0 <= self.damping < float("inf"):
            raise ConfigError(f"damping must be finite and >= 0, got {self.damping!r}")

    def proximal(self, theta: Params, start: Params) -> Tensor:
        """Return `(lambda / 2) ||theta - start||^2`."""
        squares = [(p - start[name]).abs().square().sum() for name, p in theta.items()]
        return 0.5 * self.strength * torch.stack(squares).sum()

    def gradient(
        self, run: Runner, loop: Loop, start: Carry, fixed: Any, task: Any, weights: Mapping[int, float | Tensor]
    ) -> tuple[Any, Any, Tensor, Any]:
        """Return `(gradient to theta^0, gradient to f, meta-objective, report)`, see `Differentiation`."""
        if fixed["rates"]:
            raise ConfigError(
                f"the rule learns {next(iter(fixed['rates']))!r}, and the implicit gradient does not depend on how the "
                "minimum is reached; take Exact(), or constants in the rule"
            )
        if loop.hooks:
            raise ConfigError(
                f"the parameter {next(iter(loop.hooks))!r} has a hook, which changes its inner gradient, and the "
                "implicit gradient holds where the gradient itself vanishes; take Exact() or FirstOrder(), or "
                "remove the hook"
            )
        if not loop.repeatable:
            raise ConfigError("the implicit gradient needs one support set, and here it is collected anew at each step")
        path = list(walk(run, loop, start, fixed, task, loop.steps))
        if path and learns(path[-1][0]):
            raise ConfigError(
                "the rule learns a tensor that it refers to (in a closure?), and the implicit gradient does not depend "
                "on how the minimum is reached; take Exact(), or constants in the rule"
            )
        shared, each = placed(loop.steps, path[-1][0] if path else start, fixed, task)
        found = run("implicit", self._piece(loop), {**shared, "constants": loop.constants(loop.steps)}, each)
        (theta, rest), loss, report = found
        return theta, rest, loss, {"inner": [seen for _, seen in path], "query": report}

    def _piece(self, loop: Loop) -> Callable[..., Any]:
        def piece(calculus: Calculus, fixed: Any, constants: Any, carry: Carry, task: Any) -> Any:
            theta = carry[0]

            def slope(along: Params, scale: float) -> Callable[[Any], tuple[Tensor, Any]]:
                """Return the function whose gradient is `scale (H + lambda I) along`, and the mixed derivative to f."""

                def value(at: tuple[Params, Any]) -> tuple[Tensor, Any]:
                    inner, _, _ = calculus.inner(
                        lambda phi: loop.support_loss(
                            at[1], constants, phi, loop.data(task["support"], at[1], "support")
                        ),
                        at[0],
                        True,
                    )
                    return scale * inner_product(inner, along), {}

                return value

            (direct, of_fixed), loss, report = calculus.outer(
                lambda at: loop.judge(at[1], constants, at[0], task), (theta, fixed)
            )
            quiet = Autograd() if isinstance(calculus, Autograd) else calculus  # what it captures counts once, below

            def operator(v: Params) -> Params:
                (product, _), _, _ = quiet.outer(slope(v, 1 / self.strength), (theta, fixed))
                return {name: p + self.damping * v[name] for name, p in product.items()}

            solved = conjugate_gradients(operator, direct, self.cg_steps)
            (_, mixed), _, _ = calculus.outer(slope(solved, -1 / self.strength), (theta, fixed))
            return (solved, pytree.tree_map(torch.add, of_fixed, mixed)), loss, report

        return piece


def conjugate_gradients(operator: Callable[[Params], Params], b: Params, steps: int) -> Params:
    """Return `x` near `operator^{-1} b`, for a symmetric positive definite operator, after `steps` iterations.

    Example:
        >>> b = {"w": torch.tensor([1.0, 2.0])}
        >>> conjugate_gradients(lambda v: {"w": torch.tensor([2.0, 4.0]) * v["w"]}, b, steps=2)["w"]
        tensor([0.5000, 0.5000])

    References:
        Hestenes, Stiefel 1952.
    """
    x = {name: torch.zeros_like(value) for name, value in b.items()}
    r, p = b, b
    square = inner_product(r, r)
    for _ in range(steps):
        product = operator(p)
        alpha = _ratio(square, inner_product(p, product))
        x = {name: x[name] + alpha * p[name] for name in x}
        r = {name: r[name] - alpha * product[name] for name in r}
        before, square = square, inner_product(r, r)
        beta = _ratio(square, before)
        p = {name: r[name] + beta * p[name] for name in r}
    return x


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """Return `a / b`, 0 where b is: then it is solved."""
    return torch.where(b == 0, 0.0, a / torch.where(b == 0, 1.0, b))
