"""Which parameters the inner loop adapts: a selection over names, not a copy of the method."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from torch import nn

from fastadapt.errors import SelectionError

Selection = str | Sequence[str] | Callable[[str], bool]


def head_names(model: nn.Module) -> tuple[str, ...]:
    """Return the parameter names of the head: the last module, in definition order, that owns parameters.

    A parameter that is tied to an earlier one has the earlier one's name, as in `named_parameters()`.
    """
    owners = [module for module in model.modules() if any(True for _ in module.parameters(recurse=False))]
    if not owners:
        return ()
    own = {id(p) for p in owners[-1].parameters(recurse=False)}
    return tuple(name for name, p in model.named_parameters() if id(p) in own)


def linear_head(model: nn.Module) -> tuple[str, nn.Linear]:
    """Return name and module of the head, where it is a linear layer.

    Raises:
        SelectionError: if the last module that owns parameters is not linear.

    Example:
        >>> name, head = linear_head(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)))
        >>> name, head.in_features
        ('2', 3)
    """
    owners = [(name, m) for name, m in model.named_modules() if any(True for _ in m.parameters(recurse=False))]
    name, head = owners[-1] if owners else ("", model)
    if not isinstance(head, nn.Linear):
        raise SelectionError(
            f"the last layer of {type(model).__name__}, {name!r}, is a {type(head).__name__}, and a head that can be "
            "replaced has to be an nn.Linear; end the network with one"
        )
    return name, head


def select(model: nn.Module, adapt: Selection) -> tuple[str, ...]:
    """Return the names of the trainable parameters that the inner loop adapts.

    Args:
        model: the module whose parameters are selected from; frozen ones (`requires_grad=False`) never are.
        adapt: "all"; "head", the last layer (ANIL); "body", all but the last layer (BOIL); "lora", the low-rank
            factors that `fastadapt.nets.with_lora` or peft have put into the model; a shell-style
            pattern over names such as "blocks.3.*"; several patterns, of which those that begin with "!"
            exclude (`("*", "!*norm*")`); or a function of the name.

    Raises:
        SelectionError: if nothing trainable is selected, or a pattern matches no parameter.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> select(net, "head")
        ('2.weight', '2.bias')
        >>> select(net, ("*", "!*.bias"))
        ('0.weight', '2.weight')

    References:
        Raghu et al. 2020 (arXiv:1909.09157) for ANIL; Oh et al. 2021 (arXiv:2008.08882) for BOIL; Hu et al. 2022
        (arXiv:2106.09685) for low-rank factors.
    """
    every = [name for name, _ in model.named_parameters()]
    trainable = [name for name, p in model.named_parameters() if p.requires_grad]
    if callable(adapt):
        chosen = [name for name in trainable if adapt(name)]
    elif adapt == "lora":
        chosen = [name for name in trainable if _is_factor(name)]
    elif adapt in ("head", "body"):
        head = set(head_names(model))
        chosen = [name for name in trainable if (name in head) == (adapt == "head")]
    else:
        patterns = ["*"] if adapt == "all" else [adapt] if isinstance(adapt, str) else list(adapt)
        chosen = _match(patterns, every, trainable)
    if not chosen and adapt == "lora":
        frozen = [name for name in every if _is_factor(name)]
        cure = "thaw them: requires_grad_(True)" if frozen else "put them in with fastadapt.nets.with_lora(model, rank)"
        has = f"those of the model are frozen, such as {frozen[0]!r}" if frozen else "the model has none"
        raise SelectionError(f"adapt='lora' adapts trainable low-rank factors, and {has}; {cure}")
    if not chosen:
        raise SelectionError(
            f"adapt={adapt!r} selects no trainable parameter; "
            f"the model has {_listed(trainable) or 'none that requires a gradient'}"
        )
    return tuple(chosen)


def _is_factor(name: str) -> bool:
    """Whether a parameter is a low-rank factor, by the names that `with_lora` and peft give them."""
    return any(part.startswith("lora_") for part in name.split("."))


def _match(patterns: list[str], every: list[str], trainable: list[str]) -> list[str]:
    chosen: set[str] = set()
    for pattern in patterns:
        exclude, glob = pattern.startswith("!"), pattern.removeprefix("!")
        hits = {name for name in every if fnmatchcase(name, glob)}
        if not hits and glob != "*" and not exclude:
            raise SelectionError(f"the pattern {pattern!r} matches no parameter; the model has {_listed(every)}")
        chosen = chosen - hits if exclude else chosen | hits
    return [name for name in trainable if name in chosen]


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:8])
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")
