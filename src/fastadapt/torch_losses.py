"""Losses as torch has them, and what a loss may return.

`as_loss` takes a loss of two tensors (`nn.CrossEntropyLoss()`, `F.mse_loss`) as one of `(model(x), y)`; `value_of`
takes what a loss returned apart into the scalar that is differentiated and the metrics beside it.
"""

import functools
import inspect
import numbers
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from types import BuiltinFunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.loss import _Loss

from fastadapt.errors import ConfigError, TaskError
from fastadapt.losses import MSE, Loss, accuracy, called, check_same_shape, pair

FIRST = {
    *("input", "inputs", "pred", "preds", "prediction", "predictions", "predicted", "output", "outputs", "logits"),
    *("log_probs", "log_input", "y_pred", "y_hat", "yhat", "y_preds"),
}
SECOND = {
    *("target", "targets", "label", "labels", "y", "y_true", "true", "truth", "ground_truth", "gt", "expected"),
}
"""What the two tensors of a loss in the manner of torch are called; a loss of ours has (model, batch)."""
BROADCAST = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "poisson_nll_loss")
BROADCAST_MODULES = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.PoissonNLLLoss)
WRITE = "write a function loss(model, batch) -> scalar"


class OnOutput(nn.Module):
    """Apply a loss of two tensors to `(model(x), y)`, for batches `(x, y)`.

    It is a module, so that the weights and parameters of the loss move and learn with the learner.

    Args:
        criterion: `criterion(output, y) -> scalar`: a module, or a function of torch.

    Example:
        >>> loss = OnOutput(nn.MSELoss())
        >>> loss(nn.Identity(), (torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [3.0]])))
        tensor(0.5000)
        >>> loss.called
        "MSELoss(reduction='mean')"
    """

    def __init__(self, criterion: Callable[..., Tensor]) -> None:
        super().__init__()
        self.criterion = criterion
        plain = _unwrapped(criterion)
        name = getattr(plain, "__name__", "")
        self._squared = isinstance(plain, nn.MSELoss) or name == "mse_loss"
        self._classes = isinstance(plain, (nn.CrossEntropyLoss, nn.NLLLoss)) or name in ("cross_entropy", "nll_loss")
        self._broadcasts = isinstance(plain, BROADCAST_MODULES) or name in BROADCAST
        self.higher_is_better = self._classes

    @property
    def called(self) -> str:
        """The name of the criterion, with its settings."""
        if not isinstance(self.criterion, nn.Module):
            return called(self.criterion)
        names = sorted(getattr(self.criterion, "__constants__", ()))
        return f"{type(self.criterion).__name__}({', '.join(f'{n}={getattr(self.criterion, n)!r}' for n in names)})"

    def forward(self, model: Any, batch: Any) -> Tensor:
        """Return the criterion of `model(x)` and `y`.

        Raises:
            TaskError: if the batch is no pair, the model returns no tensor, or the two would be broadcast.
        """
        x, y = pair(batch, self)
        output = model(x)
        if not isinstance(output, Tensor):
            raise TaskError(
                f"the loss {self.called} is applied to (model(x), y), and the model returned a {type(output).__name__} "
                f"instead of a tensor; {WRITE} that takes what it needs from it"
            )
        if self._broadcasts and isinstance(y, Tensor):
            check_same_shape(output, y)
        return self.criterion(output, y)

    def metrics(self, output: Tensor, batch: Any) -> dict[str, Tensor]:
        """Return the accuracy of a cross-entropy, the mean squared error of a squared error, and nothing otherwise."""
        if self._classes:
            ignored = getattr(self.criterion, "ignore_index", None)
            if isinstance(self.criterion, functools.partial):
                ignored = self.criterion.keywords.get("ignore_index")
            return {"accuracy": accuracy(output, batch[1], -100 if ignored is None else ignored)}
        return {"mse": F.mse_loss(output, batch[1])} if self._squared else {}


