"""What is bound on a thread, since when, and how it is put back."""

import threading
import weakref
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import CellType
from typing import Any

import torch
from torch import nn

from fastadapt.layers.settled import ABSENT, settle, tensors_in

_number = torch.autograd._get_sequence_nr
PLACES = ("_parameters", "_buffers")
_INTERNAL = frozenset(nn.Module().__dict__)
"""What torch keeps on every module, which is no place for what a forward pass leaves behind."""


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
        self.had: dict[int, torch.Tensor] = {}
        self.empty: set[tuple[int, str]] = set()

    def keep(self, part: nn.Module) -> None:
        """Remember what a part of a module looked like before anything was bound."""
        if id(part) not in self.before:
            self.before[id(part)] = part, dict(part.__dict__)
            for place in PLACES:
                self.own[id(part), place] = part.__dict__[place]
                if not part.__dict__[place]:
                    self.empty.add((id(part), place))
            for name, value in part.__dict__.items():
                if name not in _INTERNAL:
                    self.had.update((id(tensor), tensor) for tensor in tensors_in(value))

    def restore(self) -> None:
        """Put back what the modules had, and settle what they have kept on themselves."""
        for part, before in self.before.values():
            now = part.__dict__
            for place in PLACES:
                now[place] = before[place]
                if (id(part), place) in self.empty:  # nothing was laid in its stead, so this is the module's own
                    _settle_new(before[place], place)
                for name in before[place].keys() & now.keys():  # a tensor in front of its parameter
                    del now[name]
            for name in now.keys() - _INTERNAL:
                value, old = now[name], before.get(name, ABSENT)
                if (id(part), name) in self.aliased:
                    now[name] = old
                elif old is not value or type(value) in (list, dict):
                    kept = settle(value, self.had)
                    kept = old if kept is ABSENT else kept
                    if kept is ABSENT:
                        del now[name]
                    elif kept is not value:
                        now[name] = kept
        for cell, own in self.cells.values():
            cell.cell_contents = own
        self.now = None
        self.own, self.before, self.aliased, self.cells, self.had = {}, {}, set(), {}, {}
        self.empty = set()
        RECORDS.pop(id(self.record), None)
        self.record = Record()


def _settle_new(own: dict[str, Any], place: str) -> None:
    """Drop the parameters that a forward pass has made, as elsewhere; keep the buffers without their graph."""
    if own:
        kept = settle(dict(own)) if place == "_buffers" else {}
        own.clear()
        own.update(kept)


class Record:
    """Hold what was bound when: the numbers of nodes at which the binding changed, and what was bound from there on."""

    def __init__(self) -> None:
        self.kept = False
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
UNDER_WAY: dict[int, list["weakref.ref[Record]"]] = {}
"""By the number of a backward pass: the records of the graphs that it has come to and that left their block."""
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
    """Return what was bound when a node of a graph was made; None if nothing was, or it can't be told.

    Nodes are numbered thread by thread. A backward pass on a CPU runs on the thread that asked for it, one on a GPU on
    a thread of torch's own, which serves whoever is differentiating at the moment.
    """
    number = node._sequence_nr()
    mine = here.record.at(number)
    if mine is not None:
        return mine
    refs = UNDER_WAY.get(torch._C._current_graph_task_id(), ())
    kept = [record for ref in refs if (record := ref()) is not None]
    hits = [binding for record in kept if (binding := record.at(number)) is not None]
    if not hits and not _is_of_python():
        open_ones = [record for record in list(RECORDS.values()) if not record.kept]
        hits = [binding for record in open_ones if (binding := record.at(number)) is not None]
    return hits[0] if len({id(binding) for binding in hits}) == 1 else None


again_block = threading.local()


def running_again_now() -> bool:
    """Whether this thread is inside of a module that a backward pass runs again."""
    return getattr(again_block, "depth", 0) > 0


def _is_of_python() -> bool:
    """Whether Python has started the thread; those of torch's engine only get a dummy."""
    ident = threading.get_ident()
    return any(thread.ident == ident and not thread.name.startswith("Dummy-") for thread in threading.enumerate())
