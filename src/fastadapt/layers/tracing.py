"""For whom a computation is written: several have one form that compiles well and another that runs well eagerly."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

Audience = Literal["vmap", "compiler", "autograd"]
"""A vmap, a compiler that fuses elementary operations, or plain autograd, which is served best by library kernels."""

_audience: ContextVar[Audience] = ContextVar("audience", default="vmap")


@contextmanager
def written_for(audience: Audience) -> Iterator[None]:
    """Use the forms that suit `audience`."""
    token = _audience.set(audience)
    try:
        yield
    finally:
        _audience.reset(token)


def is_for(audience: Audience) -> bool:
    """Whether the forms that suit `audience` are wanted."""
    return _audience.get() == audience


def audience() -> Audience:
    """Return for whom a computation is written here and now."""
    return _audience.get()