def as_loss(loss: Any) -> Loss:
    """Return a loss `loss(model, batch) -> scalar` of what a user gave as one.

    Args:
        loss: None for the mean squared error; a loss of ours or any `loss(model, batch)`, which stay as they are; or a
            loss of two tensors, which is applied to `(model(x), y)`: the modules and functions of torch, and those
            whose two arguments have the names that torch gives them (`input`, `target` and the like).

    Raises:
        ConfigError: if it is a class, a text or anything else that can't be called, or takes more than two tensors.

    Example:
        >>> as_loss(None), as_loss(F.cross_entropy).called
        (MSE(), 'cross_entropy')
    """
    if loss is None:
        return MSE()
    if isinstance(loss, type):
        raise ConfigError(f"loss={loss.__name__} is a class, and a loss is one of its objects; write {loss.__name__}()")
    if not callable(loss):
        raise ConfigError(
            f"loss={loss!r} is a {type(loss).__name__} and can't be called; "
            f"{WRITE}, or give one of torch's such as nn.MSELoss()"
        )
    usable: Any = loss
    if isinstance(loss, OnOutput):
        return usable
    needed = _needed(loss)
    named = needed is not None and len(needed) == 2 and needed[0].lower() in FIRST and needed[1].lower() in SECOND
    if not (named or _is_of_torch(loss)) or (needed and needed[0] in ("model", "learner", "net", "network")):
        return usable
    if needed is not None and len(needed) != 2:
        raise ConfigError(
            f"loss={called(loss)} takes {len(needed)} arguments ({', '.join(needed)}), and a loss of torch is applied "
            f"to the two tensors (model(x), y); {WRITE} that calls it"
        )
    return OnOutput(usable)


def value_of(returned: Any, loss: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the scalar loss, and the metrics that came with it.

    Args:
        returned: what the loss returned: a scalar tensor; a mapping with "loss", or an object or named tuple with
            `.loss`, whose other scalars are metrics; or a tuple or list that begins with the loss, whose mappings are
            metrics by their names.
        loss: which loss it was, for the message.

    Returns:
        The loss, with its graph, and scalars without one.

    Raises:
        TaskError: for anything else.

    Example:
        >>> value_of({"loss": torch.tensor(2.0), "error": 0.5, "logits": torch.zeros(3)}, F.mse_loss)
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
    kind = type(returned).__name__
    if isinstance(value, Tensor):
        inside = "" if value is returned else f"a {kind} whose loss is "
        if value.numel() != 1:
            cure = "take its .mean() or .sum()"
            shape = tuple(value.shape)
            return f"the loss {called(loss)} returned {inside}a tensor of shape {shape}, not a scalar; {cure}"
        cure = "take .real or .abs()" if value.is_complex() else "only floating-point numbers have a gradient"
        return f"the loss {called(loss)} returned {inside}a tensor of {value.dtype}; {cure}"
    wanted = 'return a scalar tensor, {"loss": scalar, ...}, or a tuple that begins with the scalar'
    if isinstance(returned, Mapping):
        has = "is " + type(value).__name__ if "loss" in returned else f"is missing beside {list(returned)[:5]}"
        return f'the loss {called(loss)} returned a {kind} in which "loss" {has}; {wanted}'
    if isinstance(returned, numbers.Number):
        cure = "return the tensor itself, without .item() or float()"
        return f"the loss {called(loss)} returned the {kind} {returned!r}, which has no gradient; {cure}"
    first = f" that begins with {type(value).__name__}" if isinstance(returned, (tuple, list)) and returned else ""
    return f"the loss {called(loss)} returned {'None' if returned is None else f'a {kind}{first}'}; {wanted}"


def _unwrapped(loss: Any) -> Any:
    while isinstance(loss, functools.partial):
        loss = loss.func
    return loss


def _is_of_torch(loss: Any) -> bool:
    plain = _unwrapped(loss)
    if isinstance(plain, nn.Module):
        return isinstance(plain, _Loss) or type(plain).__module__.startswith("torch.")
    if isinstance(plain, BuiltinFunctionType):  # torch's own in C++
        return True
    module = getattr(plain, "__module__", None) or ""
    return callable(plain) and hasattr(plain, "__name__") and (module == "torch" or module.startswith("torch."))


def _needed(loss: Any) -> list[str] | None:
    """Return the names of the arguments that a loss can't do without; None where that can't be told."""
    try:
        parameters = inspect.signature(loss.forward if isinstance(loss, nn.Module) else loss).parameters.values()
    except (TypeError, ValueError):  # made in C++
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [p.name for p in positional if p.default is p.empty]
