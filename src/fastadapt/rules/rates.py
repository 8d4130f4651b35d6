"""Inner learning rates that are meta-learned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from fastadapt.errors import ConfigError
from fastadapt.rules.rules import Params, Rate, check_lr, moved, rate_of, rule_tensors, step_count, with_lr


def learned_rates(
    model: nn.Module,
    lr: float | tuple[float, float],
    per: Literal["element", "tensor"] = "element",
    steps: int | None = None,
) -> dict[str, Tensor]:
    """Return inner learning rates that are meta-learned: one for each element (Meta-SGD), or for each tensor.

    Given to a rule as its `lr`, they become meta-parameters of the learner, with exact gradients. With `steps` there is
    a row of them for each inner step, to be given to a rule inside of `Stepwise` (LSLR of MAML++).

    Args:
        model: the network whose trainable parameters adapt.
        lr: the first value of every rate; a pair draws each between the two, evenly.
        per: "element" or "tensor".
        steps: inner steps k >= 1 that have rates of their own, `[k, ...]`; None has the same for all.

    Raises:
        ConfigError: for another word, a number of steps below 1, or a rate that is negative or not finite.

    Example:
        >>> net = nn.Linear(2, 1)
        >>> {name: tuple(rate.shape) for name, rate in learned_rates(net, 0.1).items()}
        {'weight': (1, 2), 'bias': (1,)}
        >>> {name: tuple(rate.shape) for name, rate in learned_rates(net, 0.1, per="tensor", steps=5).items()}
        {'weight': (5,), 'bias': (5,)}

    References:
        Li, Zhou, Chen, Li 2017, Meta-SGD (arXiv:1707.09835); Antoniou, Edwards, Storkey 2019 (arXiv:1810.09502).
    """
    if per not in ("element", "tensor"):
        raise ConfigError(f"per must be 'element' or 'tensor', got {per!r}")
    if steps is not None and (not isinstance(steps, int) or steps < 1):
        raise ConfigError(f"steps must be a whole number of inner steps >= 1, or None, got {steps!r}")
    low, high = lr if isinstance(lr, tuple) else (lr, lr)
    check_lr(low)
    check_lr(high)
    rates = {}
    for name, p in model.named_parameters():
        if p.requires_grad:
            shape = (() if steps is None else (steps,)) + (tuple(p.shape) if per == "element" else ())
            first = torch.full(shape, low, dtype=p.dtype.to_real(), device=p.device)
            rates[name] = nn.Parameter(first if high == low else first.uniform_(low, high))
    return rates


@dataclass(frozen=True)
class Stepwise:
    """Let another rule step at rates of its own in each inner step: row `j` of each of them in step `j`.

    Where there are more steps than rows, the last row serves them all. A rate that is one number is the same in every
    step. With `learned_rates(net, lr, per="tensor", steps=k)` these are the per-layer per-step rates of MAML++ (LSLR).

    Args:
        rule: the rule that steps; its `lr` has a tensor `[k]` or `[k, *shape of the parameter]` for each parameter.

    Example:
        >>> from fastadapt import SGD
        >>> rule = Stepwise(SGD({"w": torch.tensor([1.0, 0.5])}))
        >>> params, state = {"w": torch.tensor(0.0)}, rule.init({"w": torch.tensor(0.0)})
        >>> for _ in range(3):  # 1 + 1/2 + 1/2
        ...     params, state = rule.update(params, {"w": torch.tensor(-1.0)}, state)
        >>> params["w"]
        tensor(2.)

    References:
        Antoniou, Edwards, Storkey 2019, How to Train Your MAML (arXiv:1810.09502), section 4.
    """

    rule: Any
    sees_loss: ClassVar[bool] = True  # to tell the other rule, which may ask for it

    @property
    def lr(self) -> Rate:
        """The rates of all steps."""
        return self.rule.lr

    def init(self, params: Params) -> tuple[Tensor, Any]:
        """Return a step count of 0, and the state of the rule that steps."""
        return step_count(params), self.rule.init(params)

    def update(
        self, params: Params, grads: Params, state: tuple[Tensor, Any], loss: Tensor | None = None
    ) -> tuple[Params, Any]:
        """Return the parameters and the state after one step.

        Raises:
            ConfigError: for a rate that has another shape than rows of numbers, or of tensors like its parameter.
        """
        count, own = state
        rates = {name: _row(rate_of(self.lr, name), count, p, name) for name, p in params.items()}
        params, own = moved(with_lr(self.rule, rates), params, grads, own, loss)  # type: ignore[arg-type]
        return params, (count + 1, own)


def _row(rate: float | Tensor, count: Tensor, p: Tensor, name: str) -> float | Tensor:
    if not isinstance(rate, Tensor) or rate.dim() == 0:
        return rate
    if rate.shape[1:] not in ((), p.shape):
        raise ConfigError(
            f"the rate of {name!r} has shape {tuple(rate.shape)}, and Stepwise takes a row for each inner step, "
            f"[k] or {['k', *p.shape]}; write learned_rates(model, lr, steps=k)"
        )
    steps = rate.shape[0]
    # by a product, as the count is a tensor, and no graph asks for an index that may be another in each task
    chosen = (torch.arange(steps, device=rate.device) == count.clamp(max=steps - 1)).to(rate.dtype)
    return torch.tensordot(chosen, rate, 1)


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
