"""Tasks: what a learner adapts to, and how they are drawn.

A *task source* is any object with `sample(rng) -> Task`, or simply such a function. If it also has
`sample_batch(rngs) -> Tasks`, a whole meta-batch is drawn at once. Task `i` of a run depends only on
`(seed, split, i)`: see `fastadapt.batches.streams`. What a task is stands in `fastadapt.batches.meta_batch`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from fastadapt.batches.leaves import Collector as Collector
from fastadapt.batches.leaves import first_tensor as first_tensor
from fastadapt.batches.leaves import is_collector as is_collector
from fastadapt.batches.leaves import map_tensors as map_tensors
from fastadapt.batches.meta_batch import WRITE
from fastadapt.batches.meta_batch import Task as Task
from fastadapt.batches.meta_batch import Tasks as Tasks
from fastadapt.batches.meta_batch import as_groups as as_groups
from fastadapt.batches.meta_batch import as_support as as_support
from fastadapt.batches.meta_batch import group_by_shape as group_by_shape
from fastadapt.batches.stream import Stream as Stream
from fastadapt.batches.stream import chunk_of as chunk_of
from fastadapt.batches.streams import task_rng as task_rng
from fastadapt.batches.streams import task_rngs as task_rngs
from fastadapt.batches.uniforms import uniforms
from fastadapt.errors import TaskError


@runtime_checkable
class TaskSource(Protocol):
    """Draw tasks: the one thing a data set must be able to do."""

    def sample(self, rng: np.random.Generator) -> Task:
        """Return one task that depends on nothing but `rng`."""
        ...


@runtime_checkable
class BatchTaskSource(TaskSource, Protocol):
    """Draw tasks one by one, or many at once: worth it where one array holds the data of all tasks."""

    def sample_batch(self, rngs: Sequence[np.random.Generator]) -> Tasks:
        """Return one task per generator, in order; task `i` is, bit for bit, `sample(rngs[i])`."""
        ...


@runtime_checkable
class UniformTaskSource(TaskSource, Protocol):
    """Make tasks of uniform random numbers alone, so that those of many meta-batches are drawn ahead at once.

    It never changes, and is compared and hashed by its settings.
    """

    @property
    def numbers(self) -> int:
        """How many numbers a task takes."""
        ...

    def of_numbers(self, u: np.ndarray) -> Tasks:
        """Return a task for each row of `u: [T, numbers]`, in tuples; `rng.random(numbers)` gives `sample(rng)`."""
        ...


@dataclass(frozen=True)
class Origin:
    """Hold what the samples of a task are called, for a person who wants to look at them.

    A source that has `origin(rng) -> Origin` says so of the task that `sample(rng)` returns.

    Args:
        support: a name for each support sample, such as its file.
        query: a name for each query sample.
        classes: what each number of the task's labels stands for; None where they are no classes.
    """

    support: list[str]
    query: list[str]
    classes: list[str] | None = None


SampleFunction = Callable[[np.random.Generator], Task]


def sampler(source: TaskSource | SampleFunction) -> SampleFunction:
    """Return the function that draws one task from `source`, an object with `sample` or a function.

    Raises:
        TaskError: if `source` is neither.
    """
    if isinstance(source, TaskSource):
        return source.sample
    if callable(source):
        return source
    raise TaskError(
        f"a task source needs a method sample(rng) -> Task, or is such a function; got {type(source).__name__}"
    )


def draw(source: TaskSource | SampleFunction, *, seed: int, split: str, indices: Iterable[int]) -> list[Task]:
    """Return the tasks with the given `indices` of the stream `(seed, split)`.

    Raises:
        TaskError: if the source returns something that is not a `Task`.

    Example:
        >>> import torch
        >>> from fastadapt import Task
        >>> def sample(rng):
        ...     x = torch.as_tensor(rng.uniform(-1, 1, (4, 1)))
        ...     return Task((x[:2], x[:2]), (x[2:], x[2:]))
        >>> a = draw(sample, seed=0, split="train", indices=[3, 4])
        >>> b = draw(sample, seed=0, split="train", indices=[4])
        >>> torch.equal(a[1].support[0], b[0].support[0])
        True
    """
    sample = sampler(source)
    tasks = []
    numbers = list(indices)
    for index, rng in zip(numbers, task_rngs(seed, split, numbers), strict=True):
        task = sample(rng)
        if not isinstance(task, Task):
            raise TaskError(
                f"sample(rng) must return a fastadapt.Task, got {type(task).__name__} for task {index} of {split!r}; "
                f"{WRITE}"
            )
        tasks.append(task)
    return tasks


def draw_batch(source: TaskSource | SampleFunction, *, seed: int, split: str, indices: Iterable[int]) -> list[Tasks]:
    """Return a meta-batch: `group_by_shape(draw(...))`, bit for bit, but drawn at once where the source can.

    Args:
        source: with `sample_batch(rngs) -> Tasks`, the tasks are one group made in one call. A class that
            overrides `sample` alone has redefined its tasks, so an inherited `sample_batch` is not used. With
            `of_numbers(u) -> Tasks`, tasks in order are made some thousands ahead, and kept until they are asked for.
        seed: the run's seed, `0..2^63-1`.
        split: the name of the stream.
        indices: the numbers of the tasks in that stream, at least one.

    Returns:
        Groups of tasks of equal shapes, on the device where the source makes them.

    Raises:
        TaskError: if `indices` is empty, or the source returns something else than it should.

    Example:
        >>> from fastadapt.data.sinusoid import Sinusoid
        >>> [group] = draw_batch(Sinusoid(shots=5), seed=0, split="train", indices=range(25))
        >>> group.support[0].shape
        torch.Size([25, 5, 1])
    """
    numbers = list(indices)
    if seed >= 0 and _in_order(numbers) and _has(source, "of_numbers", ("sample_batch", "sample")):
        ahead = NUMBERS_AHEAD // source.numbers  # type: ignore[attr-defined]
        if ahead >= len(numbers):
            return [_from_blocks(source, seed, split, numbers, ahead)]  # type: ignore[arg-type]
    if not numbers or not _has(source, "sample_batch", ("sample",)):
        return group_by_shape(draw(source, seed=seed, split=split, indices=numbers))
    assert isinstance(source, BatchTaskSource)
    tasks = source.sample_batch(task_rngs(seed, split, numbers))
    if not isinstance(tasks, Tasks) or len(tasks) != len(numbers):
        got = f"{len(tasks)} tasks" if isinstance(tasks, Tasks) else type(tasks).__name__
        raise TaskError(
            f"sample_batch(rngs) of {type(source).__name__} must return a fastadapt.Tasks with one task per "
            f"generator, got {got} for {len(numbers)} generators; tasks of several shapes need sample(rng) alone"
        )
    return [tasks]


def _has(source: object, method: str, others: tuple[str, ...]) -> bool:
    """Return whether a method belongs to the class that says what a task is by others, or to one derived from it."""
    for kind in type(source).__mro__:
        if method in vars(kind):
            return True
        if any(other in vars(kind) for other in others):
            return False
    return False


# ---- ahead ---------------------------------------------------------------------------------------

NUMBERS_AHEAD = 1 << 15
"""Random numbers of the tasks that are made ahead."""
FEW = 8
"""Tasks below which nothing is made ahead: a single one is not the first of thousands."""


def _in_order(numbers: list[int]) -> bool:
    first = numbers[0] if numbers else -1
    return len(numbers) >= FEW and first >= 0 and numbers == list(range(first, first + len(numbers)))


def _from_blocks(source: UniformTaskSource, seed: int, split: str, numbers: list[int], ahead: int) -> Tasks:
    """Return copies of tasks in order, from the blocks of `ahead` tasks that they lie in, at most two."""
    first, last = numbers[0] // ahead, numbers[-1] // ahead
    a, b = numbers[0] - first * ahead, numbers[-1] + 1 - last * ahead
    here = _block(source, seed, split, first, ahead)
    there = here if first == last else _block(source, seed, split, last, ahead)
    halves = []
    for half, other in zip(here, there, strict=True):
        parts = [
            x[a:b].copy() if first == last else np.concatenate((x[a:], y[:b])) for x, y in zip(half, other, strict=True)
        ]
        halves.append(tuple(map(torch.from_numpy, parts)))
    return Tasks(*halves)


@lru_cache(maxsize=4)
def _block(source: UniformTaskSource, seed: int, split: str, block: int, ahead: int) -> tuple[list[np.ndarray], ...]:
    """Return the tensors of support and query of the tasks of a block, as arrays."""
    indices = range(block * ahead, (block + 1) * ahead)
    tasks = source.of_numbers(uniforms(seed, split, indices, source.numbers))
    return tuple([leaf.numpy() for leaf in half] for half in (tasks.support, tasks.query))
