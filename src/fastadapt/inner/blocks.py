"""The blocks of a network, such as the layers of a transformer, each computed again for its derivatives."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack
from torch.utils import _pytree as pytree

from fastadapt.errors import ConfigError
from fastadapt.inner.attention import Attention
from fastadapt.inner.generators import random_state, set_random_state
from fastadapt.inner.recomputed import Recomputable
from fastadapt.layers.layout import Layout
from fastadapt.layers.rewrites import Rewrites
from fastadapt.layers.scope import PLACES, again_block
from fastadapt.layers.tracing import Audience, audience, written_for

_inside = threading.local()
"""Whether this thread computes a block, whose own parts are no blocks then."""


def blocks_of(model: nn.Module, named: Sequence[str] | None = None) -> dict[str, nn.Module]:
    """Return the parts of a network that repeat, by name: the items of its lists of modules of one class.

    Args:
        model: the network.
        named: the parts to take instead; of a list or a sequence its items.

    Raises:
        ConfigError: if nothing repeats, or there is no part of that name.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 4), nn.Sequential(*[nn.Linear(4, 4) for _ in range(3)]))
        >>> list(blocks_of(net))
        ['1.0', '1.1', '1.2']
    """
    parts = dict(model.named_modules())
    if named is not None:
        lacking = [name for name in named if name not in parts]
        if lacking:
            raise ConfigError(f"recompute names {lacking[0]!r}, and {type(model).__name__} has no part of that name")
        found = {}
        for name in named:
            found |= _items(name, parts[name]) if _lists(parts[name]) else {name: parts[name]}
        return found
    found = {}
    for name, part in parts.items():
        if not any(name.startswith(f"{block}.") for block in found) and _lists(part):
            items = _items(name, part)
            kinds = {type(item) for item in items.values()}
            if len(items) > 1 and len(kinds) == 1 and all(any(True for _ in i.parameters()) for i in items.values()):
                found |= items
    if not found:
        raise ConfigError(
            f"no part of {type(model).__name__} repeats, so there are no blocks to compute again; name some: "
            "Exact(recompute=('encoder', 'head'))"
        )
    return found


def _lists(part: nn.Module) -> bool:
    return isinstance(part, (nn.ModuleList, nn.Sequential))


def _items(name: str, part: nn.Module) -> dict[str, nn.Module]:
    return {f"{name}.{key}" if name else key: item for key, item in part.named_children()}


@contextmanager
def recomputing(model: nn.Module, named: Sequence[str] | None, layout: Layout) -> Iterator[None]:
    """Compute the blocks of a network without keeping their graphs, for the length of a block.

    Raises:
        ConfigError: if there are none, or the network refers to its parameters in ways that can't be followed.
    """
    if layout.refers:
        raise ConfigError(
            f"{type(model).__name__} refers to a parameter in a closure or a list of its own, which can't be replaced "
            "when a block is computed again; use the parameter as an attribute of a module, or take recompute=None"
        )
    blocks = blocks_of(model, named)
    before = {name: block.__dict__.get("forward") for name, block in blocks.items()}
    for name, block in blocks.items():
        block.__dict__["forward"] = _without_graph(name, block, block.forward)
    try:
        yield
    finally:
        for name, block in blocks.items():
            if before[name] is None:
                block.__dict__.pop("forward", None)
            else:
                block.__dict__["forward"] = before[name]


def _without_graph(name: str, block: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        modes = [mode for mode in _get_current_function_mode_stack() if isinstance(mode, Rewrites)]
        statistics = modes[-1].statistics if modes else None
        # moments with a graph, which one pass over the network hands to another, enter a block by no argument
        hands_on = statistics is not None and (statistics.to_give or statistics.given is not None)
        if getattr(_inside, "block", False) or hands_on or not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        bound = _Once(block, forward, (args, kwargs))
        outputs = Recomputable(bound, f"the block {name!r}", large=True)(bound.tensors)
        leaves: list[Any] = list(bound.outputs)
        for place, output in zip(bound.places, outputs, strict=True):
            leaves[place] = output
        return pytree.tree_unflatten(leaves, bound.structure)

    return run


class _Once:
    """Hold one call of a block: what enters it, and the circumstances in which to run it again."""

    def __init__(self, block: nn.Module, forward: Callable[..., Any], arguments: Any) -> None:
        self.forward = forward
        self.arguments, self.form = pytree.tree_flatten(arguments)
        self.given = [i for i, leaf in enumerate(self.arguments) if isinstance(leaf, Tensor)]
        parts = list(block.modules())
        self.held = [(part, place, dict(part.__dict__[place].items())) for part in parts for place in PLACES]
        own: dict[int, Tensor] = {}
        for _, _, values in self.held:
            own |= {id(v): v for v in values.values() if isinstance(v, Tensor) and v.requires_grad}
        self.own = list(own)
        self.tensors = [*(self.arguments[i] for i in self.given), *own.values()]
        for i in self.given:
            self.arguments[i] = None
        self.began = random_state(self.tensors)
        self.modes = [mode for mode in _get_current_function_mode_stack() if isinstance(mode, Rewrites)]
        self.whom: Audience = audience()
        self.autocast = [
            (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind), torch.is_autocast_cache_enabled())
            for kind in ("cpu", "cuda")
        ]
        self.outputs: list[Any] = []
        self.places: list[int] = []
        self.structure: Any = None
        self.came = 0

    def __call__(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        again, self.came = bool(self.came), 1
        count = len(self.given)
        arguments = list(self.arguments)
        for i, tensor in zip(self.given, tensors[:count], strict=True):
            arguments[i] = tensor
        args, kwargs = pytree.tree_unflatten(arguments, self.form)
        with self._in_place(dict(zip(self.own, tensors[count:], strict=True))), self._as_then(again), Attention():
            leaves, structure = pytree.tree_flatten(self.forward(*args, **kwargs))
        if not again:
            self.structure = structure
            self.places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
            self.outputs = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        return [leaves[place] for place in self.places]

    @contextmanager
    def _in_place(self, new: dict[int, Tensor]) -> Iterator[None]:
        """Lay the tensors in the places of those that were bound when the block was called."""
        before = [(part, place, part.__dict__[place]) for part, place, _ in self.held]
        inside, _inside.block = getattr(_inside, "block", False), True
        again_block.depth = getattr(again_block, "depth", 0) + 1  # nothing goes back to what was bound; it is here
        try:
            for part, place, values in self.held:
                part.__dict__[place] = {name: new.get(id(value), value) for name, value in values.items()}
            yield
        finally:
            _inside.block = inside
            again_block.depth -= 1
            for part, place, values in before:
                part.__dict__[place] = values

    @contextmanager
    def _as_then(self, again: bool) -> Iterator[None]:
        """Draw what was drawn, round as was rounded, and normalise as was normalised."""
        if not again:
            yield
            return
        now = random_state(self.began.devices and self.tensors)
        with ExitStack() as stack:
            stack.callback(set_random_state, now)
            set_random_state(self.began)
            stack.enter_context(written_for(self.whom))
            for kind, dtype, enabled, cached in self.autocast:
                stack.enter_context(torch.autocast(kind, dtype, enabled, cached) if enabled else nullcontext())
            for mode in self.modes:
                stack.enter_context(Rewrites(mode.statistics.again(), mode.referred))
            yield
