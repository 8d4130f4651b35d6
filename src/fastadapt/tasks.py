"""Tasks: what a learner adapts to, how they are drawn, and how they are batched.

A `Task` is a support set (what the learner adapts on) and a query set (what it is judged on).
`Tasks` is the same with a leading task axis `T`. A *task source* is any object with
`sample(rng) -> Task`, or simply such a function. If it also has `sample_batch(rngs) -> Tasks`, a
whole meta-batch is drawn at once.

Task `i` of a run depends only on `(seed, split, i)`: a counter-based generator (Philox) is
positioned at `i`, so neither the number of workers, nor a resume, nor what was drawn before can
change it.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.random.bit_generator import ISeedSequence
from torch import Tensor
from torch.utils import _pytree as pytree

from fastadapt.errors import TaskError


@dataclass(frozen=True)
class Task:
    """Hold one task: the samples to adapt on and the samples to be judged on.

    Args:
        support: a pytree of tensors, by default a pair `(x, y)` with `x: [K, ...]`; or a function
            `collect(model) -> batch` that gathers the batch with the model as adapted so far
            (reinforcement learning).
        query: as `support`; disjoint from it.

    Example:
        >>> import torch
        >>> task = Task((torch.zeros(5, 1), torch.zeros(5, 1)), (torch.ones(3, 1), torch.ones(3, 1)))
        >>> task.query[0].shape
        torch.Size([3, 1])
    """

    support: Any
    query: Any


@dataclass(frozen=True)
class Tasks:
    """Hold `T` tasks of equal shapes, stacked along a leading task axis.

    Args:
        support: as in `Task`, every leaf with a leading axis `T`; or a tuple of `T` collectors.
        query: as `support`.
        positions: where each task stood in the list it was grouped from; default `0..T-1`.
    """

    support: Any
    query: Any
    positions: tuple[int, ...] = field(default=())

    def __post_init__(self) -> None:
        leaves = pytree.tree_leaves((self.support, self.query))
        stacked = not any(callable(leaf) for leaf in leaves)
        sizes = {leaf.shape[0] if isinstance(leaf, Tensor) and leaf.dim() else None for leaf in leaves}
        if stacked and (len(sizes) != 1 or None in sizes or sizes == {0}):
            raise TaskError(
                f"Tasks needs every tensor to share one leading task axis of at least 1, got leading sizes {sizes}; "
                "stack equal-shaped tasks with group_by_shape([...])"
            )
        if not self.positions:
            size = leaves[0].shape[0] if stacked else len(self.support)
            object.__setattr__(self, "positions", tuple(range(size)))

    @property
    def stacked(self) -> bool:
        """Whether the leaves are tensors with a task axis (false for collectors)."""
        return not any(callable(leaf) for leaf in pytree.tree_leaves((self.support, self.query)))

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> Task:
        if self.stacked:
            return Task(*pytree.tree_map(lambda leaf: leaf[index], (self.support, self.query)))
        return Task(self.support[index], self.query[index])

    def __iter__(self) -> Iterator[Task]:
        return (self[i] for i in range(len(self)))

    def to(self, device: torch.device | str) -> "Tasks":
        """Return the same tasks with every tensor on `device`."""
        device = torch.device(device)
        leaves = pytree.tree_leaves((self.support, self.query))
        if any(callable(leaf) for leaf in leaves) or all(leaf.device == device for leaf in leaves):
            return self
        support, query = pytree.tree_map(lambda leaf: leaf.to(device), (self.support, self.query))
        return replace(self, support=support, query=query)


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


SampleFunction = Callable[[np.random.Generator], Task]


class _Key(ISeedSequence):
    """Hand Philox its key as it is; with `Philox(key=...)` each generator would ask the system for unused entropy."""

    def __init__(self, seed: int, split: str) -> None:
        self.words = np.array([seed, _split_key(split)], dtype=np.uint64)

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> np.ndarray:
        return self.words


def _split_key(split: str) -> int:
    return int.from_bytes(hashlib.sha256(split.encode()).digest()[:8], "little")


def task_rng(seed: int, split: str, index: int) -> np.random.Generator:
    """Return the generator of task `index` of `(seed, split)`.

    The generator is counter-based (Philox, Salmon et al. 2011): the key is `(seed, split)` and the
    counter starts at `index * 2^192`, so streams never overlap and any one is reached at once.

    Args:
        seed: the run's seed, `0..2^63-1`.
        split: the name of the stream, for example "train" or "val".
        index: the number of the task in its stream, from 0.

    Raises:
        TaskError: if `seed` or `index` is negative.

    Example:
        >>> bool(task_rng(0, "train", 7).random() == task_rng(0, "train", 7).random())
        True
    """
    return task_rngs(seed, split, [index])[0]


def task_rngs(seed: int, split: str, indices: Iterable[int]) -> list[np.random.Generator]:
    """Return the generators of several tasks: `task_rng(seed, split, i)` for each `i` of `indices`, in order.

    Raises:
        TaskError: if `seed` or an index is negative.

    Example:
        >>> [rng.integers(100).item() for rng in task_rngs(0, "train", [7, 8])]
        [25, 88]
    """
    if seed < 0:
        raise TaskError(f"seed and task index must be >= 0, got seed={seed}")
    key, counter, rngs = _Key(seed, split), np.zeros(4, dtype=np.uint64), []
    for index in indices:
        if index < 0:
            raise TaskError(f"seed and task index must be >= 0, got index={index}")
        counter[3] = index  # copied by Philox
        philox = np.random.Philox(key, counter=counter)  # type: ignore[arg-type]  # numpy's stub knows SeedSequence only
        rngs.append(np.random.Generator(philox))
    return rngs


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
                f"sample(rng) must return a fastadapt.Task, got {type(task).__name__} for task {index} of {split!r}"
            )
        tasks.append(task)
    return tasks


def draw_batch(source: TaskSource | SampleFunction, *, seed: int, split: str, indices: Iterable[int]) -> list[Tasks]:
    """Return a meta-batch: `group_by_shape(draw(...))`, bit for bit, but drawn at once where the source can.

    Args:
        source: with `sample_batch(rngs) -> Tasks`, the tasks are one group made in one call. A class that
            overrides `sample` alone has redefined its tasks, so an inherited `sample_batch` is not used.
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
    if not numbers or not _draws_batches(source):
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


