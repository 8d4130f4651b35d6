"""What is bound on a thread, since when, and how it is put back."""

import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import CellType
from typing import Any

import torch
from torch import nn

from fastadapt.layers.settled import ABSENT, settle

_number = torch.autograd._get_sequence_nr
PLACES = ("_parameters", "_buffers")


class _Scope(threading.local):
    """Hold what one thread has bound."""

    def __init__(self) -> None:
        self.depth = 0
        self.now: Any = None
        self.record = Record()
        self.own: dict[tuple[int, str], dict[str, Any]] = {}
        self.before: dict[int, tuple[nn.Module, dict[str, Any]]] = {}
        self.aliased: set[tuple[int, str]] = set()
        self.cells: dict[int, tuple[CellType, Any]] = {}

    def keep(self, part: nn.Module) -> None:
        """Remember what a part of a module looked like before anything was bound."""
        if id(part) not in self.before:
            self.before[id(part)] = part, dict(part.__dict__)
            for place in PLACES:
                self.own[id(part), place] = part.__dict__[place]

    def restore(self) -> None:
        """Put back what the modules had, and settle what they have kept on themselves."""
        for part, before in self.before.values():
            for name, value in list(part.__dict__.items()):
                old = before.get(name, ABSENT)
                if name in PLACES or (id(part), name) in self.aliased:
                    part.__dict__[name] = old
                elif old is not value or type(value) in (list, dict):
                    settled = settle(value)
                    if settled is ABSENT:
                        settled = old
                    if settled is ABSENT:
                        del part.__dict__[name]
                    elif settled is not value:
                        part.__dict__[name] = settled
        for cell, own in self.cells.values():
            cell.cell_contents = own
        self.now = None
        self.own, self.before, self.aliased, self.cells = {}, {}, set(), {}
        RECORDS.pop(id(self.record), None)
        self.record = Record()


class Record:
    """Hold what was bound when: the numbers of nodes at which the binding changed, and what was bound from there on."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.switches: list[int] = []
        self.bound: list[Any] = []

    def add(self, binding: Any) -> None:
        """Note that `binding` holds from here on; None ends it."""
        self.switches.append(_number())
        self.bound.append(binding)

    def at(self, number: int) -> Any:
        """Return what was bound when the node of that number was made."""
        place = bisect_right(self.switches, number)
        return self.bound[place - 1] if place else None


here = _Scope()
RECORDS: dict[int, Record] = {}
"""Every record that a backward pass may still ask for."""
GONE: deque[Callable[[], None]] = deque()
"""What is to be done for graphs that are gone. The garbage collector may run anywhere, so it only queues here."""


def own_of(part: nn.Module, place: str) -> dict[str, Any]:
    """Return the dictionary that is the module's own, whatever is bound."""
    return here.own.get((id(part), place)) or part.__dict__[place]


@contextmanager
def held() -> Iterator[None]:
    """Keep what is bound inside until the end of the outermost such block, with which everything is put back."""
    scope = here
    while GONE and not scope.depth:
        with suppress(IndexError):  # another thread was faster
            GONE.popleft()()
    scope.depth += 1
    try:
        yield
    finally:
        scope.depth -= 1
        if not scope.depth:
            scope.restore()


def made_under(node: Any) -> Any:
    """Return what was bound when a node of a graph was made; None if nothing was, or it can't be told."""
    number = node._sequence_nr()
    mine = here.record.at(number)
    if mine is not None:
        return mine
    # kept for later; or a backward pass on a GPU, which runs on a thread of its own
    thread = threading.get_ident()
    hits = [(record.thread == thread, binding) for record in list(RECORDS.values()) if (binding := record.at(number))]
    mine_first = [binding for own, binding in hits if own] or [binding for _, binding in hits]
    return mine_first[0] if len({id(binding) for binding in mine_first}) == 1 else None
