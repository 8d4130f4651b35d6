"""A look at a source of tasks, for what spoils a training in silence."""

import copy
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from fastadapt.checks.drawn import Drawn, same_data
from fastadapt.checks.findings import Finding, looked_at, shared_classes, shared_rows
from fastadapt.errors import FastadaptError, TaskError
from fastadapt.learner import Learner
from fastadapt.methods.fitting import check_labels
from fastadapt.methods.gradient import GradientLearner
from fastadapt.tasks import SampleFunction, Tasks, TaskSource, draw, draw_batch

_FIRST = 8
"""Tasks of the first meta-batch that a training looks at."""


def check_tasks(
    source: TaskSource | SampleFunction,
    *,
    against: Mapping[str, TaskSource | SampleFunction] | None = None,
    learner: Learner | None = None,
    seed: int = 0,
    split: str = "train",
    tasks: int = 20,
) -> list[str]:
    """Draw some tasks of a source and look for what spoils a training or a test in silence.

    An error is: a task that does not depend on its `rng` alone, or not on it at all; data that are not finite;
    inputs and labels of different lengths; a `sample_batch` that differs from `sample`; a class of two splits. A
    note is: tasks that repeat; a support set of one class, or without a class of the query; labels that do not begin
    at 0; a query sample that is also a support sample, or a sample that is also in the tasks of another split;
    inputs that are all the same.

    Args:
        source: where the tasks come from, as for `meta_train`.
        against: sources of other splits by name, which should share no sample: `{"test": test_source}`.
        learner: one that is to be trained on them; its network is asked once whether the labels fit its outputs.
        seed: of the stream, as in `Training`.
        split: the name of the stream.
        tasks: how many tasks are drawn of each source, at least 2.

    Returns:
        The notes, a sentence each; none where there is nothing to say.

    Raises:
        TaskError: with every error, one a line.

    Example:
        >>> from fastadapt.data.sinusoid import Sinusoid
        >>> check_tasks(Sinusoid())
        []
        >>> task = Sinusoid().sample(np.random.default_rng(0))
        >>> check_tasks(lambda rng: task)
        Traceback (most recent call last):
        ...
        fastadapt.errors.TaskError: all 20 tasks of 'train' are the same: sample(rng) does not use its rng; draw ...
    """
    if tasks < 2:
        raise TaskError(f"a look needs at least 2 tasks to compare, got tasks={tasks}")
    numbers = range(tasks)
    with undisturbed():
        drawn = [Drawn(n, task) for n, task in zip(numbers, _drawn(source, seed, split, numbers), strict=True)]
        found = [
            *looked_at(drawn, split, learner, source),
            *_redrawn(source, drawn[0], seed, split),
            *_batched(source, drawn, seed, split),
        ]
        for name, other in (against or {}).items():
            found += shared_classes(source, other, split, name)
            there = draw(other, seed=seed, split=name, indices=numbers)
            theirs = [Drawn(n, task) for n, task in zip(numbers, there, strict=True)]
            found += shared_rows(drawn, theirs, split, name)
        found += _fit(learner, drawn)
    errors = [finding.text for finding in found if finding.error]
    if errors:
        raise TaskError("\n".join(errors))
    return [finding.text for finding in found]


def first_look(
    source: TaskSource | SampleFunction,
    tasks: Sequence[Tasks],
    numbers: Sequence[int],
    seed: int,
    learner: Learner,
    validation: TaskSource | SampleFunction | None = None,
) -> list[str]:
    """Return what a look at the first few tasks of a training finds.

    It draws the first of them again, and one of the validation, whose labels have to fit the learner as well.

    Raises:
        TaskError: if these do not.
    """
    placed = sorted((place, group, i) for group in tasks for i, place in enumerate(group.positions))[:_FIRST]
    drawn = [Drawn(numbers[place], group[i]) for place, group, i in placed]
    with undisturbed():
        found = [*looked_at(drawn, "train", learner, source)]
        if not any(finding.error for finding in found):
            found += _redrawn(source, drawn[0], seed, "train")
    if validation is not None:
        found += shared_classes(source, validation, "train", "val")
        groups = draw_batch(validation, seed=seed, split="val", indices=[0])
        if isinstance(learner, GradientLearner):
            check_labels(learner, [group.to(device_of(learner)) for group in groups], judged=True)
        found += shared_rows(drawn, [Drawn(0, task) for group in groups for task in group], "train", "val")
    return [finding.text for finding in found]


def device_of(learner: Learner) -> torch.device:
    """Return where a learner's parameters are."""
    return next((p.device for p in learner.parameters()), torch.device("cpu"))


@contextmanager
def undisturbed() -> Iterator[None]:
    """Leave the global generators of Python, numpy and torch as they were."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def _drawn(source: Any, seed: int, split: str, numbers: Sequence[int]) -> list[Any]:
    try:
        return draw(source, seed=seed, split=split, indices=numbers)
    except FastadaptError:
        raise
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise TaskError(
            f"sample(rng) of the source raises {type(error).__name__}: {first}; it has to draw a task with any "
            "generator"
        ) from error


def _redrawn(source: Any, first: Drawn, seed: int, split: str) -> Iterator[Finding]:
    """Yield that a task is another one when it is drawn again."""
    [group] = draw_batch(source, seed=seed, split=split, indices=[first.number])
    [again] = list(group)
    pair = (again.support, again.query), (first.task.support, first.task.query)
    moved = [pytree.tree_map(lambda t: t.cpu() if isinstance(t, torch.Tensor) else t, p) for p in pair]
    if not same_data(*moved):
        yield Finding(
            True,
            f"task {first.number} of {split!r} is another one when it is drawn again: sample(rng) depends on more "
            "than its "
            "rng, so that no run can be repeated; draw everything from rng, and nothing from np.random, torch or an "
            "iterator that goes on",
        )


def _batched(source: Any, drawn: Sequence[Drawn], seed: int, split: str) -> Iterator[Finding]:
    """Yield that tasks drawn at once differ from those drawn one by one."""
    if not hasattr(source, "sample_batch"):
        return
    numbers = [one.number for one in drawn]
    groups = draw_batch(source, seed=seed, split=split, indices=numbers)
    for group in groups:
        for place, task in zip(group.positions, group, strict=True):
            one = drawn[place]
            if not same_data((task.support, task.query), (one.task.support, one.task.query)):
                yield Finding(
                    True,
                    f"task {one.number} of {split!r} differs between sample(rng) and sample_batch(rngs); make "
                    "both draw "
                    "the same from a generator",
                )
                return


def _fit(learner: Learner | None, drawn: Sequence[Drawn]) -> Iterator[Finding]:
    """Yield that the labels don't fit a learner: it is asked for its losses, which it refuses to give."""
    if learner is None:
        return
    try:
        with torch.no_grad():
            copy.deepcopy(learner)([one.task for one in drawn])
    except FastadaptError as error:
        yield Finding(True, str(error))
