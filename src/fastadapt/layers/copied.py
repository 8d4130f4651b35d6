"""A copy of a module that shares nothing with it, functions that it keeps included."""

import copy
import functools
import weakref
from collections import deque
from collections.abc import Iterator
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fastadapt.errors import TaskError
from fastadapt.layers.settled import left_by_a_vmap

DEPTH = 6  # things in things that are searched
LONGEST = 10_000  # items of a container that is searched
_CONTAINERS = (list, tuple, dict, set, deque)


def copied(module: nn.Module) -> nn.Module:
    """Return a deep copy of a module.

    It differs from `copy.deepcopy` in two ways. An activation that a module has kept, on itself or in an object, is
    copied without its graph. And a function that a module keeps, in whatever object or container, and that refers to a
    part of it (`self.act = lambda x: self.scale * x`), refers to the part's copy; otherwise the copy would compute with
    the original's weights.

    Raises:
        TaskError: if Python can't copy it.

    Example:
        >>> def scaled(net):
        ...     net.act = lambda x: net.weight * x
        ...     return net
        >>> twin = copied(scaled(nn.Linear(1, 1)))
        >>> twin.act.__closure__[0].cell_contents is twin
        True
    """
    memo: dict[int, Any] = {}
    try:
        with _WithoutGraph():
            twin = copy.deepcopy(module, memo)
            for part in list(module.modules()):  # torch leaves out what a module has in slots
                _fill_slots(part, memo)
    except Exception as error:
        raise TaskError(
            f"{type(module).__name__} can't be copied ({type(error).__name__}: {error}), and what answers for a task "
            "is a copy of it; leave out what has no copy, or give its class a __deepcopy__"
        ) from error
    refer = _Referring(memo)
    for part in twin.modules():
        refer.within(part)
    return twin


def _fill_slots(part: nn.Module, memo: dict[int, Any]) -> None:
    twin = memo.get(id(part))
    for name, value in _in_slots(part):
        if twin is not None and not hasattr(twin, name):
            object.__setattr__(twin, name, copy.deepcopy(value, memo))


