"""Inner update rules: how one gradient moves the adapted parameters.

A rule is a pair of pure functions on dictionaries of tensors:

    state = rule.init(params)
    params, state = rule.update(params, grads, state)

Nothing is changed in place, so the outer gradient can pass through every update. A rule that also wants the loss ahead
of the step says `sees_loss = True`, and its `update` takes it as a fourth argument.
"""

import copy
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor

from fastadapt.errors import ConfigError
from fastadapt.rules.held import held_tensors, with_held
from fastadapt.rules.torch_rules import instead

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
    """Return the same rule with another learning rate, for example one per task.

    Raises:
        ConfigError: if the rule has no rate that can be set.
    """
    names = {field.name for field in dataclasses.fields(rule)} if dataclasses.is_dataclass(rule) else set()
    if "lr" in names:
        return dataclasses.replace(rule, lr=lr)  # type: ignore[type-var]
    if "rule" in names:  # around another, whose rate it has
        return dataclasses.replace(rule, rule=with_lr(rule.rule, lr))  # type: ignore[attr-defined,type-var]
    twin = copy.copy(rule)  # not by its constructor, which need not take lr
    try:
        object.__setattr__(twin, "lr", lr)
    except AttributeError:
        name = type(rule).__name__
        raise ConfigError(f"the rule {name} has no attribute lr that can be set; give it one, its step size") from None
    return twin


def moved(rule: Any, params: Params, grads: Params, state: Any, loss: Tensor | None) -> tuple[Params, Any]:
    """Return `rule.update(params, grads, state)`, with the loss for a rule that asks for it by `sees_loss`.

    Args:
        rule: the update rule.
        params: theta.
        grads: the gradients of the inner loss at theta.
        state: the rule's state.
        loss: the inner loss at theta, a scalar.
    """
    told = (loss,) if getattr(rule, "sees_loss", False) else ()
    return rule.update(params, grads, state, *told)


def as_rule(rule: Any) -> Rule:
    """Return an update rule of what a user gave as one.

    Args:
        rule: None for `SGD()`, or an object with `lr`, `init` and `update`.

    Raises:
        ConfigError: for anything else; the message says what to write.

    Example:
        >>> as_rule(None)
        SGD(lr=0.01)
    """
    if rule is None:
        return SGD()
    if not isinstance(rule, type) and all(callable(getattr(rule, part, None)) for part in ("init", "update")):
        if hasattr(rule, "lr"):
            return rule
        name = type(rule).__name__
        raise ConfigError(f"the rule {name} has init and update, but no attribute lr; give it one, its step size")
    raise ConfigError(instead(rule))


def rule_tensors(rule: Any) -> dict[str, Tensor]:
    """Return every tensor that a rule holds, by dotted name: rates, momenta, the parameters of its modules.

    Example:
        >>> list(rule_tensors(Momentum({"w": torch.tensor(0.1)}, momentum=torch.tensor(0.9))))
        ['lr.w', 'momentum']
    """
    return held_tensors(rule)


def with_tensors(rule: RuleT, tensors: Mapping[str, Tensor]) -> RuleT:
    """Return the same rule with tensors of `rule_tensors` replaced, so that they are inputs of what it computes.

    Its modules become copies that share everything but those parameters; nothing is changed in place.
    """
    return with_held(rule, tensors)


def rule_name(rule: Any) -> str:
    """Return what a rule is, whatever the tensors that it holds are worth by now.

    Example:
        >>> rule_name(Momentum(torch.tensor(0.1), momentum=torch.nn.Parameter(torch.tensor(0.9))))
        'Momentum(lr=tensor(), momentum=learned, nesterov=False)'
    """
    rate = getattr(rule, "lr", None)
    if isinstance(rate, Mapping):  # one word for all
        rule = with_lr(rule, next((t for t in rate.values() if t.requires_grad), next(iter(rate.values()), 0.0)))
    return repr(with_held(rule, {name: _Word(tensor) for name, tensor in rule_tensors(rule).items()}))


class _Word:
    """Stand in a rule's name where a tensor is."""

    def __init__(self, tensor: Tensor) -> None:
        self.word = "learned" if tensor.requires_grad else f"tensor{tuple(tensor.shape)}"

    def __repr__(self) -> str:
        return self.word


def check_lr(lr: Rate) -> None:
    """Raise `ConfigError` unless a constant rate is finite and >= 0."""
    if isinstance(lr, (int, float)) and not (lr >= 0 and lr < float("inf")):
        raise ConfigError(f"the inner learning rate must be finite and >= 0, got {lr}")


def _check_fraction(name: str, value: float | Tensor) -> None:
    if not isinstance(value, Tensor) and not 0 <= value < 1:
        raise ConfigError(f"{name} must lie in [0, 1), got {value}")


def _one_minus_power(beta: float | Tensor, step: Tensor) -> Tensor | float:
    """Return `1 - beta^step`; float32 would lose five digits of the difference."""
    if not isinstance(beta, Tensor):
        return -torch.expm1(step * math.log(beta)) if beta > 0 else 1.0
    above = beta > 0
    # the logarithm has an infinite slope at 0: take it of 1/2 there, and the power itself
    return torch.where(above, -torch.expm1(step * torch.where(above, beta, 0.5).log()), 1 - beta**step)


