"""What to write in place of something that is no update rule: a number, an optimizer of torch, a class."""

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def instead(rule: Any) -> str:
    """Return the sentence that says what to write in place of something that is no rule."""
    what = "and a rule is an object with lr, init(params) and update(params, grads, state)"
    if isinstance(rule, (bool, int, float)):
        return f"rule={rule!r} is a number, {what}; write rule=fastadapt.SGD({rule!r})"
    if isinstance(rule, Tensor):
        return f"rule is a tensor, {what}; write rule=fastadapt.SGD(lr) for a step size that is one"
    kind = rule if isinstance(rule, type) else rule.func if isinstance(rule, functools.partial) else type(rule)
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer):
        optimizer = rule if isinstance(rule, torch.optim.Optimizer) else None
        settings = getattr(rule, "keywords", {}) if optimizer is None else optimizer.param_groups[0]
        moves = "which changes parameters in place, so that no gradient passes through it"
        return f"rule={_named(rule)} is an optimizer of torch, {moves}; write rule={_twin(kind, settings)}"
    if isinstance(rule, type):
        return f"rule={rule.__name__} is a class, {what}; write rule={rule.__name__}(lr)"
    if isinstance(rule, str):
        name = {"sgd": "SGD", "adam": "Adam", "momentum": "Momentum"}.get(rule.lower(), "SGD")
        return f"rule={rule!r} is a text, {what}; write rule=fastadapt.{name}(lr)"
    return f"rule={_named(rule)} is a {type(rule).__name__}, {what}; write rule=fastadapt.SGD(lr)"


def _named(rule: Any) -> str:
    if isinstance(rule, torch.optim.Optimizer):
        return f"{type(rule).__name__}(...)"
    return getattr(rule, "__name__", None) or repr(rule).splitlines()[0][:60]


def _twin(kind: type, settings: Mapping[str, Any]) -> str:
    """Return how the rule is written that does what an optimizer of torch does, or the nearest."""
    lr = settings.get("lr", "lr")
    lr = float(lr) if isinstance(lr, Tensor) else lr
    if issubclass(kind, torch.optim.SGD):
        momentum = settings.get("momentum", 0)
        nesterov = ", nesterov=True" if settings.get("nesterov") else ""
        return f"fastadapt.Momentum({lr}, {momentum}{nesterov})" if momentum else f"fastadapt.SGD({lr})"
    if issubclass(kind, (torch.optim.Adam, torch.optim.AdamW, torch.optim.NAdam, torch.optim.RAdam)):
        beta1, beta2 = settings.get("betas", (0.9, 0.999))
        return f"fastadapt.Adam({lr}, beta1={beta1}{'' if beta2 == 0.999 else f', beta2={beta2}'})"
    return f"fastadapt.Adam({lr}, beta1=0.9), the nearest there is, or a rule of your own"
