"""Since when the present command is at work: what it may take in all is counted from there, not from its training."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_BEGAN: ContextVar[float | None] = ContextVar("began", default=None)


@contextmanager
def command() -> Iterator[None]:
    """Let a command begin, for a `with` block; importing torch and reading data are a part of it."""
    token = _BEGAN.set(time.monotonic())
    try:
        yield
    finally:
        _BEGAN.reset(token)


def began() -> float:
    """Return when the present command began, as `time.monotonic()` tells it; now, where there is no command.

    Example:
        >>> with command():
        ...     since = began()
        ...     since == began() <= time.monotonic()
        True
    """
    since = _BEGAN.get()
    return time.monotonic() if since is None else since
