"""Inner learning rates that are meta-learned."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fastadapt.errors import ConfigError
from fastadapt.rules import check_lr, rule_tensors


def learned_rates(model: nn.Module, lr: float, per: Literal["element", "tensor"] = "element") -> dict[str, Tensor]:
    """Return inner learning rates that are meta-learned: one for each element (Meta-SGD), or for each tensor.

    Given to a rule as its `lr`, they become meta-parameters of the learner, with exact gradients.

    Args:
        model: the network whose trainable parameters adapt.
        lr: the first value of every rate.
        per: "element" or "tensor".

    Raises:
        ConfigError: for another word, or a rate that is negative or not finite.

    Example:
        >>> net = nn.Linear(2, 1)
        >>> {name: tuple(rate.shape) for name, rate in learned_rates(net, 0.1).items()}
        {'weight': (1, 2), 'bias': (1,)}

    References:
        Li, Zhou, Chen, Li 2017, Meta-SGD (arXiv:1707.09835).
    """
    if per not in ("element", "tensor"):
        raise ConfigError(f"per must be 'element' or 'tensor', got {per!r}")
    check_lr(lr)
    chosen = {name: p for name, p in model.named_parameters() if p.requires_grad}
    shapes = {name: p.shape if per == "element" else p.shape[:0] for name, p in chosen.items()}
    return {
        name: nn.Parameter(torch.full(shapes[name], lr, dtype=p.dtype.to_real(), device=p.device))
        for name, p in chosen.items()
    }


def learned_tensors(rule: Any, adapted: Sequence[str]) -> tuple[tuple[str, ...], nn.ParameterList, nn.ModuleList]:
    """Return what of an update rule is learned: names and values of its parameters, and its modules.

    A learner registers them, so that its optimizer moves them and its checkpoints hold them.

    Raises:
        ConfigError: if rates or matrices are given by name and an adapted parameter has none.
    """
    unused = []
    for path, named in _by_parameter(rule):
        what = path.rpartition(".")[2]
        if set(adapted) - set(named):
            entry = {"lr": "rate"}.get(what, "entry")
            raise ConfigError(
                f"the rule's {what} has no {entry} for {sorted(set(adapted) - set(named))}; give every one that adapts"
            )
        unused += [f"{path}.{name}." for name in named if name not in adapted]
    tensors = {name: t for name, t in rule_tensors(rule).items() if not f"{name}.".startswith(tuple(unused))}
    modules = nn.ModuleList(rule_modules(rule))
    inside = {id(p) for p in modules.parameters()}
    names = [n for n, t in tensors.items() if isinstance(t, nn.Parameter) and t.requires_grad and id(t) not in inside]
    return tuple(names), nn.ParameterList([tensors[name] for name in names]), modules  # type: ignore[misc]


def _by_parameter(rule: Any, prefix: str = "") -> list[tuple[str, Mapping[str, Any]]]:
    """Return what a rule, and the rules that it is put around, hold for each adapted parameter by its name."""
    inner = getattr(rule, "rule", None)
    own = {"lr": rule.lr if inner is None else None, "matrices": getattr(rule, "matrices", None)}
    nested = [] if inner is None else _by_parameter(inner, f"{prefix}rule.")
    return [(prefix + what, named) for what, named in own.items() if isinstance(named, Mapping)] + nested


def rule_modules(rule: Any) -> list[nn.Module]:
    """Return the modules that an update rule holds, such as a network that preconditions."""
    values = [getattr(rule, field.name) for field in fields(rule)] if is_dataclass(rule) else []
    nested = [module for value in values if is_dataclass(value) for module in rule_modules(value)]
    return [value for value in values if isinstance(value, nn.Module)] + nested