def _squared(grad: Tensor) -> Tensor:
    """Return `g^2`; of a complex gradient, that of its two parts, as torch's optimizers have it."""
    return torch.complex(grad.real**2, grad.imag**2) if grad.is_complex() else grad**2


def _root(v: Tensor) -> Tensor:
    """Return `sqrt(v)`, with a derivative of 0 where `v = 0`."""
    if v.is_complex():
        return torch.complex(_root(v.real), _root(v.imag))
    seen = v > 0
    # sqrt has an infinite slope at 0: take it of 1 there, then put the 0 back
    return torch.where(seen, torch.where(seen, v, 1.0).sqrt(), 0.0)


def _ratio(mean: Tensor, root: Tensor, eps: float | Tensor) -> Tensor:
    """Return `mean / (root + eps)`, of complex ones part by part."""
    if not mean.is_complex():
        return mean / (root + eps)
    return torch.complex(mean.real / (root.real + eps), mean.imag / (root.imag + eps))


def step_count(params: Params) -> Tensor:
    """Return a step count of 0."""
    first = next(iter(params.values()), torch.zeros(()))
    return torch.zeros((), dtype=first.dtype.to_real(), device=first.device)


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
        return step_count(params)

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
        momentum: mu in [0, 1); a scalar tensor where it is learned.
        nesterov: look ahead along the momentum.
    """

    lr: Rate = 0.01
    momentum: float | Tensor = 0.9
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
    r"""Scale the step by running moments of the gradient (bias-corrected); `beta1` is 0 by default, in torch it is 0.9.

    `m' = b1 m + (1-b1) g`, `v' = b2 v + (1-b2) g^2`,
    `theta' = theta - alpha (m' / (1-b1^t)) / (sqrt(v' / (1-b2^t)) + eps)`.

    With `beta1 = 0`, the default, this is the inner optimiser of Reptile; `Adam(lr, beta1=0.9)` is
    `torch.optim.Adam(params, lr)`. A complex parameter is two real ones, as in torch. The derivative of the square
    root is taken as 0 where `v' = 0` (a dead unit), so an exact meta-gradient through it is never NaN.

    Args:
        lr: the step size alpha, >= 0.
        beta1: decay of the mean, in [0, 1); a tensor where it is learned, as `beta2` and `eps`.
        beta2: decay of the squares, in [0, 1).
        eps: added to the denominator, > 0.

    References:
        Kingma, Ba 2015 (arXiv:1412.6980); Nichol, Achiam, Schulman 2018 (arXiv:1803.02999) for beta1 = 0.
    """

    lr: Rate = 1e-3
    beta1: float | Tensor = 0.0
    beta2: float | Tensor = 0.999
    eps: float | Tensor = 1e-8

    def __post_init__(self) -> None:
        check_lr(self.lr)
        _check_fraction("beta1", self.beta1)
        _check_fraction("beta2", self.beta2)
        if not isinstance(self.eps, Tensor) and not self.eps > 0:
            raise ConfigError(f"eps must be > 0, got {self.eps}")

    def init(self, params: Params) -> dict[str, Any]:
        """Return zero moments and a step count of 0."""
        return {
            "step": step_count(params),
            "m": {name: torch.zeros_like(p) for name, p in params.items()},
            "v": {name: torch.zeros_like(p) for name, p in params.items()},
        }

    def update(self, params: Params, grads: Params, state: dict[str, Any]) -> tuple[Params, dict[str, Any]]:
        """Return the parameters and moments after one step."""
        step = state["step"] + 1
        m = {n: self.beta1 * state["m"][n] + (1 - self.beta1) * grads[n] for n in params}
        v = {n: self.beta2 * state["v"][n] + (1 - self.beta2) * _squared(grads[n]) for n in params}
        m_scale, v_scale = _one_minus_power(self.beta1, step), _one_minus_power(self.beta2, step)

        def moved(name: str) -> Tensor:
            mean, root = m[name] / m_scale, _root(v[name] / v_scale)
            return params[name] - _ratio(rate_of(self.lr, name) * mean, root, self.eps)

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
    max_norm: float | Tensor = 10.0
    sees_loss: ClassVar[bool] = True  # to tell the wrapped rule, which may ask for it

    def __post_init__(self) -> None:
        if not isinstance(self.max_norm, Tensor) and not self.max_norm > 0:
            raise ConfigError(f"max_norm must be > 0, got {self.max_norm}")

    @property
    def lr(self) -> Rate:
        """The learning rate of the wrapped rule."""
        return self.rule.lr

    def init(self, params: Params) -> Any:
        """Return the state of the wrapped rule."""
        return self.rule.init(params)

    def update(self, params: Params, grads: Params, state: Any, loss: Tensor | None = None) -> tuple[Params, Any]:
        """Return the wrapped rule's step on the clipped gradient."""
        parts = [torch.view_as_real(g) if g.is_complex() else g for g in grads.values()]
        square = torch.stack([g.square().sum() for g in parts]).sum()
        # sqrt(0) has an infinite slope; below the bound the factor is a constant 1
        over = square > self.max_norm**2
        factor = torch.where(over, self.max_norm / torch.where(over, square, 1.0).sqrt(), 1.0)
        return moved(self.rule, params, {n: g * factor for n, g in grads.items()}, state, loss)
