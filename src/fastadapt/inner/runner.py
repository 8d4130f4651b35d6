"""How the pieces of one task's computation are run: as they stand, or as compiled programs.

A method writes its inner loop as a few pure functions of tensors (an inner step, a step of the backward sweep) and
calls them through a runner. So the same method runs plainly, task by task or inside a vmap, and as programs that are
compiled once and used again for every step and every task.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from fastadapt.inner.calculus import Calculus

Piece = Callable[..., Any]
"""`piece(calculus, **arguments)`: a pure function of its arguments, pytrees of tensors."""


class Runner(Protocol):
    """Run the pieces of one task, or of many at once."""

    calculus: Calculus
    segment: int | None
    """Inner steps to differentiate at once; None leaves it to the sweep."""

    def __call__(self, name: str, piece: Piece, shared: Mapping[str, Any], each: Mapping[str, Any]) -> Any:
        """Return `piece(calculus, **shared, **each)`.

        Args:
            name: what distinguishes this piece from the method's others.
            piece: the function.
            shared: arguments that are the same for all tasks.
            each: arguments of the task; where many run at once, every leaf has a leading task axis.
        """
        ...


class Inline:
    """Run every piece as it stands.

    Args:
        calculus: how to differentiate.
        segment: inner steps to differentiate at once.
    """

    def __init__(self, calculus: Calculus, segment: int | None = None) -> None:
        self.calculus = calculus
        self.segment = segment

    def __call__(self, name: str, piece: Piece, shared: Mapping[str, Any], each: Mapping[str, Any]) -> Any:
        """Return `piece(calculus, **shared, **each)`."""
        return piece(self.calculus, **shared, **each)
