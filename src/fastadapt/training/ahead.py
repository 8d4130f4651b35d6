"""Draw the next meta-batch while the device computes the present one.

Task `i` depends on `(seed, split, i)` alone, so it does not matter when it is drawn: a training has the same tasks, and
one that was stopped draws again what it had drawn ahead. Numbers that a source takes from torch's own generator are
those of its step all the same. A source that looks at the learner sees it one step earlier than on a CPU.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fastadapt.learner import Learner
from fastadapt.methods.fitting import check_labels
from fastadapt.methods.gradient import GradientLearner
from fastadapt.tasks import Tasks

Draw = Callable[[int], list[Tasks]]
"""`draw(step)`, the meta-batch of a step; it seeds torch by the step first."""


def labels_fit(learner: Learner) -> Callable[[list[Tasks]], None]:
    """Return what looks at the labels of tasks as the learner will, which then has no need to wait for the device."""

    def look(tasks: list[Tasks]) -> None:
        if isinstance(learner, GradientLearner) and "train" not in learner.unchecked:
            check_labels(learner, tasks, judged=False)

    return look


class Side(Protocol):
    """Work beside a device's main work."""

    def beside(self) -> AbstractContextManager[Any]:
        """Return a context whose work does not wait for the main work, nor the main work for it."""
        ...

    def done(self) -> Any:
        """Return what marks that the work so far is done."""
        ...

    def wait(self, mark: Any, tensors: list[Tensor]) -> None:
        """Let the main work wait for a mark, after which it uses these tensors."""
        ...


class Stream:
    """Work on a stream of its own of a GPU.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)
        # a source's images may have come to the device a moment ago
        self.stream.wait_stream(torch.cuda.current_stream(device))

    def beside(self) -> AbstractContextManager[Any]:
        """Return the context of the stream."""
        return torch.cuda.stream(self.stream)

    def done(self) -> torch.cuda.Event:
        """Return an event at the end of what the stream has been given."""
        event = torch.cuda.Event()
        event.record(self.stream)
        return event

    def wait(self, mark: torch.cuda.Event, tensors: list[Tensor]) -> None:
        """Let the current stream wait, and keep the memory of the tensors from others while it uses them."""
        current = torch.cuda.current_stream(self.device)
        current.wait_event(mark)
        for tensor in tensors:
            if tensor.is_cuda:
                tensor.record_stream(current)


class Ahead:
    """Give the meta-batch of each step, and draw the next one when it is told that the device is busy.

    On a CPU, which has nothing to wait for, meta-batches are drawn when they are asked for.

    Args:
        draw: draws the meta-batch of a step.
        device: where the tasks are used.
        side: what works beside the device's main work; None is a stream of a GPU, and nothing on a CPU.
        look: looks at the tasks that were drawn ahead, there where it keeps nobody waiting.

    Example:
        >>> ahead = Ahead(lambda step: [], torch.device("cpu"))
        >>> ahead.prepare(1)
        >>> ahead.take(1)
        []
    """

    def __init__(
        self,
        draw: Draw,
        device: torch.device,
        side: Side | None = None,
        look: Callable[[list[Tasks]], None] = lambda tasks: None,
    ) -> None:
        self.draw = draw
        self.look = look
        self.device = device
        self.side = Stream(device) if side is None and device.type == "cuda" else side
        self._prepared: _Prepared | None = None

    def prepare(self, step: int) -> None:
        """Draw the meta-batch of a step; what goes wrong is raised when it is taken."""
        if self.side is None:
            return
        devices = list(range(torch.cuda.device_count())) if self.device.type == "cuda" else []
        tasks: list[Tasks] | Exception
        # the step under way goes on with its own random numbers
        with torch.random.fork_rng(devices=devices), self.side.beside():
            try:
                tasks = self._delivered(step)
                self.look(tasks)
            except Exception as error:
                tasks = error
            states = {None: torch.get_rng_state(), **{d: torch.cuda.get_rng_state(d) for d in devices}}
            self._prepared = _Prepared(step, tasks, self.side.done(), states)

    def take(self, step: int) -> list[Tasks]:
        """Return the meta-batch of a step on the device, and leave torch's random numbers as its drawing leaves them.

        Raises:
            Exception: whatever the source raises.
        """
        found, self._prepared = self._prepared, None
        if self.side is None or found is None or found.step != step:
            return self._delivered(step)
        if isinstance(found.tasks, Exception):
            raise found.tasks
        for place, state in found.states.items():
            if place is None:
                torch.set_rng_state(state)
            else:
                torch.cuda.set_rng_state(state, place)
        leaves = pytree.tree_leaves([(group.support, group.query) for group in found.tasks])
        self.side.wait(found.mark, [leaf for leaf in leaves if isinstance(leaf, Tensor)])
        return found.tasks

    def _delivered(self, step: int) -> list[Tasks]:
        return [group.to(self.device) for group in self.draw(step)]


@dataclass(frozen=True)
class _Prepared:
    """Hold a meta-batch that was drawn ahead, or why it could not be, and the random states that its drawing left."""

    step: int
    tasks: list[Tasks] | Exception
    mark: Any
    states: dict[int | None, Tensor]
