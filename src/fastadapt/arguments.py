"""Settings of a run that are arguments of a constructor: their defaults and words are read where they stand."""

import dataclasses
import inspect
import re
from collections.abc import Callable
from typing import Any

_THE_SAME: Any = object()


def argument(of: Callable[..., Any], name: str, default: Any = _THE_SAME) -> Any:
    """Return a dataclass field with the default of an argument, and its words in the docstring as the field's help.

    Args:
        of: a function, or a class, which may have taken the argument over from a class that it extends.
        name: the argument; one without a default gives a field without.
        default: of the field, where it is meant to differ.

    Raises:
        TypeError: if there is no such argument.

    Example:
        >>> from fastadapt import Conv4
        >>> @dataclasses.dataclass
        ... class Net:
        ...     width: int = argument(Conv4, "width", 64)
        ...     pooled: str = argument(Conv4, "pooled")
        >>> Net(), dataclasses.fields(Net)[0].metadata["help"]
        (Net(width=64, pooled='mean'), 'Filters of each block.')
    """
    default = default_of(of, name) if default is _THE_SAME else default
    given = {} if default is inspect.Parameter.empty else {"default": default}
    return dataclasses.field(**given, metadata={"help": _words_of(of, name)})


def added(default: Any, *, remark: bool = False) -> Any:
    """Return a dataclass field that came later: what is written without it stays as it was while it has its default.

    Args:
        default: what it was before there was the field.
        remark: whether it only lets something be said, so that a run which has none of it is the same run.
    """
    return dataclasses.field(default=default, metadata={"added": True, "remark": remark})


def default_of(of: Callable[..., Any], name: str) -> Any:
    """Return the default of an argument, as `argument` finds it, for a field that is told in words of its own."""
    for place in _places(of):
        if name in (arguments := inspect.signature(place).parameters):
            return arguments[name].default
    raise TypeError(f"{of.__qualname__} has no argument {name!r}")


def _words_of(of: Callable[..., Any], name: str) -> str | None:
    """Return what the docstring says behind `    name: `, whose further lines are indented once more."""
    for place in _places(of):
        if told := re.search(rf"^    {name}: (.+(?:\n {{8}}.+)*)", inspect.getdoc(place) or "", re.MULTILINE):
            words = " ".join(told[1].split())
            return words[0].upper() + words[1:]
    return None


def _places(of: Callable[..., Any]) -> tuple[Callable[..., Any], ...]:
    return inspect.getmro(of) if inspect.isclass(of) else (of,)
