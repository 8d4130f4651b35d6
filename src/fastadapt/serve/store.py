"""The tasks of all users, in memory and for a while: half an hour after the last use, a hundred at most.

A task never changes; only what was adapted to it is added. Its id is 128 random bits, so who does not know it can't
reach the task.
"""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from fastadapt.predictor import Predictor
from fastadapt.serve.jobs import Job
from fastadapt.serve.limits import Limits
from fastadapt.serve.problems import unknown_task


@dataclass(frozen=True)
class Adapted:
    """What the last finished adaptation by one method left.

    Args:
        predictor: the adapted model; whoever calls it copies it before.
        steps: inner steps taken.
        rate: the inner rate that was asked for; None is the method's own.
    """

    predictor: Predictor
    steps: int
    rate: float | None

    @property
    def size(self) -> int:
        """Bytes of its tensors."""
        tensors = [*self.predictor.parameters(), *self.predictor.buffers()]
        return sum(t.numel() * t.element_size() for t in tensors)


@dataclass
class StoredTask:
    """A user's task.

    Args:
        id: by which it is known.
        model: the name of the model it is for.
        classes: names of the classes; None for a regression.
        shots: samples of each class, or of the regression.
        support: `(x, y)`.
    """

    id: str
    model: str
    classes: list[str] | None
    shots: list[int]
    support: tuple[Tensor, Tensor]
    used: float = 0.0
    adapted: dict[str, Adapted] = field(default_factory=dict)
    running: Job | None = None
    size: int = 0
    """Bytes of its tensors, kept by the store: to count them for every request would hold up the event loop."""


class Store:
    """Keep tasks until they are old, too many, or too large together.

    Args:
        limits: of age, number and memory.
        now: the clock, in seconds.
    """

    def __init__(self, limits: Limits, now: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self.now = now
        self._tasks: OrderedDict[str, StoredTask] = OrderedDict()
        self._size = 0
        # the event loop adds and drops, the working threads leave what they adapted
        self._lock = threading.RLock()

    def add(
        self, model: str, classes: list[str] | None, shots: list[int], support: tuple[Tensor, Tensor]
    ) -> StoredTask:
        """Keep a new task; others may have to go for it."""
        task = StoredTask(secrets.token_urlsafe(16), model, classes, shots, support, self.now())
        with self._lock:
            self._tasks[task.id] = task
            self._grow(task, sum(t.numel() * t.element_size() for t in support))
            self.sweep()
        return task

    def get(self, name: str) -> StoredTask:
        """Return a task, which counts as using it.

        Raises:
            Problem: 404 if it never was, or is gone.
        """
        with self._lock:
            self.sweep()
            task = self._tasks.get(name)
            if task is None:
                raise unknown_task(name)
            task.used = self.now()
            self._tasks.move_to_end(name)
            return task

    def drop(self, name: str) -> None:
        """Forget a task, and stop what runs on it.

        Raises:
            Problem: 404 if there is none.
        """
        with self._lock:
            task = self._tasks.get(name)
            if task is None:
                raise unknown_task(name)
            self._remove(task)

    def start(self, task: StoredTask, job: Job) -> None:
        """Note the adaptation that runs on a task; one that still ran there is cancelled."""
        with self._lock:
            previous, task.running = task.running, job
        if previous is not None:
            previous.cancel()

    def finish(self, task: StoredTask, job: Job, method: str, adapted: Adapted) -> None:
        """Keep what an adaptation left, unless a newer one has taken its place."""
        with self._lock:
            if task.running is job and not job.cancelled:
                before = task.adapted.get(method)
                task.adapted[method] = adapted
                self._grow(task, adapted.size - (0 if before is None else before.size))
                self.sweep()

    def expires_in(self, task: StoredTask) -> int:
        """Return the seconds for which a task is kept if it is not used again."""
        return max(0, round(task.used + self.limits.ttl_seconds - self.now()))

    def sweep(self) -> None:
        """Drop what is too old, and what has been unused for longest where there is too much."""
        with self._lock:
            oldest = self.now() - self.limits.ttl_seconds
            # the newest stays in any case: whoever has just sent it is about to use it
            while len(self._tasks) > 0:
                first = next(iter(self._tasks.values()))
                full = len(self._tasks) > self.limits.tasks or self._size > self.limits.store_bytes
                if first.used > oldest and not (full and len(self._tasks) > 1):
                    break
                self._remove(first)

    def _grow(self, task: StoredTask, size: int) -> None:
        task.size += size
        if task.id in self._tasks:  # it may be gone while its adaptation still ran
            self._size += size

    def _remove(self, task: StoredTask) -> None:
        del self._tasks[task.id]
        self._size -= task.size
        if task.running is not None:
            task.running.cancel()

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return self._size
