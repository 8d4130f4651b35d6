"""Low-rank factors beside the weights of linear layers: a large network adapted by a few numbers."""

import math
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fastadapt.errors import ConfigError, SelectionError

FACTORS = ("lora_A", "lora_B")


class LowRank(nn.Module):
    r"""Have a layer answer with `W + (alpha / r) B A` wherever its weight is asked for.

    The class of the layer is derived from this one and from its own, see `with_lora`; `weight` is computed, and the
    parameter of that name is W.
    """

    lora_scale: float
    lora_transposed: ClassVar[bool] = False  # whether the weight is [inputs, outputs]

    @property
    def weight(self) -> Tensor:
        """The weight with its factors, in the shape of W."""
        own = self._parameters
        a, b = own["lora_A"], own["lora_B"]
        assert a is not None and b is not None and own["weight"] is not None
        moved = self.lora_scale * (b @ a)
        return own["weight"] + (moved.transpose(-1, -2) if self.lora_transposed else moved)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Return how it is copied and pickled: its class is made again where it is needed."""
        base, transposed = type(self).__mro__[2], self.lora_transposed
        return _blank, (base, transposed), self.__dict__


def with_lora(
    model: nn.Module,
    rank: int,
    where: str | Sequence[str] = "*",
    *,
    alpha: float | None = None,
    freeze: bool = True,
) -> nn.Module:
    r"""Put low-rank factors beside the weights of linear layers, in place, and return the model (LoRA).

        h = (W + (alpha / r) B A) x + b,      A: [r, inputs],   B: [outputs, r]

    B begins at 0, so that the model answers bit for bit as before; A begins as a linear layer's weight does. The names
    of all parameters stay, and `lora_A` and `lora_B` join them in each layer (`blocks.0.up.lora_A`): what was saved of
    the model before is loaded as ever, and leaves the factors alone. A learner adapts them by `adapt="lora"`, and
    `save_predictor` then writes them alone.

    Args:
        model: its `nn.Linear` layers get factors, and the `Conv1D` of transformers (Hugging Face). Other layers have
            none; a layer that computes with the weights of another kind (the first projection of
            `nn.MultiheadAttention`) neither.
        rank: r >= 1.
        where: a shell-style pattern over the names of layers, such as "blocks.*", or several, of which those that
            begin with "!" exclude.
        alpha: > 0; None is `rank`, so that B A is added as it is.
        freeze: set `requires_grad=False` for every other parameter of the model; otherwise they are meta-learned.

    Raises:
        ConfigError: for a setting outside its range, or a model that has factors already.
        SelectionError: if a pattern matches no layer that takes factors.

    Example:
        >>> net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> x, before = torch.ones(1, 8), net(torch.ones(1, 8))
        >>> torch.equal(with_lora(net, 2, where="0")(x), before)
        True
        >>> [name for name, p in net.named_parameters() if p.requires_grad]
        ['0.lora_A', '0.lora_B']

    References:
        Hu et al. 2022, LoRA: Low-Rank Adaptation of Large Language Models (arXiv:2106.09685).
    """
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise ConfigError(f"rank must be a whole number of at least 1, got {rank!r}")
    if alpha is not None and not (isinstance(alpha, (int, float)) and 0 < alpha < math.inf):
        raise ConfigError(f"alpha must be finite and > 0, or None, got {alpha!r}")
    scale = 1.0 if alpha is None else alpha / rank
    if factored(model):
        raise ConfigError(
            f"the model has factors already, the first in {factored(model)[0]!r}; call with_lora once, with all "
            "patterns, or merged(model) to have them added to the weights first"
        )
    if any(isinstance(p, nn.UninitializedParameter) for p in model.parameters()):
        raise ConfigError("the model has lazy layers, whose sizes are not known yet; run it once on some input first")
    patterns = [where] if isinstance(where, str) else list(where)
    chosen = _chosen(model, patterns)
    if freeze:
        model.requires_grad_(False)
    for layer, transposed in chosen:
        own = layer._parameters["weight"]
        assert own is not None
        inputs, outputs = own.shape if transposed else (own.shape[1], own.shape[0])
        bound = 1 / math.sqrt(inputs)
        a = torch.empty(rank, inputs, dtype=own.dtype, device=own.device).uniform_(-bound, bound)
        layer.register_parameter("lora_A", nn.Parameter(a))
        layer.register_parameter("lora_B", nn.Parameter(own.new_zeros(outputs, rank)))
        layer.lora_scale = scale  # type: ignore[assignment]
        layer.__class__ = _low_rank(type(layer), transposed)
        layer.register_load_state_dict_pre_hook(_factors_stay)
    return model


def merged(model: nn.Module) -> nn.Module:
    """Add the factors of `with_lora` to the weights, in place, and return the model: an ordinary one, as it was made.

    It answers as before, bit for bit. A weight that another module holds as well (a head tied to an embedding) stays
    there as it is, and the layer gets one of its own.

    Example:
        >>> net = with_lora(nn.Linear(2, 2), 1)
        >>> type(merged(net)), sorted(net.state_dict())
        (<class 'torch.nn.modules.linear.Linear'>, ['bias', 'weight'])
    """
    holders = Counter(id(p) for part in model.modules() for p in part._parameters.values())
    for layer in model.modules():
        if isinstance(layer, LowRank):
            whole, own = layer.weight.detach(), layer._parameters["weight"]
            assert own is not None
            if holders[id(own)] > 1:
                layer._parameters["weight"] = nn.Parameter(whole, requires_grad=own.requires_grad)
            else:
                own.detach().copy_(whole)
            for name in FACTORS:
                del layer._parameters[name]
            del layer.lora_scale
            hooks = layer._load_state_dict_pre_hooks
            for key in [key for key, hook in hooks.items() if getattr(hook, "hook", hook) is _factors_stay]:
                del hooks[key]
            layer.__class__ = type(layer).__mro__[2]
    return model


def factored(model: nn.Module) -> list[str]:
    """Return the names of the layers that have factors of `with_lora`."""
    return [name for name, layer in model.named_modules() if isinstance(layer, LowRank)]


def _chosen(model: nn.Module, patterns: list[str]) -> list[tuple[nn.Module, bool]]:
    """Return the layers that get factors, and whether their weight is transposed."""
    every = dict(model.named_modules())
    kinds = {name: kind for name, layer in every.items() if (kind := _kind(layer)) is not None}
    names: set[str] = set()
    for pattern in patterns:
        exclude, glob = pattern.startswith("!"), pattern.removeprefix("!")
        hits = {name for name in kinds if fnmatchcase(name, glob)}
        if not hits and not exclude:
            others = [name for name in every if fnmatchcase(name, glob)]
            kind = type(every[others[0]]).__name__ if others else ""
            what = f"matches {others[0] or 'the whole model'!r} of class {kind}" if others else "matches no layer"
            shown = ", ".join(list(kinds)[:6]) or "none"
            raise SelectionError(
                f"low-rank factors are for nn.Linear and transformers' Conv1D, and the pattern {pattern!r} {what}; "
                f"those in the model are {shown}{f' and {len(kinds) - 6} more' if len(kinds) > 6 else ''}"
            )
        names = names - hits if exclude else names | hits
    if not names:
        raise SelectionError(f"the patterns {patterns} leave no layer; give one that takes some in")
    return [(every[name], kinds[name]) for name in kinds if name in names]


def _kind(layer: nn.Module) -> bool | None:
    """Return whether a layer's weight is transposed, None where it takes no factors."""
    if isinstance(layer._parameters.get("weight"), nn.Parameter):
        if isinstance(layer, nn.Linear):
            return False
        if any(k.__name__ == "Conv1D" and k.__module__.startswith("transformers.") for k in type(layer).__mro__):
            return True
    return None


@cache
def _low_rank(kind: type[nn.Module], transposed: bool) -> type[nn.Module]:
    return type(kind.__name__, (LowRank, kind), {"lora_transposed": transposed, "__module__": __name__})


def _blank(kind: type[nn.Module], transposed: bool) -> nn.Module:
    layer_class = _low_rank(kind, transposed)
    return layer_class.__new__(layer_class)


def _factors_stay(layer: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Leave the factors as they are where a state has the layer's weight and no factors."""
    if f"{prefix}weight" in state and not any(f"{prefix}{name}" in state for name in FACTORS):
        state |= {f"{prefix}{name}": layer._parameters[name] for name in FACTORS}
