"""What a strategy is: one way to run a function of one task over all tasks of a meta-batch."""

from collections.abc import Callable
from typing import Any, Protocol

from fastadapt.inner.runner import Runner
from fastadapt.tasks import Tasks

TaskFunction = Callable[[Any, Any, Any, Any, Runner], tuple[Any, Any]]
"""`f(state, support, query, extra, run) -> (to be averaged over tasks, to be stacked)`."""


class Strategy(Protocol):
    """Run a function of one task over many; every strategy gives the same numbers."""

    def run(self, f: TaskFunction, state: Any, tasks: Tasks, extra: Any) -> tuple[Any, Any]:
        """Return `(mean over tasks of the first result, stack over tasks of the second)`.

        Args:
            f: the function of one task.
            state: everything it depends on besides the task: a pytree of tensors.
            tasks: stacked tasks.
            extra: a pytree of tensors with a leading task axis; `()` if there is none.
        """
        ...
