"""Say what is being waited for, to whoever shows it: a line with a spinner in a terminal."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

Show = Callable[[str], AbstractContextManager[object]]
_show: ContextVar[Show] = ContextVar("show", default=lambda text: nullcontext())


def waiting(text: str) -> AbstractContextManager[object]:
    """Return a context in which `text` is shown, if anybody shows it.

    Example:
        >>> with shown_by(lambda text: nullcontext(print(text))), waiting("compiling MLP"):
        ...     pass
        compiling MLP
    """
    return _show.get()(text)


@contextmanager
def shown_by(show: Show) -> Iterator[None]:
    """Let `show` show what is waited for inside."""
    token = _show.set(show)
    try:
        yield
    finally:
        _show.reset(token)
