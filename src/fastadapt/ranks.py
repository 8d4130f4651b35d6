"""The processes that work on one meta-batch together: which part is whose, and what all of them must know."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ParamSpec, TypeVar

import torch
import torch.distributed as dist

from fastadapt.errors import FastadaptError

P = ParamSpec("P")
T = TypeVar("T")
_WHY = "fastadapt/ended by"
_GONE = ("connection closed", "connection reset", "gloo/transport", "timed out waiting")


class RankError(FastadaptError):
    """Another process of the group ended, and why where it could say so."""


class Ranks:
    """Say which of several processes this one is; they split tasks by number, and the stream of tasks stays as it is.

    Args:
        rank: the number of this process.
        world: how many there are.

    Example:
        >>> Ranks(1, 2).part(range(8, 13))
        range(9, 13, 2)
        >>> Ranks().gathered("alone"), Ranks().many
        (['alone'], False)
    """

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.rank, self.world = rank, world

    @classmethod
    def found(cls) -> "Ranks":
        """Return those of torch's process group, whoever launched it; one alone where there is none."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def many(self) -> bool:
        """Whether there are others."""
        return self.world > 1

    @property
    def first(self) -> bool:
        """Whether this is the process that logs, draws and writes."""
        return self.rank == 0

    def part(self, items: range) -> range:
        """Return those of some numbers that are this process's: every `world`-th, from its own number on."""
        return items[self.rank :: self.world]

    def gathered(self, value: T) -> list[T]:
        """Return the value of each process, in the order of their numbers."""
        if not self.many:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def said(self, value: T) -> T:
        """Return the value of the first process."""
        if not self.many:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def most(self, *values: float) -> list[float]:
        """Return the largest of each number over all processes."""
        if not self.many:
            return list(values)
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        numbers = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(numbers, dist.ReduceOp.MAX)
        return numbers.tolist()

    def mean(self, tensors: Sequence[torch.Tensor], share: float) -> None:
        """Set tensors, in place, to the mean over all processes, each weighted by its share of the whole."""
        if self.many:
            for tensor in tensors:
                tensor.mul_(share)
                dist.all_reduce(tensor)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Within the block an error of one process ends all: the others raise a `RankError` that says what it was.

        A process that ends closes its connections, and who waits for it is told so by torch at once, whatever ended it.
        """
        if not self.many:
            yield
            return
        try:
            yield
        except RankError:  # told already
            raise
        except Exception as error:
            if not _lost(error):
                self._tell(f"process {self.rank} of {self.world} ended: {_line(error)}")
                raise
            raise RankError(self._why() or f"another process of the training is gone ({_line(error)})") from None

    def _tell(self, words: str) -> None:
        with contextlib.suppress(Exception):  # where it is kept may be gone as well
            store = _store()
            if store is not None and store.add(f"{_WHY}/count", 1) == 1:
                store.set(_WHY, words)

    def _why(self) -> str | None:
        with contextlib.suppress(Exception):
            store = _store()
            if store is not None and store.check([_WHY]):
                return store.get(_WHY).decode()
        return None


def ends_together(function: Callable[P, T]) -> Callable[P, T]:
    """Return a function inside of `Ranks.together`, of the processes that there are when it is called."""

    @functools.wraps(function)
    def within(*args: P.args, **kwargs: P.kwargs) -> T:
        with Ranks.found().together():
            return function(*args, **kwargs)

    return within


def _store() -> Any:
    return dist.distributed_c10d._get_default_store()


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _lost(error: Exception) -> bool:
    """Whether torch says that a connection is gone, as gloo and NCCL put it."""
    if isinstance(error, FastadaptError) or not isinstance(error, RuntimeError):
        return False
    told = str(error).lower()
    return isinstance(error, dist.DistError) or any(words in told for words in _GONE)
