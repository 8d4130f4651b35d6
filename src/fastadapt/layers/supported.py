"""Which modules a learner takes: what can't be run with other parameters than its own is told before anything runs."""

from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from fastadapt.errors import ConfigError
from fastadapt.layers.rewrites import tell_once


def check_module(model: Any) -> None:
    """Raise `ConfigError` unless `as_module` takes the model."""
    as_module(model)


def as_module(model: Any) -> nn.Module:
    """Return the module that a learner runs: the one that was given, or the one inside `torch.compile`.

    A compiled module answers as the one inside, whose parameters are the same; with other parameters at every step it
    would be compiled anew, so that the one inside is taken, and a line in the log says how the inner loop is compiled.

    Args:
        model: what a user gave as the network. It and each of its parts are looked at.

    Raises:
        ConfigError: if it is no module; or if it or a part of it is a TorchScript program, lazy and without parameters
            so far, or spread over devices (DataParallel, DDP, FSDP).

    Example:
        >>> as_module(nn.Linear(2, 1))
        Linear(in_features=2, out_features=1, bias=True)
    """
    if isinstance(model, type):
        raise ConfigError(
            f"model={model.__name__} is a class, and a learner takes one of its objects; write {model.__name__}(...)"
        )
    if not isinstance(model, nn.Module):
        name = getattr(model, "__name__", repr(model).splitlines()[0][:60])
        raise ConfigError(
            f"model={name} is a {type(model).__name__}, and a learner takes an nn.Module, whose parameters it learns; "
            "write a class that derives from nn.Module"
        )
    if _is_compiled(model):
        tell_once(
            "torch.compile around the network is left off, as its parameters change at every step; the inner loop is "
            "compiled by route=fastadapt.Execution(compile='on')"
        )
        model = model._orig_mod
        assert isinstance(model, nn.Module)
    for name, part in model.named_modules():
        refusal = _refusal(part)
        if refusal is not None:
            where = f"model.{name}" if name else "model"
            raise ConfigError(f"{where} is a {type(part).__name__} {refusal}")
    return model


def _refusal(part: nn.Module) -> str | None:
    """Return why this part can't be run with other parameters, and what to do; None if it can."""
    if isinstance(part, torch.jit.ScriptModule):
        return (
            "of TorchScript, whose parameters are fixed in its program, and a learner runs it with others; "
            "pass the module it was made from"
        )
    if _is_spread(part):
        return (
            "that spreads a module over devices, and around the inner network its gradients are wrong; pass the "
            "module itself, and wrap the learner"
        )
    for name, tensor in (*part._parameters.items(), *part._buffers.items()):
        if isinstance(tensor, (UninitializedParameter, UninitializedBuffer)):
            return f"whose {name} has no shape yet; run one batch through it first: model(x)"
    return None


def _is_compiled(part: nn.Module) -> bool:
    # by their names: torch._dynamo takes seconds to import, and who has such a module has imported it
    return any(
        kind.__name__ == "OptimizedModule" and kind.__module__.startswith("torch.") for kind in type(part).__mro__
    )


def _is_spread(part: nn.Module) -> bool:
    names = ("DataParallel", "DistributedDataParallel", "FullyShardedDataParallel", "FSDPModule")
    return any(kind.__name__ in names and kind.__module__.startswith("torch.") for kind in type(part).__mro__)
