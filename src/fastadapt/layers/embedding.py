"""Embeddings inside the inner loop: with dense gradients, and without writing to the table."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_SIGNATURES = {function: inspect.signature(function) for function in (F.embedding, F.embedding_bag)}


def replaced(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Return what `F.embedding` or `F.embedding_bag` returns for these arguments.

    A sparse gradient has no second derivative, and the table of an inner loop is not the user's to write to. So the
    gradient is dense, and `max_norm` bounds the rows of a copy. As in torch, the bounding itself is not differentiated.
    """
    if not kwargs.get("sparse") and kwargs.get("max_norm") is None and len(args) < 4:
        return function(*args, **kwargs)
    given = _SIGNATURES[function].bind(*args, **kwargs)
    given.apply_defaults()
    given.arguments["sparse"] = False
    if given.arguments["max_norm"] is not None:
        table = given.arguments["weight"]
        if not isinstance(table, Tensor) or not table.is_floating_point():  # embedding_bag takes them either way round
            table, name = given.arguments["input"], "input"
        else:
            name = "weight"
        given.arguments[name] = bounded(table, given.arguments["max_norm"], given.arguments["norm_type"])
        given.arguments["max_norm"] = None
    return function(*given.args, **given.kwargs)


def bounded(table: Tensor, max_norm: float, norm_type: float) -> Tensor:
    """Return the rows of `table: [n, d]` with a norm of at most `max_norm`; the gradient passes as if none was bound.

    Example:
        >>> bounded(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), 1.0, 2.0)
        tensor([[0.6000, 0.8000],
                [0.3000, 0.4000]])
    """
    rows = table.detach()
    norm = torch.linalg.vector_norm(rows, ord=norm_type, dim=-1, keepdim=True)
    scale = torch.where(norm > max_norm, max_norm / (norm + 1e-7), 1.0)
    return table + (rows * scale - rows)
