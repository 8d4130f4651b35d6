"""Inner learning rates that are meta-learned."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fastadapt.errors import ConfigError
from fastadapt.rules import check_lr


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


def learned_rates_of(rule: Any, adapted: Sequence[str]) -> tuple[tuple[str, ...], nn.ParameterList]:
    """Return the names and values of a rule's learned rates; none if its rate is a constant.

    Raises:
        ConfigError: if a rate requires a gradient but is no `nn.Parameter`, or an adapted parameter has none.
    """
    lr = rule.lr
    rates = dict(lr) if isinstance(lr, Mapping) else {"all": lr} if isinstance(lr, Tensor) else {}
    if isinstance(lr, Mapping) and set(adapted) - set(rates):
        raise ConfigError(
            f"the rule's lr has no rate for {sorted(set(adapted) - set(rates))}; give every one that adapts"
        )
    if not any(rate.requires_grad for rate in rates.values()):
        return (), nn.ParameterList()
    wrong = [name for name, rate in rates.items() if not isinstance(rate, nn.Parameter)]
    if wrong:
        raise ConfigError(
            f"the learned rate {wrong[0]!r} is a {type(rates[wrong[0]]).__name__} that requires a gradient, and a "
            "learner learns nn.Parameters; wrap it in nn.Parameter, or pass rate.detach() for a constant"
        )
    names = tuple(name for name in rates if name in adapted or name == "all")
    return names, nn.ParameterList([rates[name] for name in names])  # type: ignore[misc]
