"""Guards: Python state that a recorded program has frozen, and whether it still is as it was.

A program has the numbers in it that the loss, the module and the rule read when it was recorded: an annealed weight,
a flag, an entry of a configuration. `Guards` walks once over everything that their code can read (closures, defaults,
globals, attributes, what containers hold) and keeps a flat list of cheap checks. Nothing changed means that the very
same objects are still in their places, which takes some 30 ns each to see.
"""

import enum
import functools
import pathlib
import sys
import types
import weakref
from collections import deque
from collections.abc import Iterable, Set
from typing import Any

import numpy as np
from torch import Tensor, nn

from fastadapt.engine import outside, reading
from fastadapt.engine.checks import Checks, ambient
from fastadapt.layers.bound import first_line

MOST_CHECKS = 10_000
"""Checks above which programs are not worth their guards (0.5 ms of each call)."""
MOST_BYTES = 1 << 16
"""Bytes of numpy arrays, whose contents are compared at each call."""
_CODE = ("__code__", "__defaults__", "__kwdefaults__")
_UNREAD = frozenset({"__reduce__", "__getstate__", "__setstate__", "__del__"})


class Guards:
    """Keep what the code of `roots` can read, to tell whether any of it has changed.

    Args:
        roots: losses, rules, modules, a whole learner.
        inputs: addresses of the storages of tensors that programs take as arguments; parameters and buffers that are
            among them may change.
        skipped: objects that are not looked into.

    Example:
        >>> beta = [1.0]
        >>> guards = Guards(lambda m, batch: beta[0] * m(batch))
        >>> guards.hold()
        True
        >>> beta[0] = 0.1
        >>> guards.hold()
        False
    """

    unguardable: str | None
    """Why programs can't be used at all, if they can't."""
    drawing: str | None
    """What gives each task something else, if anything does."""

    def __init__(self, *roots: Any, inputs: Iterable[int] = (), skipped: Iterable[Any] = ()) -> None:
        self.unguardable = self.drawing = None
        self.facts: dict[str, Any] = {}
        self.checks = Checks()
        self.hold, self.restore = self.checks.hold, self.checks.restore
        self._inputs = frozenset(inputs) - {0}
        self._alive: list[Any] = list(roots)
        self._visited: set[int] = {id(thing) for thing in skipped}
        self._carriers: set[int] = set()
        self._path: str | None = None
        self._bytes = 0
        self._names: set[str] = set(reading.ENTRIES)
        self._everything = False
        self._objects: list[tuple[Any, str, bool, set[str], Any]] = []
        self._queue: deque[tuple[Any, str]] = deque()
        try:
            for root in roots:
                self.facts[self._free("root")] = self._meet(root, "")
            self._walk()
        except Exception as error:  # an object that doesn't let itself be looked at
            self.unguardable = f"its Python state can't be looked into: {first_line(error)}"
        self.facts["torch's settings"] = tuple(map(str, ambient()))

    # ---- asking ----------------------------------------------------------------------------------

    def changed(self, before: "Guards") -> str | None:
        """Return the first thing that is another than it was for `before`, in words."""
        for path in {**before.facts, **self.facts}:
            old, new = before.facts.get(path), self.facts.get(path)
            if old != new:
                return f"{path or 'the learner'} {reading.in_words(old, new)}"
        return None

    # ---- walking ---------------------------------------------------------------------------------

    def _walk(self) -> None:
        while True:
            while self._queue and self.unguardable is None:
                self._look_into(*self._queue.popleft())
                if len(self.checks) > MOST_CHECKS:
                    self.unguardable = f"more than {MOST_CHECKS} things that its code can read would have to be watched"
            named = outside.files_named(self._names) if self._path is not None else None
            if named is not None:
                self.unguardable = self.unguardable or f"{_from(self._path or '')} a file (by .{named})"
            if self.unguardable is not None:
                return
            # a name met late is looked for in what was met early
            for space, path, every, done, owner in list(self._objects):
                wanted = set(space) if every or self._everything else self._names & set(space)
                for name in sorted(wanted - done, key=lambda name: (len(str(name)), str(name))):
                    self._attribute(space, name, path, owner)
                done |= wanted
            if not self._queue:
                return

    def _free(self, path: str) -> str:
        while path in self.facts:
            path += "'"
        return path

    def _note(self, value: Any, path: str) -> None:
        path = self._free(path)
        self.facts[path] = None  # taken
        self.facts[path] = self._meet(value, path)

    def _at(self, place: Any, key: Any, value: Any, path: str) -> None:
        self.checks.item(place, key, value)
        self._note(value, path)

    def _on(self, owner: Any, name: str, value: Any, path: str) -> None:
        self.checks.attribute(owner, name, value)
        self._note(value, path)

    def _meet(self, value: Any, path: str) -> Any:
        """Return what the value is compared by, and have it looked into."""
        self._carried(value, path)
        if reading.plain(value):
            return reading.token(value)
        if isinstance(value, Tensor):
            return self._tensor(value, path)
        if isinstance(value, np.ndarray):
            return self._array(value, path)
        why = reading.chance(value)
        if why is not None:
            self.drawing = self.drawing or f"{_from(path)} {why}"
            return type(value).__name__
        why = reading.clock(value)
        if why is not None:
            self.unguardable = self.unguardable or f"{_from(path)} {why}"
        if id(value) not in self._visited:
            self._visited.add(id(value))
            self._alive.append(value)
            self._queue.append((value, path))
        if isinstance(value, types.FunctionType):
            return "function", id(value.__code__)
        if isinstance(value, (list, tuple, deque, set, dict)):
            return type(value).__name__, len(value)
        return (type(value).__name__, id(value)) if isinstance(value, type) else (type(value).__name__, id(type(value)))

    def _carried(self, value: Any, path: str) -> None:
        """Watch what was put as attributes on a number, a text, an array or a tensor, and the code of their classes."""
        if isinstance(value, pathlib.Path):
            self._path = self._path or path or "a path"
        if id(value) in self._carriers or not reading.carries(value):
            return
        self._carriers.add(id(value))
        self._alive.append(value)
        if not reading.installed(type(value)):
            self._note(type(value), path)
            for name in reading.all_slots_of(value):
                self._on(value, name, getattr(value, name), f"{path}.{name}")
        if isinstance(getattr(value, "__dict__", None), dict):
            self._space(value.__dict__, path, every=False, owner=value)

    def _look_into(self, value: Any, path: str) -> None:
        if isinstance(value, types.FunctionType):
            self._function(value, path)
        elif isinstance(value, types.MethodType):
            self._note(value.__self__, path)
            self._note(value.__func__, f"{path}: {value.__func__.__name__}")
        elif isinstance(value, functools.partial):
            for name in ("func", "args", "keywords"):
                self._on(value, name, getattr(value, name), f"{path}.{name}")
        elif isinstance(value, types.BuiltinFunctionType) and not isinstance(value.__self__, types.ModuleType):
            self._note(value.__self__, path)
        elif isinstance(value, weakref.ReferenceType):
            self._note(value(), path)
        elif isinstance(value, (staticmethod, classmethod)):
            self._note(value.__func__, path)
        elif isinstance(value, property):
            for part in (value.fget, value.fset):
                self._note(part, path)
        elif isinstance(value, type):
            self._class(value, path)
        elif isinstance(value, types.ModuleType):
            if not reading.installed(value):
                self._space(vars(value), path, every=False, owner=None)
        elif isinstance(value, (dict, types.MappingProxyType, list, tuple, deque, set, frozenset)):
            self._container(value, path)
        elif isinstance(value, nn.Module):
            self._module(value, path)
        elif not reading.constant(value):
            self._object(value, path)

    def _function(self, function: types.FunctionType, path: str) -> None:
        loaded: list[Any] = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        for name in _CODE:
            self._on(function, name, getattr(function, name), f"{path}: {name.strip('_')}")
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            if name == "__class__":  # of `super()`
                continue
            try:
                self._on(cell, "cell_contents", cell.cell_contents, f"{path}: closure variable {name}")
                loaded.append(cell.cell_contents)
            except ValueError:
                self.unguardable = f"its closure variable {name} has no value yet"
        wrapped = vars(function).get("__wrapped__")
        if wrapped is not None:
            self._note(wrapped, path)
        if reading.installed(function):
            return
        names = reading.names_read(function.__code__)
        self._names |= names.attributes
        self._everything |= bool(outside.LOOKED_UP & (names.found | names.attributes))
        if vars(function):
            self._space(vars(function), path, every=False, owner=None)
        known = function.__globals__
        for name in sorted(names.found):
            if name in known:
                value = known[name]
                self._at(known, name, value, f"{path}: global {name}")
                loaded.append(value)
                continue
            self.checks.absent(known, name)  # one that hides a builtin may come later
            if name in outside.BUILTINS:
                self.unguardable = self.unguardable or f"{_from(path)} {name}()"
            elif name.partition(".")[0] in sys.modules:  # imported inside of the function
                module = sys.modules.get(name, sys.modules[name.partition(".")[0]])
                self._note(module, f"{path}: {name}")
                loaded.append(module)
        if {"environ", "getenv"} & (names.attributes | names.found):
            import os

            self._note(os.environ._data, "os.environ")  # type: ignore[attr-defined]
        for value in loaded:
            self._loaded(value, names.attributes, path, made=function.__name__ == "__init__")

    def _loaded(self, value: Any, names: Set[str], path: str, made: bool) -> None:
        """See what code can do with a value that it loads: draw, read what lies outside, read any attribute."""
        drawn = reading.drawn_from(value, names)
        if drawn is not None:
            self.drawing = self.drawing or f"{_from(path)} {drawn}"
        read = None if made else outside.read_by(value, names)  # what a module reads when it is built is in it
        if read is not None:
            self.unguardable = self.unguardable or f"{_from(path)} {read}"
        self._everything |= outside.opaque(value) and not made

    def _class(self, kind: type, path: str) -> None:
        own = [base for base in kind.__mro__ if not reading.installed(base)]
        if not reading.installed(type(kind)):
            self._note(type(kind), f"{path}: its metaclass")
        for member in kind if issubclass(kind, enum.Enum) else ():  # which its dictionary may hide
            self._note(member, f"{path}.{member.name}")
        for base in own:
            space = vars(base)
            self._space(space, path, every=reading.foreign(kind), owner=base)
            for name, value in space.items():
                special = name.startswith("__") and isinstance(value, types.FunctionType)
                # what a dataclass writes itself reads all its fields
                if special and name not in _UNREAD and value.__code__.co_filename != "<string>":
                    self._at(space, name, value, f"{path}: {name}")

    def _space(self, space: Any, path: str, every: bool, owner: Any) -> None:
        self.checks.size(space)
        if owner is not None and isinstance(space, dict):
            self.checks.copy(space, dict(space))
        self._objects.append((space, path, every, set(), owner))

    def _attribute(self, space: Any, name: str, path: str, owner: Any) -> None:
        if isinstance(owner, type) and name.startswith(("__", "_abc_")):
            return  # special methods are met with their class
        if isinstance(owner, nn.Module) and name in reading.OWN_PLACES:
            return
        value = space[name]
        where = f"{path}.{name}" if path else name
        plain = isinstance(owner, type) and not isinstance(
            value, (types.FunctionType, property, staticmethod, classmethod)
        )
        if plain and not hasattr(type(value), "__get__"):
            self._on(owner, name, value, where)  # by the class, so that it can be put back
        else:
            self._at(space, name, value, where)

    def _object(self, value: Any, path: str) -> None:
        kind = type(value)
        if not reading.installed(kind):
            self._note(kind, path)
        slots = reading.all_slots_of(value)
        space = getattr(value, "__dict__", None)
        if _has_buffer(value):
            self.facts[self._free(f"{path} bytes")] = self.checks.content(value)
            return
        if space is None and not slots and reading.installed(kind) and kind is not object:
            self.unguardable = self.unguardable or f"{_from(path)} a {kind.__name__}, whose state can't be seen"
        if isinstance(space, dict):
            self._space(space, path, every=reading.foreign(kind), owner=value)
        for name in slots:
            self._on(value, name, getattr(value, name), f"{path}.{name}")

    def _container(self, value: Any, path: str) -> None:
        if len(value) > MOST_CHECKS:
            self.unguardable = f"{_from(path)} a {type(value).__name__} of {len(value)} items, too many to be watched"
            return
        if isinstance(value, (set, frozenset)):
            if isinstance(value, set):
                self.checks.members(value)
            for item in sorted(value, key=repr):
                self._note(item, f"{path} {{}}")
            return
        keyed = isinstance(value, (dict, types.MappingProxyType))
        if not isinstance(value, tuple):
            self.checks.size(value)
            if not isinstance(value, types.MappingProxyType):
                self.checks.copy(value, dict(value) if keyed else list(value))
        for key, item in value.items() if keyed else enumerate(value):
            self._at(value, key, item, f"{path}[{key!r}]")
            if keyed and not reading.plain(key):
                self._note(key, f"{path} key")
        if vars(value) if hasattr(value, "__dict__") else False:
            self._object(value, path)

    def _module(self, module: nn.Module, path: str) -> None:
        space = vars(module)
        if not reading.installed(type(module)):
            self._note(type(module), path)
        # the library's own modules hand their buffers over as arguments, and count for themselves in others
        own = type(module).__module__.startswith("fastadapt.")
        for kind in ("_parameters",) if own else ("_parameters", "_buffers"):
            held = space[kind]
            self.checks.size(held)
            for name, tensor in held.items():
                if tensor is None or reading.storage(tensor) not in self._inputs:
                    self._at(held, name, tensor, f"{path}.{name}" if path else name)
        self.checks.size(space["_modules"])
        for name, child in space["_modules"].items():
            self._at(space["_modules"], name, child, f"{path}.{name}" if path else name)
        for name in reading.HOOKS:
            hooks = space.get(name)
            if hooks:
                self._note(hooks, f"{path}.{name}")
            elif hooks is not None:
                self.checks.empty(hooks)
        self._space(space, path, every=reading.foreign(type(module)), owner=module)

    def _tensor(self, tensor: Tensor, path: str) -> Any:
        if path.startswith("rule") and reading.storage(tensor) in self._inputs:
            return "an input"  # an inner learning rate
        try:
            fact = "tensor", id(tensor), tensor._version, tensor.data_ptr()
        except Exception:  # one that was left over from a vmap or a recording, or has no storage
            self.unguardable = self.unguardable or f"{_from(path)} a tensor whose changes can't be seen"
            return "tensor", id(tensor)
        view = reading.numbers_of(tensor)
        if id(tensor) not in self._visited:
            self._visited.add(id(tensor))
            self._alive.append(tensor)
            self.checks.tensor(tensor)
            if view is not None:
                self.checks.content(view)
        return *fact, None if view is None else view.tobytes()

    def _array(self, array: np.ndarray, path: str) -> Any:
        self._bytes += array.nbytes
        if array.dtype.hasobject or self._bytes > MOST_BYTES:
            self.unguardable = f"{_from(path)} a numpy array, too large to be compared at each call (make it a buffer)"
            return "array", id(array)
        content = array.tobytes()
        if id(array) not in self._visited:
            self._visited.add(id(array))
            self._alive.append(array)
            self.checks.content(array)
        return "array", array.dtype.str, array.shape, content


def _has_buffer(value: Any) -> bool:
    try:
        return memoryview(value).nbytes <= MOST_BYTES
    except (TypeError, BufferError, ValueError):
        return False


def _from(path: str) -> str:
    return f"{path} is or reads" if path else "it reads"
