"""A meta-batch: one task, several of one shape stacked along a task axis, and how the one becomes the other.

A `Task` is a support set (what the learner adapts on) and a query set (what it is judged on). `Tasks` is the same with
a leading task axis `T`. Both move with `.to`, and a `DataLoader` collates them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.data._utils.collate import default_collate_fn_map

from fastadapt.batches.leaves import (
    checked,
    first_tensor,
    is_collector,
    kind_of,
    label,
    leaves_of,
    map_tensors,
    moved,
    pinned,
    same,
)
from fastadapt.errors import TaskError

WRITE = "write fastadapt.Task(support=(x, y), query=(x_query, y_query))"


# Not frozen: trainers of others (Lightning's precision plugins) set the fields of a copy.
@dataclass(eq=False, init=False)
class Task:
    """Hold one task: the samples to adapt on and the samples to be judged on.

    Args:
        support: a pytree of tensors, by default a pair `(x, y)` with `x: [K, ...]`, in which other values (None,
            numbers, text) ride along; any one object of data, such as a batch of graphs; or a `Collector`, which
            gathers the batch with the model as adapted so far (reinforcement learning).
        query: as `support`; disjoint from it.

    Raises:
        TaskError: if there are not two of them.

    Example:
        >>> import torch
        >>> task = Task((torch.zeros(5, 1), torch.zeros(5, 1)), (torch.ones(3, 1), torch.ones(3, 1)))
        >>> task.query[0].shape
        torch.Size([3, 1])
    """

    support: Any
    query: Any

    def __init__(self, support: Any = ..., query: Any = ..., *more: Any) -> None:
        if query is ... or support is ... or more:
            given = len(more) + (support is not ...) + (query is not ...)
            raise TaskError(f"a task is one support set and one query set, got {given} of them; {WRITE}")
        self.support = support
        self.query = query

    def to(
        self, device: Any = None, dtype: torch.dtype | None = None, non_blocking: bool = False, **options: Any
    ) -> "Task":
        """Return the same task on `device`, its floating-point tensors of `dtype`; itself if nothing has to change.

        Args:
            device: a device, its name or number; a `torch.dtype` is taken for one.
            dtype: of the tensors that hold no whole numbers; None leaves them.
            non_blocking: copy from pinned memory in the background.
            options: none; there to say so.

        Raises:
            TaskError: for another option, or a `dtype` of whole numbers.
        """
        support, query = _moved((self.support, self.query), device, dtype, non_blocking, options)
        return self if same((support, query), (self.support, self.query)) else Task(support, query)

    def pin_memory(self) -> "Task":
        """Return the same task in pinned memory, as `DataLoader(pin_memory=True)` asks."""
        return Task(*pinned((self.support, self.query)))


@dataclass(eq=False)
class Tasks:
    """Hold `T` tasks of equal shapes, stacked along a leading task axis.

    Args:
        support: as in `Task`, every tensor with a leading axis `T`, and what rides along as it is; or, where tasks
            can't be stacked (collectors, objects of data), a tuple of the `T` supports.
        query: as `support`.
        positions: where each task stood in the list it was grouped from; default `0..T-1`.
    """

    support: Any
    query: Any
    positions: tuple[int, ...] = field(default=())

    def __post_init__(self) -> None:
        leaves = [*leaves_of(self.support), *leaves_of(self.query)]
        if _stackable(leaves):
            leaves = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
            sizes = {leaf.shape[0] if leaf.dim() else None for leaf in leaves}
            if len(sizes) != 1 or None in sizes or sizes == {0}:
                raise TaskError(
                    f"Tasks needs every tensor to share one leading task axis of at least 1, got leading sizes "
                    f"{sizes or 'of no tensor'}; stack equal-shaped tasks with group_by_shape([...])"
                )
            count = leaves[0].shape[0]
        else:
            rows = [len(side) if isinstance(side, (tuple, list)) else 0 for side in (self.support, self.query)]
            if rows[0] != rows[1] or not rows[0]:
                raise TaskError(
                    "Tasks that can't be stacked need a tuple of one support for each task and one of as many "
                    f"queries, got {type(self.support).__name__} and {type(self.query).__name__} of {rows[0]} and "
                    f"{rows[1]}; use group_by_shape([...])"
                )
            count = rows[0]
        if not self.positions:
            self.positions = tuple(range(count))

    @property
    def stacked(self) -> bool:
        """Whether the tensors have a task axis; tasks that can't be stacked are tuples, and run one after another."""
        return _stackable(pytree.tree_leaves((self.support, self.query)))

    @property
    def collects(self) -> bool:
        """Whether any of the tasks gathers its samples with the model, see `Collector`."""
        return any(is_collector(leaf) for leaf in pytree.tree_leaves((self.support, self.query)))

    @property
    def has_queries(self) -> bool:
        """Whether there is anything to be judged on: Reptile and joint training draw no queries."""
        leaves = pytree.tree_leaves(self.query)
        if not self.stacked:
            return any(leaf is not None for leaf in leaves)
        first = first_tensor(leaves)
        return first is not None and (first.dim() < 2 or first.shape[1] > 0)

    @property
    def constants(self) -> tuple[Any, ...]:
        """What rides along beside the tensors of stacked tasks, in a form to be compared and hashed."""
        leaves = pytree.tree_leaves((self.support, self.query)) if self.stacked else []
        return tuple(label(leaf) for leaf in leaves if not isinstance(leaf, Tensor))

    @property
    def samples(self) -> Tensor:
        """The first tensor of stacked supports, `[T, K, ...]`: its rows are the samples."""
        first = first_tensor(self.support)
        assert first is not None  # tasks without one are not stacked
        return first

    @property
    def device(self) -> torch.device | None:
        """The device of the first tensor, None where there is none to be seen."""
        seen = first_tensor((self.support, self.query))
        return None if seen is None else seen.device

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> Task:
        if self.stacked:
            return Task(*map_tensors(lambda leaf: leaf[index], (self.support, self.query)))
        return Task(self.support[index], self.query[index])

    def __iter__(self) -> Iterator[Task]:
        return (self[i] for i in range(len(self)))

    def to(
        self, device: Any = None, dtype: torch.dtype | None = None, non_blocking: bool = False, **options: Any
    ) -> "Tasks":
        """Return the same tasks on `device`, see `Task.to`."""
        leaves = [*leaves_of(self.support), *leaves_of(self.query)]
        if dtype is None and not options and all(isinstance(leaf, Tensor) and leaf.device == device for leaf in leaves):
            return self  # at once, as this is asked at every outer step
        support, query = _moved((self.support, self.query), device, dtype, non_blocking, options)
        if same((support, query), (self.support, self.query)):
            return self
        return replace(self, support=support, query=query)

    def pin_memory(self) -> "Tasks":
        """Return the same tasks in pinned memory, as `DataLoader(pin_memory=True)` asks."""
        support, query = pinned((self.support, self.query))
        return replace(self, support=support, query=query)


