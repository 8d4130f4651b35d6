"""What Python code can read: the names in it, whose code it is, and which values it finds there.

Code of installed libraries is taken as constant, and so isn't looked into.
"""

import datetime
import decimal
import dis
import enum
import fractions
import logging
import os
import pathlib
import random
import re
import sys
import sysconfig
import threading
import types
import typing
import weakref
from collections.abc import Set
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_OWN = str(pathlib.Path(__file__).parents[1])
_INSTALLED = (*{sysconfig.get_paths()[kind] for kind in ("stdlib", "platstdlib", "purelib", "platlib")}, _OWN)
_GLOBAL = {"LOAD_GLOBAL", "LOAD_NAME", "IMPORT_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
_ATTRIBUTE = {"LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM", "LOAD_SUPER_ATTR"}
CLOCKS = frozenset({"time", "datetime"})
CHANCE = frozenset({"random", "numpy.random", "secrets", "uuid"})
MODULE_NAMES = frozenset({"forward", "training", "extra_repr"})
ENTRIES = frozenset({"init", "update", "lr", "metrics", "higher_is_better", *MODULE_NAMES})
"""What the library itself calls and reads on losses, rules and modules."""

_PLAIN = (
    *(bool, int, float, complex, str, bytes, type(None), type(...), range, slice, type(NotImplemented)),
    *(np.generic, np.dtype, torch.dtype, torch.device, torch.Size, torch.layout, torch.memory_format),
    *(decimal.Decimal, fractions.Fraction, datetime.date, datetime.time, datetime.timedelta),
    *(enum.Enum, pathlib.PurePath, re.Pattern),
)
_CONSTANT = (
    *(types.ModuleType, types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType),
    *(types.MethodWrapperType, types.ClassMethodDescriptorType, types.GetSetDescriptorType),
    *(types.MemberDescriptorType, types.CodeType, types.GenericAlias, types.UnionType, typing.TypeVar),
    *(logging.Logger, logging.LoggerAdapter, weakref.ReferenceType, type(threading.Lock()), type(threading.RLock())),
    *(torch._ops.OpOverload, torch._ops.OpOverloadPacket, torch.Stream),
)
_DRAWS = ((np, "random"), (os, "urandom"))
_CHANCE = (random.Random, torch.Generator, np.random.Generator, np.random.RandomState, np.random.BitGenerator)


@dataclass(frozen=True)
class Names:
    """Hold the names that code reads, nested code included."""

    found: frozenset[str]
    attributes: frozenset[str]


@cache
def names_read(code: types.CodeType) -> Names:
    """Return the global names and the attributes that code loads; what it only stores is left out.

    Example:
        >>> names = names_read((lambda x: beta * x.mean()).__code__)
        >>> sorted(names.found), sorted(names.attributes)
        (['beta'], ['mean'])
    """
    found, attributes = set(), set()
    for line in dis.get_instructions(code):
        if line.opname in _GLOBAL:
            found.add(line.argval)
        elif line.opname in _ATTRIBUTE:
            attributes.add(line.argval)
        elif line.opname == "MATCH_CLASS":  # by names in a tuple, or by those that the class gives
            attributes.add("__match_args__")
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            within = names_read(constant)
            found |= within.found
            attributes |= within.attributes
    return Names(frozenset(found), frozenset(attributes))


@cache
def _installed(file: str) -> bool:
    return file.startswith(("<frozen", *(f"{folder}/" for folder in _INSTALLED)))


def installed(thing: Any) -> bool:
    """Return whether a function, a class or a module belongs to an installed library."""
    if isinstance(thing, types.FunctionType):
        return _installed(thing.__code__.co_filename)
    module = thing if isinstance(thing, types.ModuleType) else sys.modules.get(thing.__module__)
    name = getattr(module, "__name__", "")
    if name in sys.builtin_module_names:
        return True
    file = getattr(module, "__file__", None)
    return file is not None and _installed(file)


def plain(value: Any) -> bool:
    """Return whether a value never changes and says all by what it is."""
    if isinstance(value, (tuple, frozenset)):
        return type(value) in (tuple, frozenset, torch.Size) and all(map(plain, value))
    return isinstance(value, _PLAIN)


def token(value: Any) -> Any:
    """Return what two plain values are compared by: 1, 1.0 and True are three, and NaN equals itself."""
    if isinstance(value, np.generic):
        return type(value).__name__, value.dtype.str, value.tobytes()
    if isinstance(value, (tuple, frozenset)) and not isinstance(value, torch.Size):
        return type(value).__name__, *map(token, value)
    return type(value).__name__, value if isinstance(value, (str, bytes, enum.Enum)) else repr(value)


def carries(value: Any) -> bool:
    """Return whether this is a number, a text, an array or a tensor with attributes, or with a class of the user's."""
    if not isinstance(value, (Tensor, np.ndarray)) and not plain(value):
        return False
    return hasattr(value, "__dict__") or not installed(type(value))


def constant(value: Any) -> bool:
    """Return whether a value has no state that a computation would read."""
    return isinstance(value, _CONSTANT) or type(value).__module__ in ("typing", "torch._ops")


def chance(value: Any) -> str | None:
    """Return why a value gives something else each time it is asked, if it does."""
    if isinstance(value, _CHANCE):
        return f"the random generator {type(value).__name__}"
    if isinstance(value, types.ModuleType):
        return f"the module {value.__name__}" if value.__name__ in CHANCE else None
    if hasattr(type(value), "__next__"):
        return f"the iterator {type(value).__name__}"
    if callable(value) and (getattr(value, "__module__", None) in CHANCE or value is os.urandom):
        return f"{value.__module__}.{getattr(value, '__name__', '')}"
    return None


def drawn_from(value: Any, names: Set[str]) -> str | None:
    """Return what code draws by an attribute of this module, if it names one by which it would.

    Example:
        >>> drawn_from(np, {"random", "exp"}), drawn_from(np, {"exp"})
        ('numpy.random', None)
    """
    return next((f"{value.__name__}.{name}" for module, name in _DRAWS if value is module and name in names), None)


def clock(value: Any) -> str | None:
    """Return what a value tells the time by, if it does."""
    name = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
    called = isinstance(value, (types.ModuleType, type)) or callable(value)
    return f"{name}, which tells the time" if called and name in CLOCKS else None


HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
FEW_NUMBERS = 64
"""Numbers of a tensor that are compared too, because a change through `.data` or numpy leaves no other trace."""
_HARMLESS = ("builtins", "abc", "typing", "dataclasses", "enum")
OWN_PLACES = frozenset(
    {"_modules", "_parameters", "_buffers", "_non_persistent_buffers_set", *HOOKS}
    | {"_flat_weights", "_flat_weight_refs"}  # of recurrent networks, which follow their parameters
    | {name for name in vars(nn.Module()) if name.endswith(("_hooks", "_with_kwargs", "_always_called"))}
)


def storage(tensor: Tensor) -> int:
    """Return where a tensor's numbers lie, or 0 if that can't be told."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):
        return 0


def numbers_of(tensor: Tensor) -> np.ndarray | None:
    """Return the numbers of a small tensor, as an array that shares them."""
    if tensor.numel() > FEW_NUMBERS or tensor.device.type != "cpu":
        return None
    try:
        return tensor.detach().numpy()
    except (TypeError, RuntimeError):  # a type that numpy doesn't know
        return None


def slots_of(kind: type) -> list[str]:
    """Return the attributes that a class keeps in slots."""
    names = vars(kind).get("__slots__", ())
    return [n for n in ([names] if isinstance(names, str) else names) if n not in ("__dict__", "__weakref__")]


def all_slots_of(value: Any) -> list[str]:
    """Return the attributes of a value that lie in slots, of its class and of those that it comes from."""
    return [name for base in type(value).__mro__ for name in slots_of(base) if hasattr(value, name)]


def in_words(old: Any, new: Any) -> str:
    """Return how a fact has changed.

    Example:
        >>> in_words(("float", "1.0"), ("float", "0.1"))
        'changed from 1.0 to 0.1'
    """
    simple = [t for t in (old, new) if isinstance(t, tuple) and len(t) == 2 and isinstance(t[1], str)]
    if len(simple) == 2:
        return f"changed from {_short(old[1])} to {_short(new[1])}"
    return "is there no longer" if new is None else "is new" if old is None else "changed"


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."


def foreign(kind: type) -> bool:
    """Return whether a library's code may read attributes of instances that the user's own code doesn't name."""
    return any(installed(base) and base is not nn.Module and base.__module__ not in _HARMLESS for base in kind.__mro__)
