"""What is looked at while a learner is measured: how often each class is right, and what was answered to each query."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastadapt.learner import Trace
from fastadapt.results.by_class import Tally
from fastadapt.tasks import Origin, SampleFunction, Task, Tasks, TaskSource, task_rng

Seen = Callable[[Sequence[int], list[Tasks], Trace], None]
"""`seen(numbers, tasks, trace)`, called as the tasks of a measurement come."""
_DIGITS = 6


def headline_column(trace: Trace, report: int | None, after: Sequence[int] | None) -> int:
    """Return which column of a trace is the headline result.

    Args:
        trace: the trace.
        report: after how many inner steps it is, None for the last.
        after: the numbers of steps that the columns belong to, None for 0..k.
    """
    columns = trace.losses.shape[1]
    if columns == 1:
        return 0
    steps = list(after) if after is not None else list(range(columns))
    return steps.index(steps[-1] if report is None else min(report, steps[-1]))


def placed(tasks: Sequence[Tasks]) -> list[Task]:
    """Return the tasks of a meta-batch in the order of their numbers."""
    every = [(place, task) for group in tasks for place, task in zip(group.positions, group, strict=True)]
    return [task for _, task in sorted(every, key=lambda pair: pair[0])]


def truth_of(task: Task) -> Any:
    """Return the labels of a task's query, None where it is no pair."""
    return task.query[1] if isinstance(task.query, (tuple, list)) and len(task.query) == 2 else None


def together(looks: Sequence[Seen]) -> Seen:
    """Return what calls all of them."""

    def see(numbers: Sequence[int], tasks: list[Tasks], trace: Trace) -> None:
        for look in looks:
            look(numbers, tasks, trace)

    return see


def counted(tally: Tally, report: int | None, after: Sequence[int] | None) -> Seen:
    """Return what counts right answers class by class, after the headline's number of inner steps."""

    def see(numbers: Sequence[int], tasks: list[Tasks], trace: Trace) -> None:
        if "accuracy" in trace.metrics and trace.outputs:
            truths = [truth_of(task) for task in placed(tasks)]
            tally.see(numbers, truths, trace.outputs, headline_column(trace, report, after))

    return see


class Answers:
    """Keep of each task its samples' names, and what was answered to each query beside what is true.

    Args:
        source: where the tasks come from; one that has `origin(rng)` names its samples.
        seed: of the stream.
        split: of the stream.
        report: the headline's number of inner steps, None for the last.
        after: the numbers of steps that were asked for, None for all.
    """

    def __init__(
        self,
        source: TaskSource | SampleFunction,
        *,
        seed: int,
        split: str,
        report: int | None = None,
        after: Sequence[int] | None = None,
    ) -> None:
        self.source, self.seed, self.split = source, seed, split
        self.report, self.after = report, after
        self.records: list[dict[str, Any]] = []

    def __call__(self, numbers: Sequence[int], tasks: list[Tasks], trace: Trace) -> None:
        """Keep what some tasks show."""
        column = headline_column(trace, self.report, self.after)
        for place, (number, task) in enumerate(zip(numbers, placed(tasks), strict=True)):
            record: dict[str, Any] = {"task": number, "loss": float(trace.losses[place, column])}
            record |= {name: float(value[place, column]) for name, value in trace.metrics.items()}
            origin = self._origin(number)
            if origin is not None:
                record |= {"support": origin.support, "query": origin.query}
            if trace.outputs:
                output = trace.outputs[place][min(column, len(trace.outputs[place]) - 1)]
                record |= answered(output, truth_of(task), "accuracy" in trace.metrics, origin)
            self.records.append(record)

    def _origin(self, number: int) -> Origin | None:
        origin: Any = getattr(self.source, "origin", None)
        return None if origin is None else origin(task_rng(self.seed, self.split, number))


def answered(output: Any, truth: Any, classes: bool, origin: Origin | None = None) -> dict[str, Any]:
    """Return what was true and what was answered, a value for each query; nothing where they are no such values.

    Args:
        output: `[Q, N]` scores of classes, or `[Q, ...]` numbers.
        truth: `[Q]` class numbers, `[Q, N]` class probabilities, or numbers of the output's shape.
        classes: which of the two they are.
        origin: what the numbers of classes stand for.

    Example:
        >>> answered(torch.tensor([[0.0, 0.0]]), torch.tensor([1]), True, Origin([], [], ["cat", "dog"]))
        {'truth': ['dog'], 'answer': ['cat'], 'probability': [0.5]}
    """
    if not isinstance(output, Tensor) or not isinstance(truth, Tensor):
        return {}
    if not classes:
        same = output.shape == truth.shape
        return {"truth": _listed(truth), "answer": _listed(output)} if same else {}
    if output.dim() != 2:
        return {}
    numbers = truth.argmax(1) if truth.dim() == 2 else truth
    chances = output.double().softmax(1)
    names = None if origin is None else origin.classes

    def called(number: int) -> Any:
        return number if names is None or not 0 <= number < len(names) else names[number]

    answers = output.argmax(1).tolist()
    sure = chances.amax(1).tolist()
    finite = torch.isfinite(output).all(1).tolist()
    return {
        "truth": [called(number) for number in numbers.tolist()],
        "answer": [called(answer) if known else None for answer, known in zip(answers, finite, strict=True)],
        "probability": [round(value, 4) if known else None for value, known in zip(sure, finite, strict=True)],
    }


def _listed(values: Tensor) -> list[Any]:
    flat = values.double().reshape(len(values), -1)
    rows = [[round(value, _DIGITS) for value in row] for row in flat.tolist()]
    return [row[0] for row in rows] if flat.shape[1] == 1 else rows


def worst(records: Sequence[dict[str, Any]], metric: str, higher_is_better: bool | None, count: int = 10) -> list[int]:
    """Return the numbers of the worst tasks, the worst first; one whose metric is no number is worse than any other.

    Example:
        >>> tasks = [{"task": 0, "mse": 0.5}, {"task": 1, "mse": 2.0}, {"task": 2, "mse": float("nan")}]
        >>> worst(tasks, "mse", False, 2)
        [2, 1]
    """
    sign = 1 if higher_is_better else -1

    def key(record: dict[str, Any]) -> tuple[bool, float, int]:
        value = record[metric]
        finite = value == value and abs(value) != float("inf")
        return finite, sign * value if finite else 0.0, record["task"]

    return [record["task"] for record in sorted(records, key=key)[:count]]