def _moved(tree: Any, device: Any, dtype: torch.dtype | None, non_blocking: bool, options: dict[str, Any]) -> Any:
    if isinstance(device, torch.dtype):
        device, dtype = None, device
    elif isinstance(device, Tensor):
        device, dtype = device.device, device.dtype
    if options:
        raise TaskError(f"tasks are moved by .to(device, dtype, non_blocking), got {min(options)!r}; leave it out")
    if dtype is not None and not (dtype.is_floating_point or dtype.is_complex):
        raise TaskError(f"tasks are converted to a floating-point type such as torch.float64, got {dtype}")
    return moved(tree, device, dtype, non_blocking)


def as_support(support: Any) -> Any:
    """Return the support set that a learner is to adapt to.

    Raises:
        TaskError: if it is a whole task or none at all, or has a leaf that is no data.
    """
    if isinstance(support, (Task, Tasks)):
        name = type(support).__name__
        one = "task.support" if isinstance(support, Task) else "tasks[0].support"
        raise TaskError(f"a learner adapts to a support set, and this is a {name} with its queries; write adapt({one})")
    leaves = checked(support, "support")
    if all(kind_of(leaf) == "constant" for leaf in leaves):
        raise TaskError(
            f"a support set needs at least one tensor, got {type(support).__name__} of {_kinds(leaves)}; "
            "convert with torch.as_tensor(...), and write adapt((x, y))"
        )
    return support


