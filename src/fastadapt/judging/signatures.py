"""What can be told of a loss that a user gave, before it is called: whose it is, and what it is called with."""

import inspect
from types import BuiltinFunctionType
from typing import Any

from torch import nn
from torch.nn.modules.loss import _Loss

from fastadapt.judging.criteria import unwrapped


def is_of_torch(loss: Any) -> bool:
    """Return whether a loss is a module or a function of torch."""
    plain = unwrapped(loss)
    if isinstance(plain, nn.Module):
        return isinstance(plain, _Loss) or type(plain).__module__.startswith("torch.")
    if isinstance(plain, BuiltinFunctionType):  # torch's own in C++
        return True
    module = getattr(plain, "__module__", None) or ""
    return callable(plain) and hasattr(plain, "__name__") and (module == "torch" or module.startswith("torch."))


def needed_arguments(loss: Any) -> list[str] | None:
    """Return the names of the arguments that a loss can't do without; None where that can't be told."""
    try:
        parameters = inspect.signature(loss.forward if isinstance(loss, nn.Module) else loss).parameters.values()
        if any(p.kind is p.VAR_POSITIONAL for p in parameters) and callable(update := getattr(loss, "update", None)):
            parameters = inspect.signature(update).parameters.values()  # a metric's arguments are named there
    except (TypeError, ValueError):  # made in C++
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [p.name for p in positional if p.default is p.empty]
