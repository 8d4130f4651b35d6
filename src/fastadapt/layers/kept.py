"""Backward passes that run parts of a module again, within a block in which tensors are bound or long after it."""

import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils import _pytree as pytree

from fastadapt.layers.binding import Held
from fastadapt.layers.scope import GONE, PLACES, RECORDS, UNDER_WAY, Record, again_block, here, made_under

_node = torch._C._current_autograd_node


class running_again:  # noqa: N801 - used as a function
    """Around a backward pass: run each module that is run again inside `within(note)`, with its binding's note.

    torch knows hooks for all modules; they are there as long as any block is open.
    """

    _lock = threading.Lock()
    _open = 0
    _hooks: ClassVar[list[Any]] = []
    _block = again_block

    def __init__(self, within: Callable[[Any], Any]) -> None:
        self.within = within

    def __enter__(self) -> None:
        cls = running_again
        with cls._lock:
            cls._open += 1
            if cls._open == 1:
                enter = register_module_forward_pre_hook(self._enter)
                cls._hooks = [enter, register_module_forward_hook(self._leave, always_call=True)]

    def __exit__(self, *exception: object) -> None:
        cls = running_again
        with cls._lock:
            cls._open -= 1
            if not cls._open:
                for hook in cls._hooks:
                    hook.remove()

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        block = self._block
        depth = getattr(block, "depth", 0)
        if not depth:
            node = _node()
            binding = None if node is None else made_under(node)
            if binding is None:
                return
            block.stack = ExitStack()
            block.stack.enter_context(self.within(binding.note))
            block.stack.enter_context(binding.beside_places())
        block.depth = depth + 1

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        block = self._block
        depth = getattr(block, "depth", 0)
        if depth:
            block.depth = depth - 1
            if depth == 1:
                block.stack.close()


def hooked_by_others() -> bool:
    """Return whether others have put hooks on all modules; those of `running_again` do nothing in a forward pass."""
    on_all = (torch_module._global_forward_pre_hooks, torch_module._global_forward_hooks)
    if not any(on_all):
        return False
    own = {hook.id for hook in running_again._hooks}
    return any(number not in own for hooks in on_all for number in hooks)


class Kept:
    """Keep what a `held()` block has bound for as long as a graph that was made in it lives.

    A graph that leaves the block may run parts of the module again when it is differentiated. Until it is gone the
    module's dictionaries answer as usual, and to its backward pass with what was bound at the time.

    Args:
        within: a context in which parts of the module are run again, see `running_again`.
    """

    def __init__(self, within: Callable[[Any], Any]) -> None:
        scope = here
        scope.record.add(None)  # where the block ends
        record, parts = scope.record, [part for part, _ in scope.before.values()]
        record.kept = True
        RECORDS[id(record)] = record
        self.record = record
        for part, before in scope.before.values():
            for place in PLACES:
                own = before[place]
                if own and not isinstance(own, Held):  # else an earlier graph keeps it already
                    before[place] = scope.own[id(part), place] = _answering_as_usual(own, (id(part), place))
        scope.record = Record()
        again = running_again(within)
        again.__enter__()
        refs = [weakref.ref(part) for part in parts]
        weakref.finalize(self, GONE.append, partial(_let_go, record, refs, again))

    def by(self, tree: Any) -> None:
        """Keep it as long as the graph of any tensor of a pytree."""
        for leaf in pytree.tree_leaves(tree):
            if isinstance(leaf, Tensor) and leaf.grad_fn is not None:
                metadata: Any = leaf.grad_fn.metadata
                metadata.setdefault("fastadapt", []).append(self)
                leaf.grad_fn.register_prehook(partial(_come_to, weakref.ref(self)))


def _come_to(kept: "weakref.ref[Kept]", grads: Any) -> None:
    """Note that the backward pass under way has come to a graph that left its block."""
    found, number = kept(), torch._C._current_graph_task_id()
    if found is None or any(ref() is found.record for ref in UNDER_WAY.get(number, ())):
        return
    for old in [old for old in UNDER_WAY if old < number - 64]:  # passes that have long ended
        UNDER_WAY.pop(old, None)
    UNDER_WAY.setdefault(number, []).append(weakref.ref(found.record))


def _answering_as_usual(own: dict[str, Any], place: tuple[int, str]) -> Held:
    """Return a dictionary that holds a module's own tensors, and goes back in time for backward passes."""
    kept = Held(own, place, own)
    kept.plain, kept.own = own, kept
    return kept


def _let_go(record: Record, refs: list[Any], again: running_again) -> None:
    """Give back what was kept for a graph that is gone."""
    RECORDS.pop(id(record), None)
    again.__exit__(None, None, None)
    bound = [binding for other in list(RECORDS.values()) for binding in other.bound if binding is not None]
    still = {id(part) for binding in bound for part in binding.layout.parts}
    for part in (found for ref in refs if (found := ref()) is not None and id(found) not in still):
        for place in PLACES:
            kept = part.__dict__[place]
            if isinstance(kept, Held) and kept.plain is not None:
                values = dict(dict.items(kept))  # what was set in the meantime stays
                kept.plain.clear()
                kept.plain.update(values)
                part.__dict__[place] = kept.plain