def _kinds(items: Iterable[Any]) -> str:
    return ", ".join(sorted({type(item).__name__ for item in items})) or "nothing"


def _shape_key(task: Task) -> Any:
    """Return what tasks that are stacked together have in common; None for those that can't be."""
    support, query = checked(task.support, "support"), checked(task.query, "query")
    if all(kind_of(leaf) == "constant" for leaf in support):
        raise TaskError(
            f"the support of a task needs at least one tensor, got {type(task.support).__name__} of {_kinds(support)}; "
            "convert with torch.as_tensor(...)"
        )
    labels = [label(leaf) for leaf in (*support, *query)]
    return None if None in labels else (str(pytree.tree_structure((task.support, task.query))), *labels)


def _stackable(leaves: list[Any]) -> bool:
    return all(kind_of(leaf) in ("tensor", "constant") for leaf in leaves)


def group_by_shape(tasks: Sequence[Task]) -> list[Tasks]:
    """Stack tasks of equal shapes, so that tasks of different ways or shots can share a meta-batch.

    Nothing is padded or masked, so every loss and gradient is exact. Groups keep the order in which their first task
    came, and `positions` says where each task stood. What rides along (None, numbers, text) has to be equal in a
    group; tasks that can't be stacked, of collectors or objects, are a group of their own. It is also what a
    `DataLoader` makes of a list of tasks, and can be given as its `collate_fn`.

    Raises:
        TaskError: if `tasks` is empty, or a leaf is none of these.

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
        if key is None:
            support, query = tuple(t.support for t in chosen), tuple(t.query for t in chosen)
        else:
            support = map_tensors(lambda *leaves: torch.stack(leaves), *(t.support for t in chosen))
            query = map_tensors(lambda *leaves: torch.stack(leaves), *(t.query for t in chosen))
        groups.append(Tasks(support, query, tuple(positions)))
    return groups


def _in_one_numbering(groups: list[Tasks]) -> list[Tasks]:
    """Return the groups such that every task has a place of its own; those that have none are numbered as they come."""
    count = sum(len(group) for group in groups)
    if sorted(p for group in groups for p in group.positions) == list(range(count)):
        return groups
    places = iter(range(count))
    return [replace(group, positions=tuple(next(places) for _ in group.positions)) for group in groups]


def as_groups(tasks: Tasks | Task | Sequence[Task] | Sequence[Tasks]) -> list[Tasks]:
    """Return any accepted form of a meta-batch as a list of groups.

    Raises:
        TaskError: if `tasks` is none of the accepted forms.
    """
    if isinstance(tasks, Tasks):
        return _in_one_numbering([tasks])
    if isinstance(tasks, Task):
        return group_by_shape([tasks])
    given: Any = tasks
    if isinstance(given, (Tensor, Mapping, str, nn.Module)) or not isinstance(given, Iterable):
        shape = f" of shape {tuple(given.shape)}" if isinstance(given, Tensor) else ""
        raise TaskError(f"a meta-batch is made of tasks, got a {type(tasks).__name__}{shape}; {WRITE} for each task")
    items: list[Any] = list(tasks)
    if items and all(isinstance(item, Tasks) for item in items):
        return _in_one_numbering(items)
    if all(isinstance(item, Task) for item in items):
        return group_by_shape(items)
    raise TaskError(
        f"a meta-batch is a Tasks, a list of Task, or a list of Tasks; got a {type(tasks).__name__} of "
        f"{_kinds(items)}; {WRITE} for each task"
    )


def _collated(batch: list[Any], *, collate_fn_map: Any = None) -> list[Tasks]:
    """Return what a `DataLoader` makes of a list of tasks."""
    return as_groups(batch)


# as the documentation of torch.utils.data.default_collate says to extend it
default_collate_fn_map.update({Task: _collated, Tasks: _collated})
