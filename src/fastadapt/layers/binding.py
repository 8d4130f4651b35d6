"""The one place where tensors are put in the places of a module's own, and taken out again.

A module keeps its parameters and buffers in two dictionaries. To bind is to lay other dictionaries in their stead, and
to unbind is to put the module's own back: they were never changed, so nothing that is raised in between, and no name
under which a module is known twice, can leave anything behind.

What is bound stays until the outermost `held()` block ends, which is when the step has been differentiated: outputs
may compute late, and a backward pass may run parts of the module again (`torch.utils.checkpoint`, adjoint solvers). By
then a later step may have bound its own values, so a look into a dictionary from within a backward pass goes back to
what was bound when the node under way was made; nodes carry a number that tells when.
"""

import threading
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils import _pytree as pytree

_node = torch._C._current_autograd_node
_number = torch.autograd._get_sequence_nr
DEPTH = 3  # containers in containers that are searched for a module's tensors
_ABSENT = object()
_PLACES = ("_parameters", "_buffers")


class _Held(dict):
    """Hold bound tensors by name; asked from within a backward pass, answer as at the time of its node."""

    __slots__ = ("place",)

    def __init__(self, values: Mapping[str, Any], place: tuple[int, str]) -> None:
        super().__init__(values)
        self.place = place

    def _then(self) -> dict[str, Any]:
        node = _node()
        binding = None if node is None else made_under(node)
        return self if binding is None else binding.held.get(self.place, self)

    def __getitem__(self, name: str) -> Any:
        return dict.__getitem__(self._then(), name)

    def get(self, name: str, default: Any = None) -> Any:
        return dict.get(self._then(), name, default)

    def items(self) -> Any:
        return dict.items(self._then())

    def values(self) -> Any:
        return dict.values(self._then())

    def __reduce__(self) -> Any:
        return dict, (dict(self),)


class Layout:
    """Find where a module's tensors lie: in its parts, and in plain attributes that refer to them as well.

    Args:
        module: the module.
        others: further modules that are bound with it; what they don't share with it is called `other:name`.
    """

    def __init__(self, module: nn.Module, others: Mapping[str, nn.Module] | None = None) -> None:
        self.names: dict[int, str] = {}
        self.parts: list[nn.Module] = []
        known: set[nn.Module] = set()
        # a tensor under several names goes by its first, as in named_parameters()
        for root, whole in {"": module, **(others or {})}.items():
            for prefix, part in whole.named_modules(known):
                self.parts.append(part)
                start = (f"{root}:" if root else "") + (f"{prefix}." if prefix else "")
                for place in _PLACES:
                    for name, value in _own(part, place).items():
                        if value is not None:
                            self.names.setdefault(id(value), start + name)
        self.keys = {name: key for key, name in self.names.items()}
        self.aliases = [
            (part, name, value)
            for part in self.parts
            for name, value in _scope.before.get(id(part), (part, part.__dict__))[1].items()
            if name not in _PLACES and self._has(value)
        ]

    def _has(self, value: Any, depth: int = DEPTH) -> bool:
        """Whether a plain attribute refers to one of the tensors (a recurrent layer keeps a list of its weights)."""
        if isinstance(value, Tensor):
            return id(value) in self.names
        if not depth or not isinstance(value, (list, tuple, dict)):
            return False
        items = value.values() if isinstance(value, dict) else value
        return any(self._has(item, depth - 1) for item in items if isinstance(item, (Tensor, list, tuple, dict)))


