"""The tensors that an object holds, and the same object with others in their place.

A rule or a loss may hold what is learned: a momentum, a network that preconditions. Whatever is differentiated has to
be an explicit input of the inner loop, so it is taken out by name and put into a copy; the object itself is never
changed, and two threads don't meet.
"""

import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from types import FunctionType, MethodType
from typing import Any, TypeVar

from torch import Tensor, nn

T = TypeVar("T")
Found = Callable[[str, Tensor], Any]


def held_tensors(holder: Any) -> dict[str, Tensor]:
    """Return every tensor that an object holds, by dotted name.

    Those are its attributes, the items of mappings, lists and tuples, what objects with an update or a forward of their
    own hold in turn, and the parameters of modules. A tensor under two names is listed once, under the first.

    Example:
        >>> from fastadapt import Clip, SGD
        >>> import torch
        >>> list(held_tensors(Clip(SGD({"w": torch.tensor(0.1)}), max_norm=torch.tensor(1.0))))
        ['rule.lr.w', 'max_norm']
    """
    seen: dict[int, str] = {}
    held: dict[str, Tensor] = {}

    def note(name: str, tensor: Tensor) -> Tensor:
        if id(tensor) not in seen:
            seen[id(tensor)] = name
            held[name] = tensor
        return tensor

    _walk(holder, "", note, {})
    return held


def with_held(holder: T, tensors: Mapping[str, Any]) -> T:
    """Return the same object with the named tensors replaced; itself if it holds none of them.

    What a tensor under two names is replaced by stands under both.

    Args:
        holder: the object.
        tensors: values for some or all of the names that `held_tensors` gives.
    """
    if not tensors:
        return holder
    places = {id(tensor): tensors[name] for name, tensor in held_tensors(holder).items() if name in tensors}
    return _walk(holder, "", lambda _, tensor: places.get(id(tensor), tensor), {})


def _walk(value: Any, name: str, f: Found, done: dict[int, Any]) -> Any:
    """Return `value` with `f(name, tensor)` in place of every tensor; the same object where nothing changed."""
    if isinstance(value, Tensor):
        return f(name, value)
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, nn.Module):
        return _module(value, name, f, done)
    if isinstance(value, Mapping):
        items = {key: _walk(item, _joined(name, key), f, done) for key, item in value.items()}
        return items if any(items[key] is not value[key] for key in items) else value
    if isinstance(value, functools.partial):
        parts = value.func, value.args, value.keywords
        func, args, keywords = (_walk(part, name, f, done) for part in parts)
        changed = any(a is not b for a, b in zip((func, args, keywords), parts, strict=True))
        return functools.partial(func, *args, **keywords) if changed else value
    if isinstance(value, MethodType):
        owner = _walk(value.__self__, name, f, done)
        return value if owner is value.__self__ else MethodType(value.__func__, owner)
    if type(value) in (list, tuple):
        row = [_walk(item, _joined(name, i), f, done) for i, item in enumerate(value)]
        return type(value)(row) if any(a is not b for a, b in zip(row, value, strict=True)) else value
    return _object(value, name, f, done) if _holds(value) else value


def _joined(name: str, key: Any) -> str:
    return f"{name}.{key}" if name else str(key)


def _holds(value: Any) -> bool:
    """Return whether an object is one that a rule or a loss is made of, and not just any thing it refers to."""
    if isinstance(value, (type, FunctionType)) or not (hasattr(value, "__dict__") or is_dataclass(value)):
        return False
    return is_dataclass(value) or callable(value) or callable(getattr(value, "update", None))


def _object(value: Any, name: str, f: Found, done: dict[int, Any]) -> Any:
    try:
        twin = done[id(value)] = copy.copy(value)  # what refers back to the object refers to its copy
    except Exception:  # a lock, a file: nothing that a rule could learn
        return value
    names = [field.name for field in fields(value)] if is_dataclass(value) else list(vars(value))
    old = {key: getattr(value, key) for key in names if hasattr(value, key)}
    new = {key: _walk(item, _joined(name, key), f, done) for key, item in old.items()}
    if all(new[key] is old[key] or (new[key] is twin and old[key] is value) for key in old):
        done[id(value)] = value
        return value
    for key, item in new.items():
        object.__setattr__(twin, key, item)  # not by its constructor: what it checks are numbers
    return twin


def _module(module: nn.Module, name: str, f: Found, done: dict[int, Any]) -> nn.Module:
    """Return a module that shares everything with `module` but the parameters that are replaced."""
    twin = done[id(module)] = type(module).__new__(type(module))  # not copied: some modules refuse to be
    params = {key: p if p is None else f(_joined(name, key), p) for key, p in module._parameters.items()}
    parts = {
        key: part if part is None else _walk(part, _joined(name, key), f, done) for key, part in module._modules.items()
    }
    loose = {key: f(_joined(name, key), item) for key, item in vars(module).items() if isinstance(item, Tensor)}
    old = {**vars(module), **module._parameters, **module._modules}
    if all(item is old[key] for key, item in {**params, **parts, **loose}.items()):
        done[id(module)] = module
        return module
    own = {"_parameters": params, "_modules": parts, "_buffers": dict(module._buffers)}
    twin.__dict__ = {**vars(module), **own, **loose}
    if hasattr(module, "_flat_weights_names"):  # recurrent layers keep a list of their own
        flat: Any = [getattr(twin, key, None) for key in module._flat_weights_names]  # type: ignore[union-attr]
        twin.__dict__["_flat_weights"] = flat
    return twin
