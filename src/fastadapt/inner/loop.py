r"""The inner loop: a few steps of an update rule on one task, as a pure function.

    theta^0     = theta
    theta^{j+1} = rule(theta^j, grad L(theta^j; D))        j = 0 .. k-1

How the outer gradient passes through it is a choice, not another method: *exact* differentiates
every update (`I - alpha H_j` for SGD), *first order* takes the gradients as constants.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fastadapt.errors import ConfigError
from fastadapt.inner.calculus import Autograd, Calculus
from fastadapt.inner.hooks import Hooks, hooked
from fastadapt.rules.rules import Params, Rule, moved


def check_steps(steps: int, name: str = "steps") -> None:
    """Raise `ConfigError` unless `steps` counts inner steps."""
    if not isinstance(steps, int) or steps < 0:
        raise ConfigError(f"{name} must be a whole number >= 0, got {steps!r}")


def check_after(after: Sequence[int] | None, steps: int) -> tuple[int, ...]:
    """Return the numbers of inner steps after which queries are judged, all of 0..steps for None.

    Raises:
        ConfigError: if there are none, they do not ascend, or one is not among 0..steps.
    """
    if after is None:
        return tuple(range(steps + 1))
    found = tuple(after)
    whole = all(isinstance(j, int) for j in found)
    if not found or not whole or sorted(set(found)) != list(found) or not (found[0] >= 0 and found[-1] <= steps):
        raise ConfigError(f"after must be ascending numbers of inner steps among 0..{steps}, got {list(found)}")
    return found


@dataclass(frozen=True)
class InnerStep:
    """Hold what one inner step leaves behind: theta^{j+1}, the rule's state, and the loss at theta^j."""

    params: Params
    state: Any
    loss: Tensor
    aux: Any


def descend(
    objective: Callable[[Params, Any, int], tuple[Tensor, Any]],
    params: Params,
    batch_at: Callable[[int, Params], Any],
    rule: Rule,
    steps: int,
    *,
    state: Any = None,
    through: bool = True,
    calculus: Calculus | None = None,
    hooks: Hooks | None = None,
) -> Iterator[InnerStep]:
    """Yield every step of the inner loop.

    Args:
        objective: `objective(theta, batch, j) -> (scalar, aux)`.
        params: theta^0, by name.
        batch_at: `batch_at(j, theta^j)`, the batch of step `j`: the same support set for MAML, the next
            minibatch for Reptile, new trajectories for reinforcement learning.
        rule: the update rule.
        steps: k >= 0.
        state: the rule's state before the first step; None starts afresh.
        through: whether the outer gradient will pass through the updates (exact).
        calculus: how to differentiate; plain autograd by default.
        hooks: what each gradient passes through, see `fastadapt.inner.hooks`.
    """
    calculus = calculus if calculus is not None else Autograd()
    state = rule.init(params) if state is None else state
    for j in range(steps):
        batch = batch_at(j, params)
        step = advance(
            lambda theta, b=batch, i=j: objective(theta, b, i), params, state, rule, calculus, through, hooks
        )
        params, state = step.params, step.state
        yield step


def advance(
    objective: Callable[[Params], tuple[Tensor, Any]],
    params: Params,
    state: Any,
    rule: Rule,
    calculus: Calculus,
    through: bool,
    hooks: Hooks | None = None,
) -> InnerStep:
    """Return one inner step, `theta' = rule(theta, grad L(theta))`; see `descend` for the arguments."""
    grads, loss, aux = calculus.inner(objective, params, through)
    if hooks:
        grads = hooked(grads, hooks, through)
    params, state = moved(rule, params, grads, state, loss if through else loss.detach())
    return InnerStep(params, state, loss, aux)
