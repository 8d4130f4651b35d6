"""A copy of a module that shares nothing with it, functions that it keeps included."""

import copy
import functools
from types import CellType, FunctionType
from typing import Any

from torch import Tensor, nn

DEPTH = 3  # containers in containers that are searched


def copied(module: nn.Module) -> nn.Module:
    """Return a deep copy of a module.

    It differs from `copy.deepcopy` in two ways. An activation that a module has kept on itself is copied without its
    graph. And a function that a module keeps, and that refers to a part of it (`self.act = lambda x: self.scale * x`),
    refers to the part's copy; otherwise the copy would compute with the original's weights.

    Example:
        >>> net = nn.Linear(1, 1)
        >>> net.twice = lambda x: net(net(x))
        >>> twin = copied(net)
        >>> twin.twice.__closure__[0].cell_contents is twin
        True
    """
    memo: dict[int, Any] = {}
    for part in module.modules():
        for tensor in _tensors([v for name, v in part.__dict__.items() if name not in ("_parameters", "_modules")]):
            if tensor.grad_fn is not None:
                memo[id(tensor)] = tensor.detach().clone()
    twin = copy.deepcopy(module, memo)
    for part in twin.modules():
        for name, value in list(part.__dict__.items()):
            part.__dict__[name] = _refering_to_copies(value, memo)
    return twin


def _tensors(value: Any, depth: int = DEPTH) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if not depth or not isinstance(value, (list, tuple, dict)):
        return []
    items = value.values() if isinstance(value, dict) else value
    return [tensor for item in items for tensor in _tensors(item, depth - 1)]


def _refering_to_copies(value: Any, memo: dict[int, Any], depth: int = DEPTH) -> Any:
    """Return a value in which functions refer to copies, if they referred to something that was copied."""
    if isinstance(value, FunctionType):
        return _function(value, memo)
    if isinstance(value, functools.partial):
        function = _refering_to_copies(value.func, memo, depth)
        return value if function is value.func else functools.partial(function, *value.args, **value.keywords)
    if not depth or not isinstance(value, (list, tuple, dict)):
        return value
    if isinstance(value, dict):
        for key, item in list(value.items()):
            new = _refering_to_copies(item, memo, depth - 1)
            if new is not item:
                value[key] = new
        return value
    items = [_refering_to_copies(item, memo, depth - 1) for item in value]
    if all(a is b for a, b in zip(items, value, strict=True)):
        return value
    if isinstance(value, list):
        value[:] = items
        return value
    return tuple(items) if type(value) is tuple else value


def _function(function: FunctionType, memo: dict[int, Any]) -> FunctionType:
    cells = function.__closure__ or ()
    inside = [_copy_of(_content(cell), memo) for cell in cells]
    defaults = tuple(_copy_of(value, memo) for value in function.__defaults__ or ())
    named = {name: _copy_of(value, memo) for name, value in (function.__kwdefaults__ or {}).items()}
    before = [*map(_content, cells), *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    if all(a is b for a, b in zip([*inside, *defaults, *named.values()], before, strict=True)):
        return function
    new = FunctionType(
        function.__code__, function.__globals__, function.__name__, defaults or None, tuple(map(CellType, inside))
    )
    new.__kwdefaults__ = named or None
    new.__dict__.update(function.__dict__)
    return new


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a name that was never assigned
        return None


def _copy_of(value: Any, memo: dict[int, Any]) -> Any:
    """Return the copy of what a function refers to, if it is a module, a tensor of one, or holds some."""
    if id(value) in memo:
        return memo[id(value)]
    if isinstance(value, FunctionType):
        return _function(value, memo)
    holds = isinstance(value, (list, tuple, dict)) and _refers(value, memo)
    return copy.deepcopy(value, memo) if holds else value


def _refers(value: Any, memo: dict[int, Any], depth: int = DEPTH) -> bool:
    if id(value) in memo and isinstance(value, (nn.Module, Tensor)):
        return True
    if not depth or not isinstance(value, (list, tuple, dict)):
        return False
    return any(_refers(item, memo, depth - 1) for item in (value.values() if isinstance(value, dict) else value))
