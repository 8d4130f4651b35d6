"""Run all tasks at once as one CUDA graph: what `vmapped` launches, recorded once for a shape and launched as a whole.

A vmapped meta-gradient is some thousand small kernels, and Python takes longer to launch them than a GPU to run them.
A graph launches them by one call, with the numbers of the eager call and no compiler.

* The tasks are copied into tensors that stay in their places. So are tensors of the state that come from elsewhere each
  time; those that stay (parameters, which an optimizer changes in place) are read where they are.
* Results are copied out, as the next replay writes over them.
* Random numbers go on from the device's generator, so dropout draws afresh at each replay, as the eager call would.
* Graphs share one pool of memory. The least recently used is let go where there are many, or where they hold much.

What can't be recorded raises `Uncapturable`, and the eager vmap serves.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fastadapt.batches.leaves import label
from fastadapt.engine.checks import ambient
from fastadapt.engine.memory import budget
from fastadapt.engine.parts import in_chunks
from fastadapt.engine.recorder import OnCuda, Recorder, Uncapturable, is_recorded
from fastadapt.engine.strategy import TaskFunction
from fastadapt.engine.vmapped import Vmapped
from fastadapt.inner.generators import repeats
from fastadapt.layers.rewrites import tell_once
from fastadapt.tasks import Tasks

__all__ = ["Graph", "Graphs", "Uncapturable"]

MOST = 32
"""Graphs that are kept."""
RETURNS = 64
"""Times that a shape has to come until it is recorded again, when its graph was let go."""
REMEMBERED = 1000
"""Shapes whose calls are counted."""
WARMING = 2
"""Calls before a recording, in which libraries load and choose their kernels."""


class Graphs:
    """Keep graphs of functions of one task, by function and shape.

    Args:
        gigabytes: what the graphs may hold together; None is half of the GPU's memory.
        recorder: makes what records on a device.
        after: calls of a shape that run eagerly before it is recorded, which takes as long as some ten of them.
    """

    def __init__(
        self,
        gigabytes: float | None = None,
        recorder: Callable[[torch.device], Recorder] = OnCuda,
        after: int = 1,
    ) -> None:
        self.after = after
        self._calls: dict[Any, int] = {}
        self.gigabytes = gigabytes
        self.kept: dict[Any, _Graph] = {}
        self._make = recorder
        self._recorders: dict[torch.device, Recorder] = {}
        self._moving: dict[Any, frozenset[int]] = {}
        self.refused: dict[Any, str] = {}

    def run(
        self, f: TaskFunction, state: Any, tasks: Tasks, extra: Any, segment: int | None = None, key: Any = ()
    ) -> tuple[Any, Any]:
        """Return what `fastadapt.engine.vmapped.Vmapped` returns for the same arguments.

        Args:
            f: the function of one task; of functions with one key the first is recorded.
            state: everything that it depends on besides the task: a pytree of tensors.
            tasks: stacked tasks.
            extra: a pytree of tensors with a leading task axis.
            segment: inner steps whose graph is kept at once.
            key: what else distinguishes the function: all that its Python code reads.

        Raises:
            Uncapturable: if it can't be recorded.
        """
        if is_recorded():
            return Vmapped(segment).run(f, state, tasks, extra)
        inputs, form = pytree.tree_flatten((tasks.support, tasks.query, extra))
        held, state_form = pytree.tree_flatten(state)
        settings = str(ambient()), torch.are_deterministic_algorithms_enabled()
        place = (key, segment, settings, form, state_form, *map(_kind, inputs), *map(_kind, held))
        if place in self.refused:
            raise Uncapturable(self.refused[place])
        graph = self.kept.pop(place, None)
        if graph is None and self._calls.get(place, 0) < self.after:
            if len(self._calls) > REMEMBERED:
                self._calls.clear()
            self._calls[place] = self._calls.get(place, 0) + 1
            return Vmapped(segment).run(f, state, tasks, extra)
        if graph is None or not graph.stands(held):
            if graph is not None:  # what lies elsewhere this time will do so again
                self._moving[place] = self._moving.get(place, frozenset()) | graph.elsewhere(held)
            graph = None  # lets go of its memory before more is asked for
            try:
                graph = self._record(f, held, state_form, inputs, form, segment, self._moving.get(place, frozenset()))
            except Uncapturable as error:
                self.refused[place] = str(error)
                raise
        self.kept[place] = graph  # the most recently used stands last
        return graph(held, inputs)

    def recorder(self, device: torch.device) -> Recorder:
        """Return what records on a device; whatever it records shares its memory."""
        if device not in self._recorders:
            self._recorders[device] = self._make(device)
        return self._recorders[device]

    def _record(
        self,
        f: TaskFunction,
        held: list[Any],
        state_form: Any,
        inputs: list[Any],
        form: Any,
        segment: int | None,
        moving: frozenset[int],
    ) -> "_Graph":
        device = _device([*inputs, *held])
        recorder = self.recorder(device)
        self._make_room(device, recorder)
        own = [_static(leaf) for leaf in inputs]
        kept = [_static(leaf) if i in moving else leaf for i, leaf in enumerate(held)]

        def function() -> Any:
            support, query, extra = pytree.tree_unflatten(own, form)
            return Vmapped(segment).run(f, pytree.tree_unflatten(kept, state_form), Tasks(support, query), extra)

        torch.clear_autocast_cache()
        before = recorder.allocated()
        generators = recorder.generator(), torch.get_rng_state()
        try:
            _warm(recorder, function)
            torch.clear_autocast_cache()
            with torch.no_grad():
                results, replay = recorder.record(function)
        finally:  # the first replay draws what the eager call would have drawn
            recorder.set_generator(generators[0])
            torch.set_rng_state(generators[1])
            torch.clear_autocast_cache()
        outputs, results_form = pytree.tree_flatten(results)
        places = [None if i in moving else _place(leaf) for i, leaf in enumerate(held)]
        taken = max(0, recorder.allocated() - before)
        return _Graph(function, replay, own, kept, places, outputs, results_form, taken)

    def _make_room(self, device: torch.device, recorder: Recorder) -> None:
        """Let go of the graph that was not used for longest, or of all where they hold more than they may."""
        if sum(graph.bytes for graph in self.kept.values()) > budget(device, self.gigabytes):
            self.kept.clear()  # a pool gives back what it has when nothing lies in it
            recorder.forget()
        while len(self.kept) >= MOST:
            place = next(iter(self.kept))
            del self.kept[place]
            self._calls[place] = self.after - RETURNS  # where shapes are many, recordings would be all that happens


@dataclass(frozen=True)
class Graph:
    """Strategy "graph": replay what was recorded, in chunks, and run eagerly what can't be.

    Args:
        graphs: the learner's graphs.
        eager: how tasks run otherwise, in its chunks and segments.
        key: what distinguishes the function: all that its Python code reads.
    """

    graphs: Graphs
    eager: Vmapped
    key: Any

    def run(self, f: TaskFunction, state: Any, tasks: Tasks, extra: Any) -> tuple[Any, Any]:
        """Return the mean over tasks of the first result, and the stack of the second."""

        def at_once(few: Tasks, rest: Any) -> tuple[Any, Any]:
            try:
                return self.graphs.run(f, state, few, rest, self.eager.segment, self.key)
            except Uncapturable as error:
                tell_once(f"tasks run without CUDA graphs, because {error}")
                return Vmapped(self.eager.segment).run(f, state, few, rest)

        return in_chunks(self.eager.chunk, tasks, extra, at_once)


def _warm(recorder: Recorder, function: Callable[[], Any]) -> None:
    """Run the function as often as it takes until it can be recorded, and see whether it can.

    Raises:
        Uncapturable: if it can't.
    """
    for call in range(WARMING):
        generators = recorder.generator(), torch.get_rng_state()
        with repeats() as repeated:
            results = recorder.warm(function, strict=call > 0)
        if any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in pytree.tree_leaves(results)):
            raise Uncapturable("its result depends on tensors that require a gradient beside the learner's own")
        if not torch.equal(torch.get_rng_state(), generators[1]) and not _same_generator(recorder):
            raise Uncapturable("it draws random numbers on the CPU")
        if repeated and not torch.equal(recorder.generator(), generators[0]):
            raise Uncapturable("inner steps that draw random numbers (dropout?) are computed a second time")
        del results


def _same_generator(recorder: Recorder) -> bool:
    """Whether the device's generator is the CPU's."""
    return torch.equal(recorder.generator(), torch.get_rng_state())


@dataclass
class _Graph:
    """Hold one recording, and the tensors that it reads and writes.

    Args:
        function: what was recorded; with it all that its code refers to stays where it is.
        replay: computes it.
        inputs: the tensors that tasks are copied into, and what rides along.
        state: the tensors that it takes for the state.
        places: where each lies; None for copies.
        outputs: what every replay writes to.
        form: how these make up the results.
        bytes: what the device holds for it.
    """

    function: Callable[[], Any]
    replay: Callable[[], None]
    inputs: list[Any]
    state: list[Any]
    places: list[Any]
    outputs: list[Any]
    form: Any
    bytes: int

    def elsewhere(self, held: list[Any]) -> frozenset[int]:
        """Return which tensors of a state lie elsewhere than what the graph reads."""
        pairs = enumerate(zip(self.places, held, strict=True))
        return frozenset(i for i, (place, leaf) in pairs if place is not None and place != _place(leaf))

    def stands(self, held: list[Any]) -> bool:
        """Return whether the tensors of a state lie where the graph reads them."""
        return not self.elsewhere(held)

    def __call__(self, held: list[Any], inputs: list[Any]) -> tuple[Any, Any]:
        """Return the results for this state and these tasks, in tensors of their own."""
        copied = [i for i, place in enumerate(self.places) if place is None]
        mine = [*self.inputs, *(self.state[i] for i in copied)]
        given = [*inputs, *(held[i] for i in copied)]
        with torch.no_grad():
            copy_all(mine, given)
            self.replay()
            results = [torch.empty_like(leaf) if isinstance(leaf, Tensor) else leaf for leaf in self.outputs]
            copy_all(results, self.outputs)
        return pytree.tree_unflatten(results, self.form)


def copy_all(to: list[Any], given: list[Any]) -> None:
    """Copy every tensor of a list into that of another, those of one type by one launch; the rest is left out."""
    kinds: dict[Any, tuple[list[Tensor], list[Tensor]]] = {}
    for mine, leaf in zip(to, given, strict=True):
        if isinstance(leaf, Tensor) and leaf.numel():
            columns = kinds.setdefault(leaf.dtype, ([], []))
            columns[0].append(mine)
            columns[1].append(leaf)
    for mine, leaves in kinds.values():
        torch._foreach_copy_(mine, leaves)


def _static(leaf: Any) -> Any:
    return leaf.detach().clone() if isinstance(leaf, Tensor) else leaf


def _kind(leaf: Any) -> Any:
    """Return what a recording takes of a leaf as fixed."""
    return (leaf.shape, leaf.dtype, leaf.device) if isinstance(leaf, Tensor) else label(leaf)


def _place(leaf: Any) -> Any:
    return (leaf.data_ptr(), leaf.stride()) if isinstance(leaf, Tensor) else ()


def _device(leaves: list[Any]) -> torch.device:
    """Return the one device of all tensors.

    Raises:
        Uncapturable: if there are several, as a number on the CPU would be read once and for all.
    """
    devices = {leaf.device for leaf in leaves if isinstance(leaf, Tensor)}
    if len(devices) != 1:
        names = " and ".join(sorted(map(str, devices))) or "no device"
        raise Uncapturable(f"its tensors lie on {names}, and a graph runs on one GPU")
    return devices.pop()