class Binding:
    """Hold what is to be bound to a module.

    Args:
        layout: where the module's tensors lie.
        tensors: other tensors for some of them, by name.
        note: what else belongs to this time, for those who run parts of the module again.
    """

    def __init__(self, layout: Layout, tensors: Mapping[str, Tensor], note: Any = None) -> None:
        self.layout = layout
        self.note = note
        self.new = {key: tensors[name] for key, name in layout.names.items() if name in tensors}
        self.held: dict[tuple[int, str], _Held] = {}
        for part in layout.parts:
            for place in _PLACES:
                own = _own(part, place)
                if own:
                    key = (id(part), place)
                    self.held[key] = _Held({n: self.new.get(id(t), t) for n, t in own.items()}, key)

    def renew(self, tensors: Mapping[str, Tensor]) -> None:
        """Bind other tensors for some names; those that a module has written in the meantime are dropped."""
        keys = self.layout.keys
        self.new.update({keys[name]: value for name, value in tensors.items() if name in keys})
        for part in self.layout.parts:
            held = self.held.get((id(part), "_buffers"))
            if held is not None:
                held.update({n: self.new.get(id(t), t) for n, t in _own(part, "_buffers").items()})

    def bind(self) -> None:
        """Put the tensors in place, until the outermost `held()` block ends."""
        scope = _scope
        if not scope.depth:
            raise AssertionError("tensors are bound in a held() block")
        if scope.now is self:
            return
        for part in self.layout.parts:
            scope.keep(part)
        for part in self.layout.parts:
            for place in _PLACES:
                held = self.held.get((id(part), place))
                if held is not None:
                    part.__dict__[place] = held
        for part, name, value in self.layout.aliases:
            part.__dict__[name] = self._replaced(value)
            scope.aliased.add((id(part), name))
        scope.now = self
        scope.record.add(self)
        _records[id(scope.record)] = scope.record

    def _replaced(self, value: Any, depth: int = DEPTH) -> Any:
        if isinstance(value, Tensor):
            return self.new.get(id(value), value)
        if not depth or type(value) not in (list, tuple, dict):
            return value
        if isinstance(value, dict):
            return {key: self._replaced(item, depth - 1) for key, item in value.items()}
        return type(value)(self._replaced(item, depth - 1) for item in value)


class _Scope(threading.local):
    """Hold what one thread has bound."""

    def __init__(self) -> None:
        self.depth = 0
        self.now: Binding | None = None
        self.record = _Record()
        self.own: dict[tuple[int, str], dict[str, Any]] = {}
        self.before: dict[int, tuple[nn.Module, dict[str, Any]]] = {}
        self.aliased: set[tuple[int, str]] = set()

    def keep(self, part: nn.Module) -> None:
        """Remember what a part of a module looked like before anything was bound."""
        if id(part) not in self.before:
            self.before[id(part)] = part, dict(part.__dict__)
            for place in _PLACES:
                self.own[id(part), place] = part.__dict__[place]

    def restore(self) -> None:
        """Put back what the modules had, and settle what they have kept on themselves."""
        for part, before in self.before.values():
            for name, value in list(part.__dict__.items()):
                old = before.get(name, _ABSENT)
                if name in _PLACES or (id(part), name) in self.aliased:
                    part.__dict__[name] = old
                elif old is not value or type(value) in (list, dict):
                    settled = _settled(value)
                    if settled is _ABSENT:
                        settled = old
                    if settled is _ABSENT:
                        del part.__dict__[name]
                    elif settled is not value:
                        part.__dict__[name] = settled
        self.now = None
        self.own, self.before, self.aliased = {}, {}, set()
        _records.pop(id(self.record), None)
        self.record = _Record()


class _Record:
    """Hold what was bound when: the numbers of nodes at which the binding changed, and what was bound from there on."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.switches: list[int] = []
        self.bound: list[Binding | None] = []

    def add(self, binding: Binding | None) -> None:
        self.switches.append(_number())
        self.bound.append(binding)

    def at(self, number: int) -> Binding | None:
        place = bisect_right(self.switches, number)
        return self.bound[place - 1] if place else None


_scope = _Scope()
_records: dict[int, _Record] = {}
"""Every record that a backward pass may still ask for."""


def _own(part: nn.Module, place: str) -> dict[str, Any]:
    """Return the dictionary that is the module's own, whatever is bound."""
    return _scope.own.get((id(part), place)) or part.__dict__[place]


@contextmanager
def held() -> Iterator[None]:
    """Keep what is bound inside until the end of the outermost such block, with which everything is put back."""
    scope = _scope
    scope.depth += 1
    try:
        yield
    finally:
        scope.depth -= 1
        if not scope.depth:
            scope.restore()


def made_under(node: Any) -> Binding | None:
    """Return what was bound when a node of a graph was made; None if nothing was, or it can't be told."""
    number = node._sequence_nr()
    mine = _scope.record.at(number)
    if mine is not None:
        return mine
    # kept for later; or a backward pass on a GPU, which runs on a thread of its own
    here = threading.get_ident()
    hits = [(record.thread == here, binding) for record in list(_records.values()) if (binding := record.at(number))]
    mine_first = [binding for own, binding in hits if own] or [binding for _, binding in hits]
    return mine_first[0] if len({id(binding) for binding in mine_first}) == 1 else None


