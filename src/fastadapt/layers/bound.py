"""A module with its parameters bound to given tensors: what a loss sees as `model`."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from fastadapt.errors import FastadaptError, TaskError
from fastadapt.layers.norm import Statistics
from fastadapt.layers.rewrites import Rewrites, tell_once


def first_line(error: Exception) -> str:
    """Return the first line of what an exception says, or else its name."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


class Bound:
    """Call a module with given parameters and buffers, leaving the module itself untouched.

    Buffers are cloned for each call, so what the module writes to them is dropped. The last output is
    kept in `output`, for metrics.

    Args:
        module: the module to call.
        params: tensors for its parameters, by name.
        buffers: tensors for its buffers, by name.
        statistics: with which moments its batch-norm layers normalise.
        beside: a support batch `[S, ...]`; if given, each row of the input is forwarded alone beside it.
        batched_rows: forward those rows in one vmap; only where no gradient is taken from outside of it.

    Example:
        >>> net = nn.Linear(1, 1)
        >>> double = Bound(net, {"weight": torch.tensor([[2.0]]), "bias": torch.zeros(1)}, {})
        >>> double(torch.tensor([[3.0]]))
        tensor([[6.]])
    """

    def __init__(
        self,
        module: nn.Module,
        params: dict[str, Tensor],
        buffers: dict[str, Tensor],
        statistics: Statistics | None = None,
        beside: Tensor | None = None,
        batched_rows: bool = False,
    ) -> None:
        self.module = module
        self.params = params
        self.buffers = buffers
        self.statistics = statistics if statistics is not None else Statistics()
        self.beside = beside
        self.batched_rows = batched_rows
        self.output: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the module's output for these inputs."""
        if self.beside is None:
            self.output = self._forward(*args, **kwargs)
        else:
            if len(args) != 1 or kwargs or not isinstance(args[0], Tensor):
                raise TaskError("norm='support+query' needs a model that takes one tensor [n, ...]")
            self.output = self._one_by_one(args[0], self.beside)
        return self.output

    def _forward(self, *args: Any, **kwargs: Any) -> Any:
        buffers = {name: value.clone() for name, value in self.buffers.items()}
        suffix = ".running_mean"
        names = {id(value): name.removesuffix(suffix) for name, value in buffers.items() if name.endswith(suffix)}
        self.statistics.restart(names)
        with Rewrites(self.statistics):
            return functional_call(self.module, {**self.params, **buffers}, args, kwargs)

    def _one_by_one(self, x: Tensor, support: Tensor) -> Tensor:
        def last(row: Tensor) -> Tensor:
            return self._forward(torch.cat([support, row.unsqueeze(0)]))[-1]

        if self.batched_rows:
            try:
                return vmap(last, randomness="different")(x)
            except FastadaptError:
                raise
            except Exception as error:  # what torch can't batch runs row by row
                out = torch.stack([last(row) for row in x])
                tell_once(
                    f"queries run one by one, because vmap can't run {type(self.module).__name__}: {first_line(error)}"
                )
                return out
        return torch.stack([last(row) for row in x])
