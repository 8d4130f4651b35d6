"""A module with its parameters bound to given tensors: what a loss sees as `model`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from fastadapt.errors import FastadaptError, TaskError
from fastadapt.layers.binding import Binding
from fastadapt.layers.layout import Layout
from fastadapt.layers.norm import Statistics
from fastadapt.layers.rewrites import Rewrites, as_then, tell_once
from fastadapt.layers.scope import held
from fastadapt.layers.tracing import audience

__all__ = ["Bound", "as_then", "first_line", "inside", "outcome"]


def first_line(error: Exception) -> str:
    """Return the first line of what an exception says, or else its name."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


class Bound:
    """Behave as a module whose parameters and buffers are given tensors, leaving the module itself untouched.

    It has the module's attributes, methods and items, and passes for an instance of its class. Buffers are cloned for
    each call, so what the module writes to them is dropped.

    Args:
        module: the module.
        params: tensors for its parameters, by name.
        buffers: tensors for its buffers, by name.
        statistics: with which moments its batch-norm layers normalise.
        beside: a support batch `[S, ...]`; if given, each row of the input is forwarded alone beside it.
        batched_rows: forward those rows in one vmap; only where no gradient is taken from outside of it.
        layout: where the module's tensors lie, if that is known.

    Example:
        >>> net = nn.Linear(1, 1)
        >>> double = Bound(net, {"weight": torch.tensor([[2.0]]), "bias": torch.zeros(1)}, {})
        >>> double(torch.tensor([[3.0]]))
        tensor([[6.]])
        >>> isinstance(double, nn.Linear), double.in_features
        (True, 1)
    """

    def __init__(
        self,
        module: nn.Module,
        params: dict[str, Tensor],
        buffers: dict[str, Tensor],
        statistics: Statistics | None = None,
        beside: Tensor | None = None,
        batched_rows: bool = False,
        layout: Layout | None = None,
    ) -> None:
        # the names of its own must not stand in the way of the module's, so they are kept apart
        object.__setattr__(self, "_bound", _Inside(module, params, buffers, statistics, beside, batched_rows, layout))

    __slots__ = ("__weakref__", "_bound")

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]  # for vars(model): it has no other attributes
        with inside(self).in_place():
            return inside(self).module.__dict__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the module's output for these inputs."""
        return object.__getattribute__(self, "_bound")(*args, **kwargs)

    @property
    def __class__(self) -> Any:  # type: ignore[override]  # so that isinstance answers as for the module
        return type(inside(self).module)

    def __getattr__(self, name: str) -> Any:
        with inside(self).in_place():
            return getattr(inside(self).module, name)

    def __setattr__(self, name: str, value: Any) -> None:
        with inside(self).in_place():
            setattr(inside(self).module, name, value)

    def __getitem__(self, index: Any) -> Any:
        with inside(self).in_place():
            return inside(self).module[index]  # type: ignore[index]

    def __len__(self) -> int:
        return len(inside(self).module)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        return iter(inside(self).module)  # type: ignore[call-overload]

    def __contains__(self, name: Any) -> bool:
        return name in inside(self).module  # type: ignore[operator]

    def __dir__(self) -> list[str]:
        return dir(inside(self).module)

    def __deepcopy__(self, memo: Any) -> Any:
        raise TaskError(
            f"the {type(inside(self).module).__name__} inside a loss can't be copied, as its adapted parameters are "
            "results of a computation; take their values, {n: p.detach() for n, p in model.named_parameters()}, "
            "or copy the module before the learner is made"
        )

    def __repr__(self) -> str:
        return repr(inside(self).module)


def inside(bound: Bound) -> "_Inside":
    """Return what a bound model is made of."""
    return object.__getattribute__(bound, "_bound")


def outcome(bound: Bound, loss: Callable[[Any, Any], Any], batch: Any, of: Any = None) -> tuple[Any, Any]:
    """Return what `loss(model, batch)` returns, and the model's output for the input `of`, or else its last one."""
    within = inside(bound)
    within.wanted = of
    with within.in_place():
        return loss(bound, batch), within.output


class _Inside:
    def __init__(
        self,
        module: nn.Module,
        params: dict[str, Tensor],
        buffers: dict[str, Tensor],
        statistics: Statistics | None,
        beside: Tensor | None,
        batched_rows: bool,
        layout: Layout | None,
    ) -> None:
        self.module = module
        self.params = params
        self.buffers = buffers
        self.statistics = statistics if statistics is not None else Statistics()
        self.beside = beside
        self.batched_rows = batched_rows
        self.output: Any = None
        self.wanted: Any = None
        self._found = False
        self._layout = layout
        self._binding: Binding | None = None
        self._open = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self.in_place():
            if self.beside is None:
                output = self._forward(*args, **kwargs)
            else:
                if len(args) != 1 or kwargs or not isinstance(args[0], Tensor):
                    raise TaskError("norm='support+query' needs a model that takes one tensor [n, ...]")
                output = self._one_by_one(args[0], self.beside)
        wanted = self.wanted is not None and len(args) > 0 and args[0] is self.wanted
        if wanted or not self._found:
            self.output, self._found = output, wanted
        return output

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Bind the tensors, and rewrite the library functions that need it, for the length of a block."""
        with held():
            if self._open:
                self.binding.bind()  # another model may have been bound in between
                yield
                return
            self.binding.bind()
            self._open += 1
            try:
                with Rewrites(self.statistics, self.binding.layout.refers, self.module):
                    yield
            finally:
                self._open -= 1

    @property
    def binding(self) -> Binding:
        if self._binding is None:
            self._binding = Binding(
                self.layout, {**self.params, **self._fresh_buffers()}, (self.statistics, audience())
            )
        return self._binding

    @property
    def layout(self) -> Layout:
        if self._layout is None:
            self._layout = Layout(self.module)
        return self._layout

    def _fresh_buffers(self) -> dict[str, Tensor]:
        buffers = {name: value.clone() for name, value in self.buffers.items()}
        norms = self.layout.norms
        names = {id(buffers[name]): name[: -len("running_mean") - 1] for name in buffers if name in norms}
        self.statistics.restart(names, self.module.training)
        return buffers

    def _forward(self, *args: Any, **kwargs: Any) -> Any:
        binding = self.binding
        if self.buffers:
            binding.renew(self._fresh_buffers())
        else:
            self.statistics.restart({})
        binding.bind()
        return self.module(*args, **kwargs)

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