class Kept:
    """Keep what a `held()` block has bound for as long as a graph that was made in it lives.

    A graph that leaves the block may run parts of the module again when it is differentiated. Until it is gone the
    module's dictionaries answer as usual, and to its backward pass with what was bound at the time.

    Args:
        within: a context in which parts of the module are run again, see `running_again`.
    """

    def __init__(self, within: Callable[[Any], Any]) -> None:
        scope = _scope
        scope.record.add(None)  # where the block ends
        record, parts = scope.record, [part for part, _ in scope.before.values()]
        _records[id(record)] = record
        plain = {key: dict.copy(value) if isinstance(value, _Held) else value for key, value in scope.own.items()}
        for key in scope.own:
            if scope.own[key]:
                scope.own[key] = _Held(scope.own[key], key)
        for part in parts:
            self_before = scope.before[id(part)][1]
            for place in _PLACES:
                self_before[place] = scope.own[id(part), place]
        scope.record = _Record()
        self.again = ExitStack()
        self.again.enter_context(running_again(within))
        weakref.finalize(self, _let_go, record, [weakref.ref(part) for part in parts], plain, self.again)

    def by(self, tree: Any) -> None:
        """Keep it as long as the graph of any tensor of a pytree."""
        for leaf in pytree.tree_leaves(tree):
            if isinstance(leaf, Tensor) and leaf.grad_fn is not None:
                leaf.grad_fn.metadata.setdefault("fastadapt", []).append(self)


def _let_go(record: _Record, parts: list[Any], plain: dict[tuple[int, str], dict[str, Any]], again: ExitStack) -> None:
    _records.pop(id(record), None)
    again.close()
    still = {id(part) for other in _records.values() for b in other.bound if b is not None for part in b.layout.parts}
    for part in (found for ref in parts if (found := ref()) is not None and id(found) not in still):
        for place in _PLACES:
            kept = part.__dict__[place]
            if isinstance(kept, _Held):  # what was set in the meantime stays
                own = plain[id(part), place]
                values = dict(dict.items(kept))
                own.clear()
                own.update(values)
                part.__dict__[place] = own


@contextmanager
def running_again(within: Callable[[Any], Any]) -> Iterator[None]:
    """Around a backward pass: run each module that is run again inside `within(note)`, with its binding's note."""
    open_blocks = threading.local()

    def enter(module: nn.Module, inputs: Any) -> None:
        node = _node()
        binding = None if node is None else made_under(node)
        depth = getattr(open_blocks, "depth", 0)
        if binding is None and not depth:
            return
        if not depth:
            open_blocks.stack = ExitStack()
            open_blocks.stack.enter_context(within(binding.note))  # type: ignore[union-attr]
        open_blocks.depth = depth + 1

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        depth = getattr(open_blocks, "depth", 0)
        if depth:
            open_blocks.depth = depth - 1
            if depth == 1:
                open_blocks.stack.close()

    hooks = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _settled(value: Any, depth: int = DEPTH) -> Any:
    """Return what a module has kept on itself without its graph; `_ABSENT` for what a vmap leaves behind."""
    if isinstance(value, Tensor):
        if torch._C._functorch.is_functorch_wrapped_tensor(value):
            return _ABSENT
        return value.detach() if value.grad_fn is not None else value
    if not depth or type(value) not in (list, tuple, dict):
        return value
    if isinstance(value, dict):
        kept = {key: _settled(item, depth - 1) for key, item in value.items()}
        kept = {key: item for key, item in kept.items() if item is not _ABSENT}
        same = len(kept) == len(value) and all(kept[key] is value[key] for key in kept)
        if not same:
            value.clear()
            value.update(kept)
        return value
    items = [item for item in (_settled(item, depth - 1) for item in value) if item is not _ABSENT]
    if len(items) == len(value) and all(a is b for a, b in zip(items, value, strict=True)):
        return value
    if isinstance(value, list):
        value[:] = items
        return value
    return tuple(items)
