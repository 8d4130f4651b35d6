"""The one place where tensors are put in the places of a module's own, and taken out again.

A module keeps its parameters and buffers in two dictionaries. To bind is to lay other dictionaries in their stead, and
to unbind is to put the module's own back: they were never changed, so nothing that is raised in between, and no name
under which a module is known twice, can leave anything behind.

What is bound stays until the outermost `held()` block ends, which is when the step has been differentiated: outputs
may compute late, and a backward pass may run parts of the module again (`torch.utils.checkpoint`, adjoint solvers). By
then a later step may have bound its own values, so a look into a dictionary from within a backward pass goes back to
what was bound when the node under way was made; nodes carry a number that tells when.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from threading import get_ident
from typing import Any

import torch
from torch import Tensor

from fastadapt.errors import TaskError
from fastadapt.layers.copied import content_of
from fastadapt.layers.layout import Layout
from fastadapt.layers.scope import PLACES, RECORDS, here, made_under, own_of, running_again_now
from fastadapt.layers.settled import DEPTH

_node = torch._C._current_autograd_node


class Held(dict):
    """Hold bound tensors by name, for the thread that has bound them; the others see the module's own.

    Asked from within a backward pass it answers as at the time of its node.
    """

    __slots__ = ("own", "place", "plain", "thread")

    def __init__(self, values: Mapping[str, Any], place: tuple[int, str], own: dict[str, Any]) -> None:
        super().__init__(values)
        self.place = place
        self.own: dict[str, Any] = own
        self.plain: dict[str, Any] | None = None
        self.thread = get_ident()

    def _then(self) -> dict[str, Any]:
        node = _node()
        if node is None:
            return self if get_ident() == self.thread else self.own
        binding = made_under(node)
        if binding is None:
            return self
        if (binding.layout.cells or binding.layout.aliases) and not running_again_now():
            raise TaskError(
                "a function of the model that is no module is run again in the backward pass (checkpointed?), and the "
                "model refers to its parameters in further ways (a list, a closure), which can't be replaced then; "
                "checkpoint a module, or use the parameters as attributes"
            )
        return binding.held.get(self.place, self)

    def __getitem__(self, name: str) -> Any:
        return dict.__getitem__(self._then(), name)

    def __setitem__(self, name: str, value: Any) -> None:  # what writes has to reach what reads, also at that time
        dict.__setitem__(self._then(), name, value)

    def __delitem__(self, name: str) -> None:
        dict.__delitem__(self._then(), name)

    def __contains__(self, name: object) -> bool:
        return dict.__contains__(self._then(), name)

    def __iter__(self) -> Any:  # with its own, {**held} goes by the items as well
        return dict.__iter__(self._then())

    def __len__(self) -> int:
        return dict.__len__(self._then())

    def __ior__(self, others: Any) -> Any:
        self.update(others)
        return self

    def copy(self) -> dict[str, Any]:
        """Return the names and tensors as a plain dictionary."""
        return dict(dict.items(self._then()))

    def get(self, name: str, default: Any = None) -> Any:
        """Return the tensor of that name, or the default."""
        return dict.get(self._then(), name, default)

    def keys(self) -> Any:
        """Return the names."""
        return dict.keys(self._then())

    def items(self) -> Any:
        """Return the names and tensors."""
        return dict.items(self._then())

    def values(self) -> Any:
        """Return the tensors."""
        return dict.values(self._then())

    def pop(self, *name_and_default: Any) -> Any:
        """Take a tensor out and return it, or the default."""
        return dict.pop(self._then(), *name_and_default)

    def popitem(self) -> Any:
        """Take the last tensor out and return it with its name."""
        return dict.popitem(self._then())

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Return the tensor of that name; put the default there where there is none."""
        return dict.setdefault(self._then(), name, default)

    def update(self, *others: Any, **named: Any) -> None:
        """Put several tensors in."""
        dict.update(self._then(), *others, **named)

    def clear(self) -> None:
        """Take all tensors out."""
        dict.clear(self._then())

    def __reduce__(self) -> Any:
        return dict, (dict(dict.items(self._then())),)


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
        self.held: dict[tuple[int, str], Held] = {}
        for part in layout.parts:
            for place in PLACES:
                own = own_of(part, place)
                if own:
                    key = (id(part), place)
                    self.held[key] = Held({n: self.new.get(id(t), t) for n, t in own.items()}, key, own)

    def renew(self, tensors: Mapping[str, Tensor]) -> None:
        """Bind other tensors for some names; those that a module has written in the meantime are dropped."""
        keys = self.layout.keys
        self.new.update({keys[name]: value for name, value in tensors.items() if name in keys})
        for part in self.layout.parts:
            held = self.held.get((id(part), "_buffers"))
            if held is not None:
                dict.update(held, {n: self.new.get(id(t), t) for n, t in own_of(part, "_buffers").items()})

    def bind(self) -> None:
        """Put the tensors in place, until the outermost `held()` block ends."""
        scope = here
        if not scope.depth:
            raise AssertionError("tensors are bound in a held() block")
        if scope.now is self:
            return
        for part in self.layout.parts:
            scope.keep(part)
        for part in self.layout.parts:
            for place in PLACES:
                held = self.held.get((id(part), place))
                if held is not None:
                    for name in dict.keys(held) & part.__dict__.keys():
                        del part.__dict__[name]  # a forward pass has put a tensor in front of its parameter
                    part.__dict__[place] = held
        for part, name, value in self.layout.aliases:
            part.__dict__[name] = self._replaced(value)
            scope.aliased.add((id(part), name))
        for cell, own in zip(self.layout.cells, self.layout.contents, strict=True):
            scope.cells.setdefault(id(cell), (cell, own))
            cell.cell_contents = self.new.get(id(own), own)
        scope.now = self
        scope.record.add(self)
        RECORDS[id(scope.record)] = scope.record

    @contextmanager
    def beside_places(self) -> Iterator[None]:
        """Have plain attributes and closures refer to these tensors once more, for the length of a block."""
        before = [(part, name, part.__dict__.get(name)) for part, name, _ in self.layout.aliases]
        cells = [(cell, content_of(cell)) for cell in self.layout.cells]
        for part, name, value in self.layout.aliases:
            part.__dict__[name] = self._replaced(value)
        for cell, own in zip(self.layout.cells, self.layout.contents, strict=True):
            cell.cell_contents = self.new.get(id(own), own)
        try:
            yield
        finally:
            for part, name, value in before:
                part.__dict__[name] = value
            for cell, content in cells:
                cell.cell_contents = content

    def _replaced(self, value: Any, depth: int = DEPTH) -> Any:
        if isinstance(value, Tensor):
            return self.new.get(id(value), value)
        if isinstance(value, partial):
            args, keywords = self._replaced([value.args, value.keywords], depth)
            return partial(value.func, *args, **keywords)
        if not depth or type(value) not in (list, tuple, dict):
            return value
        if isinstance(value, dict):
            return {key: self._replaced(item, depth - 1) for key, item in value.items()}
        return type(value)(self._replaced(item, depth - 1) for item in value)
