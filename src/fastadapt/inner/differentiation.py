"""How the meta-gradient passes through the inner loop: an object beside method, rule and engine.

A new way is a new file with a class like `Exact`, and works with every method, rule and strategy.
"""

from collections.abc import Mapping
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor

from fastadapt.errors import ConfigError
from fastadapt.inner.exact import Exact
from fastadapt.inner.first_order import FirstOrder
from fastadapt.inner.implicit import Implicit
from fastadapt.inner.runner import Runner
from fastadapt.inner.trajectory import Carry, Loop


@runtime_checkable
class Differentiation(Protocol):
    """Differentiate the meta-objective of one task, `sum_j w_j L_Q(theta^j)`, with respect to `theta^0` and `f`."""

    @property
    def name(self) -> str:
        """What configurations and checkpoints call it."""
        ...

    @property
    def through(self) -> bool:
        """Whether the gradient passes through the inner gradients."""
        ...

    def gradient(
        self, run: Runner, loop: Loop, start: Carry, fixed: Any, task: Any, weights: Mapping[int, float | Tensor]
    ) -> tuple[Any, Any, Tensor, Any]:
        """Return `(gradient to theta^0, gradient to f, meta-objective, report)`.

        Args:
            run: the runner of the pieces.
            loop: the inner loop.
            start: the carry before the first step.
            fixed: f, a pytree of what is fixed along the loop and learned.
            task: support, query and whatever else the steps need.
            weights: `w_j` by step; those that are not named are 0.
        """
        ...


MetaGradient = Literal["exact", "first_order"]
"""Shorthands for `Exact()` and `FirstOrder()`."""

_SHORTHANDS: dict[str, Any] = {"exact": Exact(), "first_order": FirstOrder(), "implicit": Implicit()}


def as_differentiation(kind: "MetaGradient | Differentiation") -> Differentiation:
    """Return the object that a shorthand stands for; an object is returned as it is.

    Raises:
        ConfigError: if it is neither.

    Example:
        >>> as_differentiation("exact")
        Exact(segment=None, recompute=None)
    """
    if isinstance(kind, str) and kind in _SHORTHANDS:
        return _SHORTHANDS[kind]
    if isinstance(kind, Differentiation) and not isinstance(kind, type):
        return kind
    hint = f"; write {kind.__name__}()" if isinstance(kind, type) else ""
    raise ConfigError(
        f"meta_gradient must be 'exact', 'first_order', Exact(), FirstOrder() or Implicit(), got {kind!r}{hint}"
    )