class _WithoutGraph(TorchFunctionMode):
    """Copy tensors that were computed, which torch refuses to, without what they were computed by.

    Of what a vmap has left in an object there is nothing to copy: None stands in its stead.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__deepcopy__:
            tensor, memo = args
            if left_by_a_vmap(tensor):
                return memo.setdefault(id(tensor), None)
            if tensor.grad_fn is not None:
                return memo.setdefault(id(tensor), tensor.detach().clone())
        return func(*args, **(kwargs or {}))


class _Referring:
    """Have the functions in a copy refer to copies.

    Args:
        memo: what was copied, as `copy.deepcopy` has left it.
    """

    def __init__(self, memo: dict[int, Any]) -> None:
        self.memo = memo
        self.copies = {id(value) for value in memo.values()}
        self.seen: dict[int, Any] = {}  # what was gone through, kept so that no other gets its id
        self.functions: dict[int, FunctionType] = {}
        self.cells: dict[int, CellType] = {}

    def within(self, thing: Any, depth: int = DEPTH) -> None:
        """Go through the attributes of a copied object."""
        if id(thing) not in self.seen:
            self.seen[id(thing)] = thing
            for name, value in list(_attributes(thing)):
                new = self(value, depth)
                if new is value:
                    continue
                if name in _vars(thing):
                    _vars(thing)[name] = new
                else:
                    object.__setattr__(thing, name, new)

    def __call__(self, value: Any, depth: int = DEPTH) -> Any:
        """Return a value of the copy in which functions refer to copies, if they referred to what was copied."""
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, weakref.ReferenceType):
            new = self.memo.get(id(value()))
            return value if new is None else weakref.ref(new)
        if isinstance(value, weakref.ProxyTypes):
            new = self.memo.get(id(value.__init__.__self__))  # type: ignore[misc]
            return value if new is None else weakref.proxy(new)
        if not depth or isinstance(value, (nn.Module, Tensor)):
            return value
        if isinstance(value, functools.partial):
            parts = [value.func, value.args, value.keywords]
            new = [self(part, depth - 1) for part in parts]
            if all(a is b for a, b in zip(new, parts, strict=True)):
                return value
            return functools.partial(new[0], *new[1], **new[2])
        if isinstance(value, _CONTAINERS):
            return self._container(value, depth)
        if id(value) in self.copies:
            self.within(value, depth - 1)
        return value

    def _container(self, value: Any, depth: int) -> Any:
        if len(value) > LONGEST or id(value) in self.seen:
            return value
        self.seen[id(value)] = value
        keys, before = (list(value), list(value.values())) if isinstance(value, dict) else ([], list(value))
        items = [self(item, depth - 1) for item in before]
        if all(a is b for a, b in zip(items, before, strict=True)):
            return value
        if isinstance(value, dict):
            value.update(zip(keys, items, strict=True))
        elif isinstance(value, tuple):
            return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
        else:
            value.clear()
            value.update(items) if isinstance(value, set) else value.extend(items)
        return value

    def _function(self, function: FunctionType) -> FunctionType:
        if id(function) in self.functions:
            return self.functions[id(function)]
        if not self._reaches(function):
            return function
        cells = [self.cells.setdefault(id(cell), CellType()) for cell in function.__closure__ or ()]
        new = FunctionType(function.__code__, function.__globals__, function.__name__, None, tuple(cells))
        self.functions[id(function)] = new  # ahead of what it refers to, which may be itself
        self.seen[id(function)] = function
        for cell, own in zip(cells, function.__closure__ or (), strict=True):
            if (content := content_of(own)) is not None:
                cell.cell_contents = self._of(content)
            elif _is_set(own):
                cell.cell_contents = None
        new.__defaults__ = tuple(map(self._of, function.__defaults__)) if function.__defaults__ else None
        named = function.__kwdefaults__
        new.__kwdefaults__ = {name: self._of(value) for name, value in named.items()} if named else None
        new.__dict__.update(function.__dict__)
        return new

    def _of(self, value: Any) -> Any:
        """Return the copy of what a function refers to, if it is a part of the module, or leads to one."""
        if id(value) in self.memo:
            return self.memo[id(value)]
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, nn.Module) or not self._reaches(value):
            return value
        with _WithoutGraph():
            new = copy.deepcopy(value, self.memo)
        self.copies |= {id(value) for value in self.memo.values()}
        return self(new)

    def _reaches(self, value: Any) -> bool:
        """Whether something leads to a module or a tensor that was copied."""
        seen: set[int] = set()
        level = [value]
        for _ in range(DEPTH + 1):
            below = []
            for item in level:
                if isinstance(item, (nn.Module, Tensor)):
                    if id(item) in self.memo:
                        return True
                elif id(item) not in seen:
                    seen.add(id(item))
                    below += _below(item)
            level = below
        return False


def _below(value: Any) -> list[Any]:
    """Return what a value refers to."""
    if isinstance(value, FunctionType):
        cells = map(content_of, value.__closure__ or ())
        return [*cells, *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    if isinstance(value, MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, weakref.ReferenceType):
        return [value()]
    if isinstance(value, _CONTAINERS):
        return [] if len(value) > LONGEST else list(value.values() if isinstance(value, dict) else value)
    return [item for _, item in _attributes(value)]


def _attributes(thing: Any) -> Iterator[tuple[str, Any]]:
    """Yield the attributes that an object has of its own, also those in slots."""
    if isinstance(thing, (type, ModuleType)):
        return
    yield from _vars(thing).items()
    yield from _in_slots(thing)


def _in_slots(thing: Any) -> Iterator[tuple[str, Any]]:
    for kind in type(thing).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            place = f"_{kind.__name__.lstrip('_')}{name}" if name[:2] == "__" and name[-2:] != "__" else name
            if name not in ("__dict__", "__weakref__") and hasattr(thing, place):
                yield place, getattr(thing, place)


def _vars(thing: Any) -> dict[str, Any]:
    """Return the dictionary of an object's attributes, empty where it has none."""
    found = getattr(thing, "__dict__", None)
    return found if isinstance(found, dict) else {}


def content_of(cell: CellType) -> Any:
    """Return what a variable in a function's closure holds, None if it was never assigned."""
    try:
        return cell.cell_contents
    except ValueError:  # a name that was never assigned
        return None


def _is_set(cell: CellType) -> bool:
    try:
        return cell.cell_contents is None
    except ValueError:
        return False
