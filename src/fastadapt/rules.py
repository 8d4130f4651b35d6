"""Inner update rules: how one gradient moves the adapted parameters.

A rule is a pair of pure functions on dictionaries of tensors:

    state = rule.init(params)
    params, state = rule.update(params, grads, state)

Nothing is changed in place, so the outer gradient can pass through every update.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from fastadapt.errors import ConfigError

Params = dict[str, Tensor]
RuleT = TypeVar("RuleT", bound="Rule")
Rate = float | Tensor | Mapping[str, Tensor]
"""A step size: one number, a tensor that broadcasts against every parameter, or a tensor for each parameter by name."""


def rate_of(lr: Rate, name: str) -> float | Tensor:
    """Return the step size of the parameter `name`."""
    return lr[name] if isinstance(lr, Mapping) else lr


class Rule(Protocol):
    """Turn a gradient into new parameters, without changing anything in place."""

    @property
    def lr(self) -> Rate:
        """The step size alpha."""
        ...

    def init(self, params: Params) -> Any:
        """Return the state of the rule before the first step (a pytree of tensors)."""
        ...

    def update(self, params: Params, grads: Params, state: Any) -> tuple[Params, Any]:
        """Return the parameters and the state after one step."""
        ...


def with_lr(rule: RuleT, lr: Rate) -> RuleT:
    """Return the same rule with another learning rate, for example one per task."""
    if isinstance(rule, Clip):
        return dataclasses.replace(rule, rule=with_lr(rule.rule, lr))
    return dataclasses.replace(rule, lr=lr)  # type: ignore[type-var]


def check_lr(lr: Rate) -> None:
    """Raise `ConfigError` unless a constant rate is finite and >= 0."""
    if isinstance(lr, (int, float)) and not (lr >= 0 and lr < float("inf")):
        raise ConfigError(f"the inner learning rate must be finite and >= 0, got {lr}")


def _check_fraction(name: str, value: float) -> None:
    if not isinstance(value, Tensor) and not 0 <= value < 1:
        raise ConfigError(f"{name} must lie in [0, 1), got {value}")


def _one_minus_power(beta: float, step: Tensor) -> Tensor | float:
    """Return `1 - beta^step`; float32 would lose five digits of the difference."""
    return -torch.expm1(step * math.log(beta)) if beta > 0 else 1.0


@dataclass(frozen=True)
class SGD:
    r"""Step down the gradient: `theta' = theta - alpha * g`.

    Args:
        lr: the step size alpha, >= 0; a scalar tensor for a rate that differs per task, or that `fastadapt.adapt` is
            to be differentiated by.

    Example:
        >>> import torch
        >>> rule = SGD(lr=0.5)
        >>> rule.update({"w": torch.tensor(1.0)}, {"w": torch.tensor(2.0)}, rule.init({}))[0]
        {'w': tensor(0.)}
    """

    lr: Rate = 0.01

    def __post_init__(self) -> None:
        check_lr(self.lr)

    def init(self, params: Params) -> tuple[()]:
        """Return the empty state."""
        return ()

    def update(self, params: Params, grads: Params, state: Any) -> tuple[Params, Any]:
        """Return `theta - alpha g`."""
        return {name: params[name] - rate_of(self.lr, name) * grads[name] for name in params}, state


@dataclass(frozen=True)
class DecayedSGD:
    r"""Step down the gradient at a rate that falls: `theta' = theta - alpha / (1 + t d) * g`, `t = 0, 1, ...`.

    This is the rate of Torch's `optim.sgd` with `learningRateDecay = d`; with `d = 0` it is `SGD`.

    Args:
        lr: the first step size alpha, >= 0.
        decay: d >= 0, a number or a scalar tensor.

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> rule = DecayedSGD(lr=1.0, decay=1.0)
        >>> params, state = {"w": torch.tensor(0.0)}, rule.init({"w": torch.tensor(0.0)})
        >>> for _ in range(3):  # 1 + 1/2 + 1/3
        ...     params, state = rule.update(params, {"w": torch.tensor(-1.0)}, state)
        >>> round(float(params["w"]), 4)
        1.8333
    """

    lr: Rate = 0.01
    decay: float | Tensor = 0.0

    def __post_init__(self) -> None:
        check_lr(self.lr)
        if isinstance(self.decay, (int, float)) and not 0 <= self.decay < math.inf:
            raise ConfigError(f"the decay of the inner learning rate must be finite and >= 0, got {self.decay}")

    def init(self, params: Params) -> Tensor:
        """Return a step count of 0."""
        first = next(iter(params.values()), torch.zeros(()))
        return torch.zeros((), dtype=first.dtype, device=first.device)

    def update(self, params: Params, grads: Params, state: Tensor) -> tuple[Params, Tensor]:
        """Return the parameters and the step count after one step."""
        scale = 1 / (1 + state * self.decay)
        return {n: params[n] - rate_of(self.lr, n) * scale * grads[n] for n in params}, state + 1


@dataclass(frozen=True)
class Momentum:
    r"""Step down a running sum of gradients: `m' = mu m + g`, `theta' = theta - alpha m'`.

    This is the form of `torch.optim.SGD(momentum=mu)`; with `nesterov`, `theta' = theta - alpha (g + mu m')`.

    Args:
        lr: the step size alpha, >= 0.
        momentum: mu in [0, 1).
        nesterov: look ahead along the momentum.
    """

    lr: Rate = 0.01
    momentum: float = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        check_lr(self.lr)
        _check_fraction("momentum", self.momentum)

    def init(self, params: Params) -> Params:
        """Return zero momentum for every parameter."""
        return {name: torch.zeros_like(p) for name, p in params.items()}

    def update(self, params: Params, grads: Params, state: Params) -> tuple[Params, Params]:
        """Return the parameters and momenta after one step."""
        m = {name: self.momentum * state[name] + grads[name] for name in params}
        step = {name: grads[name] + self.momentum * m[name] for name in params} if self.nesterov else m
        return {name: params[name] - rate_of(self.lr, name) * step[name] for name in params}, m


@dataclass(frozen=True)
class Adam:
    r"""Scale the step by running moments of the gradient (bias-corrected), as Kingma & Ba.

    `m' = b1 m + (1-b1) g`, `v' = b2 v + (1-b2) g^2`,
    `theta' = theta - alpha (m' / (1-b1^t)) / (sqrt(v' / (1-b2^t)) + eps)`.

    With `beta1 = 0` this is the inner optimiser of Reptile. The derivative of the square root is
    taken as 0 where `v' = 0` (a dead unit), so an exact meta-gradient through it is never NaN.

    Args:
        lr: the step size alpha, >= 0.
        beta1: decay of the mean, in [0, 1).
        beta2: decay of the squares, in [0, 1).
        eps: added to the denominator, > 0.

    References:
        Kingma, Ba 2015 (arXiv:1412.6980); Nichol, Achiam, Schulman 2018 (arXiv:1803.02999) for beta1 = 0.
    """

    lr: Rate = 1e-3
    beta1: float = 0.0
    beta2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        check_lr(self.lr)
        _check_fraction("beta1", self.beta1)
        _check_fraction("beta2", self.beta2)
        if not self.eps > 0:
            raise ConfigError(f"eps must be > 0, got {self.eps}")

    def init(self, params: Params) -> dict[str, Any]:
        """Return zero moments and a step count of 0."""
        first = next(iter(params.values()), torch.zeros(()))
        return {
            "step": torch.zeros((), dtype=first.dtype, device=first.device),
            "m": {name: torch.zeros_like(p) for name, p in params.items()},
            "v": {name: torch.zeros_like(p) for name, p in params.items()},
        }

    def update(self, params: Params, grads: Params, state: dict[str, Any]) -> tuple[Params, dict[str, Any]]:
        """Return the parameters and moments after one step."""
        step = state["step"] + 1
        m = {n: self.beta1 * state["m"][n] + (1 - self.beta1) * grads[n] for n in params}
        v = {n: self.beta2 * state["v"][n] + (1 - self.beta2) * grads[n] ** 2 for n in params}
        m_scale, v_scale = _one_minus_power(self.beta1, step), _one_minus_power(self.beta2, step)

        def moved(name: str) -> Tensor:
            v_hat = v[name] / v_scale
            seen = v_hat > 0
            # sqrt has an infinite slope at 0: take it of 1 there, then put the 0 back
            root = torch.where(seen, torch.where(seen, v_hat, 1.0).sqrt(), 0.0)
            return params[name] - rate_of(self.lr, name) * (m[name] / m_scale) / (root + self.eps)

        return {name: moved(name) for name in params}, {"step": step, "m": m, "v": v}


@dataclass(frozen=True)
class Clip:
    """Bound the gradient's global norm before another rule: `g * min(1, max_norm / ||g||)`.

    Steadies long or steep inner loops; with `max_norm = inf` it is the rule itself.

    Args:
        rule: the rule that takes the clipped gradient.
        max_norm: the largest allowed Euclidean norm over all adapted parameters, > 0.
    """

    rule: Any
    max_norm: float = 10.0

    def __post_init__(self) -> None:
        if not self.max_norm > 0:
            raise ConfigError(f"max_norm must be > 0, got {self.max_norm}")

    @property
    def lr(self) -> Rate:
        """The learning rate of the wrapped rule."""
        return self.rule.lr

    def init(self, params: Params) -> Any:
        """Return the state of the wrapped rule."""
        return self.rule.init(params)

    def update(self, params: Params, grads: Params, state: Any) -> tuple[Params, Any]:
        """Return the wrapped rule's step on the clipped gradient."""
        square = torch.stack([g.square().sum() for g in grads.values()]).sum()
        # sqrt(0) has an infinite slope; below the bound the factor is a constant 1
        over = square > self.max_norm**2
        factor = torch.where(over, self.max_norm / torch.where(over, square, 1.0).sqrt(), 1.0)
        return self.rule.update(params, {n: g * factor for n, g in grads.items()}, state)


def as_rule(rule):
    return SGD() if rule is None else rule


def rule_tensors(rule):
    out = {}
    for f in dataclasses.fields(rule):
        v = getattr(rule, f.name)
        if isinstance(v, Tensor):
            out[f.name] = v
        elif isinstance(v, Mapping):
            out |= {f"{f.name}.{n}": t for n, t in v.items() if isinstance(t, Tensor)}
        elif dataclasses.is_dataclass(v):
            out |= {f"{f.name}.{n}": t for n, t in rule_tensors(v).items()}
    return out


def with_tensors(rule, tensors):
    new = {}
    for f in dataclasses.fields(rule):
        v = getattr(rule, f.name)
        if f.name in tensors:
            new[f.name] = tensors[f.name]
        elif isinstance(v, Mapping):
            new[f.name] = {n: tensors.get(f"{f.name}.{n}", t) for n, t in v.items()}
        elif dataclasses.is_dataclass(v):
            new[f.name] = with_tensors(
                v, {n.split(".", 1)[1]: t for n, t in tensors.items() if n.startswith(f.name + ".")}
            )
    return dataclasses.replace(rule, **new)