def _draws_batches(source: object) -> bool:
    """Return whether `sample_batch` belongs to the class that says what a task is, or to one derived from it."""
    for kind in type(source).__mro__:
        if "sample_batch" in vars(kind):
            return True
        if "sample" in vars(kind):
            return False
    return False


def _shape_key(task: Task) -> Any:
    leaves, structure = pytree.tree_flatten((task.support, task.query))
    if any(callable(leaf) for leaf in leaves):
        return "collector"
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            raise TaskError(
                f"the leaves of a task must be tensors, got {type(leaf).__name__}; convert with torch.as_tensor(...)"
            )
    return str(structure), tuple((tuple(leaf.shape), leaf.dtype) for leaf in leaves)


def group_by_shape(tasks: Sequence[Task]) -> list[Tasks]:
    """Stack tasks of equal shapes, so that tasks of different ways or shots can share a meta-batch.

    Nothing is padded or masked, so every loss and gradient is exact. Groups keep the order in which
    their first task came, and `positions` says where each task stood.

    Raises:
        TaskError: if `tasks` is empty or a leaf is not a tensor.

    Example:
        >>> import torch
        >>> def task(k):
        ...     return Task((torch.zeros(k, 1),), (torch.zeros(2, 1),))
        >>> [(len(g), g.positions) for g in group_by_shape([task(5), task(1), task(5)])]
        [(2, (0, 2)), (1, (1,))]
    """
    if not tasks:
        raise TaskError("a meta-batch needs at least one task, got an empty list")
    members: dict[Any, list[int]] = {}
    for position, task in enumerate(tasks):
        members.setdefault(_shape_key(task), []).append(position)
    groups = []
    for key, positions in members.items():
        chosen = [tasks[p] for p in positions]
        if key == "collector":
            support, query = tuple(t.support for t in chosen), tuple(t.query for t in chosen)
        else:
            support = pytree.tree_map(lambda *leaves: torch.stack(leaves), *(t.support for t in chosen))
            query = pytree.tree_map(lambda *leaves: torch.stack(leaves), *(t.query for t in chosen))
        groups.append(Tasks(support, query, tuple(positions)))
    return groups


def _in_one_numbering(groups: list[Tasks]) -> list[Tasks]:
    """Return the groups such that every task has a place of its own; those that have none are numbered as they come."""
    count = sum(len(group) for group in groups)
    if sorted(p for group in groups for p in group.positions) == list(range(count)):
        return groups
    places = iter(range(count))
    return [replace(group, positions=tuple(next(places) for _ in group.positions)) for group in groups]


def as_groups(tasks: "Tasks | Task | Sequence[Task] | Sequence[Tasks]") -> list[Tasks]:
    """Return any accepted form of a meta-batch as a list of stacked groups.

    Raises:
        TaskError: if `tasks` is none of the accepted forms.
    """
    if isinstance(tasks, Tasks):
        return _in_one_numbering([tasks])
    if isinstance(tasks, Task):
        return group_by_shape([tasks])
    items = list(tasks)
    if items and all(isinstance(item, Tasks) for item in items):
        return _in_one_numbering(items)  # type: ignore[arg-type]
    if all(isinstance(item, Task) for item in items):
        return group_by_shape(items)  # type: ignore[arg-type]
    kinds = sorted({type(item).__name__ for item in items})
    raise TaskError(f"a meta-batch is a Tasks, a list of Task, or a list of Tasks; got a list of {kinds}")


def is_collector(leaf):
    return callable(leaf)
