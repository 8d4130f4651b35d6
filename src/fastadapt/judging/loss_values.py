"""What a loss takes and returns: the pair of its batch, the scalar that is differentiated, the metrics beside it."""

import functools
import numbers
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import BuiltinFunctionType
from typing import Any

import torch
from torch import Tensor

from fastadapt.errors import TaskError


def check_same_shape(output: Tensor, y: Tensor) -> None:
    """Raise `TaskError` unless output and targets have one shape; torch would broadcast them in silence."""
    if output.shape != y.shape:
        raise TaskError(
            f"the model's output has shape {tuple(output.shape)} and the targets have {tuple(y.shape)}; "
            f"give both the same shape, {_same_shape(output, y)}"
        )


def _same_shape(output: Tensor, y: Tensor) -> str:
    if output.dim() and y.dim() and len(output) != len(y):
        return f"a target for each of the {len(output)} samples, and not {len(y)}"
    if output.shape == (*y.shape, 1):
        return "with y.unsqueeze(-1)"
    if y.shape == (*output.shape, 1):
        return "with y.squeeze(-1)"
    whole = not (y.is_floating_point() or y.is_complex())
    if whole and output.dim() == y.dim() + 1 and output.shape[0] == y.shape[0]:
        return "or take cross_entropy if the targets are classes"
    return "for example y.unsqueeze(1) for [K, 1]"


def as_numbers(output: Tensor, y: Tensor) -> Tensor:
    """Return targets as numbers that can be subtracted from an output: whole numbers and bool as of its type.

    Example:
        >>> as_numbers(torch.zeros(2), torch.tensor([True, False]))
        tensor([1., 0.])
    """
    return y if y.is_floating_point() or y.is_complex() else y.to(output.dtype)


def pair(batch: Any, loss: Any) -> tuple[Any, Any]:
    """Return `x` and `y` of a batch.

    Raises:
        TaskError: if it is no pair.
    """
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        return batch[0], batch[1]
    of = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
    raise TaskError(
        f"the loss {called(loss)} takes a batch (x, y), got {type(batch).__name__}{of}; write a function "
        "loss(model, batch) -> scalar for batches of another form"
    )


def check_tensors(output: Any, y: Any, loss: Any) -> None:
    """Raise `TaskError` unless a model has returned a tensor, and the targets are one."""
    if not isinstance(output, Tensor):
        raise TaskError(
            f"the loss {called(loss)} is applied to (model(x), y), and the model returned a {type(output).__name__} "
            "instead of a tensor; write a function loss(model, batch) -> scalar that takes what it needs from it"
        )
    if not isinstance(y, Tensor):
        raise TaskError(
            f"the targets of the loss {called(loss)} are a tensor, got {type(y).__name__}; write torch.as_tensor(y)"
        )


def called(loss: Any) -> str:
    """Return what a loss is called: a dataclass or a loss of torch with its settings, otherwise its name.

    Example:
        >>> import torch.nn.functional as F
        >>> called(F.mse_loss), called(functools.partial(F.cross_entropy, label_smoothing=0.1))
        ('mse_loss', 'cross_entropy(label_smoothing=0.1)')
    """
    if isinstance(loss, functools.partial):
        return f"{called(loss.func)}({', '.join(f'{k}={v!r}' for k, v in loss.keywords.items())})"
    told = getattr(loss, "called", None)
    if isinstance(told, str):
        return told
    if isinstance(loss, BuiltinFunctionType):  # torch's own, whose long name is of no use
        return loss.__name__
    return repr(loss) if is_dataclass(loss) else getattr(loss, "__qualname__", type(loss).__qualname__)


def value_of(returned: Any, loss: Any = None) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the scalar loss, and the metrics that came with it.

    Args:
        returned: what the loss returned: a scalar tensor; a mapping with "loss", or an object or named tuple with
            `.loss`, whose other scalars are metrics; or a tuple or list that begins with the loss, whose mappings are
            metrics by their names.
        loss: which loss it was, for the message; None does not say.

    Returns:
        The loss, with its graph, and scalars without one.

    Raises:
        TaskError: for anything else.

    Example:
        >>> value_of({"loss": torch.tensor(2.0), "error": 0.5, "logits": torch.zeros(3)})
        (tensor(2.), {'error': tensor(0.5000)})
    """
    value, beside = _taken_apart(returned)
    if isinstance(value, Tensor) and value.numel() == 1 and value.is_floating_point():
        value = value.reshape(())
        return value, {name: as_metric(item, value) for name, item in beside.items() if _is_scalar(item)}
    raise TaskError(_refusal(returned, value, loss))


def as_metric(item: Any, beside: Tensor) -> Tensor:
    """Return a number or a scalar tensor as a metric: a float scalar without a graph, where the loss is."""
    if not isinstance(item, Tensor):
        return torch.tensor(float(item), dtype=beside.dtype, device=beside.device)
    item = item.detach().reshape(())
    return item if item.is_floating_point() else item.to(beside.dtype)


def _is_scalar(item: Any) -> bool:
    if isinstance(item, Tensor):
        return item.numel() == 1 and not item.is_complex()
    return isinstance(item, numbers.Real)


def _taken_apart(returned: Any) -> tuple[Any, dict[str, Any]]:
    """Return what should be the loss, and what came with it by name."""
    if isinstance(returned, Tensor):
        return returned, {}
    whole: Any = returned
    if isinstance(returned, tuple) and "loss" in getattr(returned, "_fields", ()):
        whole = returned._asdict()  # type: ignore[attr-defined]  # a named tuple
    elif is_dataclass(returned) and not isinstance(returned, (type, Mapping)):
        whole = {field.name: getattr(returned, field.name) for field in fields(returned)}
    elif not isinstance(returned, (Mapping, tuple, list)) and isinstance(getattr(returned, "loss", None), Tensor):
        whole = vars(whole) if "loss" in getattr(whole, "__dict__", {}) else {"loss": whole.loss}
    if isinstance(whole, Mapping):
        return whole.get("loss"), {str(name): item for name, item in whole.items() if name != "loss"}
    if isinstance(whole, (tuple, list)) and whole:
        rest = [item for item in whole[1:] if isinstance(item, Mapping)]
        return whole[0], {str(name): item for items in rest for name, item in items.items() if name != "loss"}
    return None, {}


def _refusal(returned: Any, value: Any, loss: Any) -> str:
    kind, who = type(returned).__name__, "the loss" if loss is None else f"the loss {called(loss)}"
    if isinstance(value, Tensor):
        inside = "" if value is returned else f"a {kind} whose loss is "
        if value.numel() != 1:
            cure = "take its .mean() or .sum()"
            shape = tuple(value.shape)
            return f"{who} returned {inside}a tensor of shape {shape}, not a scalar; {cure}"
        cure = "take .real or .abs()" if value.is_complex() else "only floating-point numbers have a gradient"
        return f"{who} returned {inside}a tensor of {value.dtype}; {cure}"
    wanted = 'return a scalar tensor, {"loss": scalar, ...}, or a tuple that begins with the scalar'
    if isinstance(returned, Mapping):
        has = "is " + type(value).__name__ if "loss" in returned else f"is missing beside {list(returned)[:5]}"
        return f'{who} returned a {kind} in which "loss" {has}; {wanted}'
    if isinstance(returned, numbers.Number):
        cure = "return the tensor itself, without .item() or float()"
        return f"{who} returned the {kind} {returned!r}, which has no gradient; {cure}"
    first = f" that begins with {type(value).__name__}" if isinstance(returned, (tuple, list)) and returned else ""
    return f"{who} returned {'None' if returned is None else f'a {kind}{first}'}; {wanted}"
