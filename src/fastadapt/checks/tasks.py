"""A look at a source of tasks, for what spoils a training in silence."""

import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fastadapt.checks.drawn import Drawn, Side, matches, same_data
from fastadapt.errors import FastadaptError, TaskError
from fastadapt.learner import Learner
from fastadapt.methods.fitting import check_labels
from fastadapt.methods.gradient import GradientLearner
from fastadapt.not_finite import not_finite_in
from fastadapt.tasks import SampleFunction, Tasks, TaskSource, draw, draw_batch

_FIRST = 8
"""Tasks of the first meta-batch that a training looks at."""
_WIDE, _SHARE = 16, 0.1
"""Numbers in a row from which on two are not alike by chance; and the share of shorter ones that is no chance."""


@dataclass(frozen=True)
class Finding:
    """Hold what was found.

    Args:
        error: whether the source breaks what it promises; else it is worth a note.
        text: a sentence: what, where, and what to do.
    """

    error: bool
    text: str


Look = Callable[[Sequence[Drawn]], Iterator[Finding]]


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
            *looked_at(drawn, split),
            *_redrawn(source, drawn[0], seed, split),
            *_batched(source, drawn, seed, split),
        ]
        for name, other in (against or {}).items():
            found += _shared_classes(source, other, split, name)
            there = draw(other, seed=seed, split=name, indices=numbers)
            theirs = [Drawn(n, task) for n, task in zip(numbers, there, strict=True)]
            found += _shared_rows(drawn, theirs, split, name)
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
        found = [*looked_at(drawn, "train")]
        if not any(finding.error for finding in found):
            found += _redrawn(source, drawn[0], seed, "train")
    if validation is not None:
        found += _shared_classes(source, validation, "train", "val")
        groups = draw_batch(validation, seed=seed, split="val", indices=[0])
        if isinstance(learner, GradientLearner):
            check_labels(learner, [group.to(device_of(learner)) for group in groups], judged=True)
        found += _shared_rows(drawn, [Drawn(0, task) for group in groups for task in group], "train", "val")
    return [finding.text for finding in found]


def looked_at(drawn: Sequence[Drawn], split: str) -> Iterator[Finding]:
    """Yield what the tasks themselves show."""
    yield from _broken(drawn)
    yield from _repeated(drawn, split)
    for look in (_one_class, _unseen_class, _counted_from_one, _leaked, _constant):
        yield from look(drawn)


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


# ---- what breaks a promise -----------------------------------------------------------------------


def _broken(drawn: Sequence[Drawn]) -> Iterator[Finding]:
    """Yield data that are not finite, and inputs and labels of different lengths: of the first such task."""
    for one in drawn:
        if fault := not_finite_in(one.task):
            yield Finding(True, f"task {one.number}, {fault}; leave such samples out, or fill them in")
            break
    for one in drawn:
        for name, side in one.sides.items():
            if len(side.x) != len(side.y):
                yield Finding(
                    True,
                    f"task {one.number}, {name}: x has {len(side.x)} rows and y has {len(side.y)}; give one label "
                    "for each "
                    "sample",
                )
                return


def _redrawn(source: Any, first: Drawn, seed: int, split: str) -> Iterator[Finding]:
    """Yield that a task is another one when it is drawn again."""
    [group] = draw_batch(source, seed=seed, split=split, indices=[first.number])
    [again] = list(group)
    pair = (again.support, again.query), (first.task.support, first.task.query)
    moved = [torch.utils._pytree.tree_map(lambda t: t.cpu() if isinstance(t, torch.Tensor) else t, p) for p in pair]
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


def _repeated(drawn: Sequence[Drawn], split: str) -> Iterator[Finding]:
    """Yield that all tasks are the same, or some."""
    alike: dict[int, int] = {}
    for i, one in enumerate(drawn):
        for j in range(i):
            if j not in alike and same_data(
                (one.task.support, one.task.query), (drawn[j].task.support, drawn[j].task.query)
            ):
                alike[i] = j
                break
    if not drawn[0].sides or len(drawn) < 2:
        return
    if not alike:
        if all(same_data(one.task.support, drawn[0].task.support) for one in drawn[1:]):
            yield Finding(
                False,
                f"the support sets of all {len(drawn)} tasks of {split!r} are the same, and only their queries differ; "
                "draw both from the rng",
            )
        return
    if len(alike) == len(drawn) - 1:
        yield Finding(
            True,
            f"all {len(drawn)} tasks of {split!r} are the same: sample(rng) does not use its rng; draw classes, "
            "samples and "
            "parameters from it",
        )
        return
    i, j = next(iter(alike.items()))
    yield Finding(
        False,
        f"{len(alike)} of {len(drawn)} tasks of {split!r} repeat an earlier one (task {drawn[i].number} is task "
        f"{drawn[j].number}): there are few different tasks to learn from; draw more from the rng",
    )


def _shared_classes(source: Any, other: Any, split: str, name: str) -> Iterator[Finding]:
    """Yield the classes that two sources have in common, where both name theirs and the images are others."""
    ours, theirs = getattr(source, "class_names", None), getattr(other, "class_names", None)
    if ours is None or theirs is None or not (shared := sorted(set(ours) & set(theirs))):
        return
    yield Finding(
        True,
        f"{len(shared)} classes are in {split!r} and in {name!r}, the first is {shared[0]!r}: what is measured "
        "there was "
        "trained on; give each class to one split",
    )


# ---- what is worth a note ------------------------------------------------------------------------


def _one_class(drawn: Sequence[Drawn]) -> Iterator[Finding]:
    alone = []
    for one in drawn:
        side = one.sides.get("support")
        classes = None if side is None else side.classes
        if classes is not None and len(classes) > 1 and len(classes.unique()) == 1:
            alone.append((one.number, int(classes[0])))
    if alone:
        number, label = alone[0]
        yield Finding(
            False,
            f"in {len(alone)} of {len(drawn)} tasks every support label is the same (task {number}: only "
            f"{label}), so that "
            "there is nothing to tell apart; draw samples of each class",
        )


def _unseen_class(drawn: Sequence[Drawn]) -> Iterator[Finding]:
    unseen = []
    for one in drawn:
        sides = {name: side.classes for name, side in one.sides.items()}
        support, query = sides.get("support"), sides.get("query")
        if support is None or query is None or len(support.unique()) == 1:
            continue
        new = sorted(set(query.tolist()) - set(support.tolist()))
        if new:
            unseen.append((one.number, new[0]))
    if unseen:
        number, label = unseen[0]
        yield Finding(
            False,
            f"in {len(unseen)} of {len(drawn)} tasks the query has a class that the support set lacks (task {number}: "
            f"{label}), which no learner can know; draw both from the same classes",
        )


def _counted_from_one(drawn: Sequence[Drawn]) -> Iterator[Finding]:
    every = [side.y for one in drawn for side in one.sides.values() if side.classes is not None and side.y.dim() == 1]
    if not every or every[0].dtype == torch.bool:
        return
    least, most = min(int(y.min()) for y in every), max(int(y.max()) for y in every)
    if least > 0:
        yield Finding(
            False,
            f"no label is 0, they are {least}..{most}; class indices are counted from 0, so that {most} needs "
            f"{most + 1} outputs: write y - {least} if there are {most - least + 1} classes",
        )


def _leaked(drawn: Sequence[Drawn]) -> Iterator[Finding]:
    """Yield that samples are in support and query of a task, unless rows repeat all over anyhow."""
    first, hits, queries, inside, supports = None, 0, 0, 0, 0
    for one in drawn:
        if len(one.sides) < 2:
            continue
        support, query = one.sides["support"], one.sides["query"]
        found = list(matches(query, [support]))
        hits, queries = hits + len(found), queries + len(query.x)
        inside, supports = inside + len(support.keys) - len(set(support.keys)), supports + len(support.x)
        if found and first is None:
            first = f"task {one.number}: query row {found[0][0]} is support row {found[0][2]}"
    if first is not None and hits * max(supports, 1) > 2 * inside * max(queries, 1):
        yield Finding(
            False,
            f"{hits} of {queries} query samples are also in the support set of their task ({first}), so that it "
            "is judged on "
            "what it saw; draw both without replacement",
        )


def _shared_rows(ours: Sequence[Drawn], theirs: Sequence[Drawn], split: str, name: str) -> Iterator[Finding]:
    """Yield that the same sample is in tasks of two splits."""
    owners = [(one.number, side) for one in theirs for side in one.sides.values()]
    sides = [side for _, side in owners]
    hits, rows, first = 0, 0, None
    for one in ours:
        for which, side in one.sides.items():
            found = list(matches(side, sides))
            hits, rows = hits + len(found), rows + len(side.x)
            if found and first is None:
                row, there, _ = found[0]
                first = f"{which} row {row} of task {one.number} is in task {owners[there][0]} of {name!r}"
    inside = sum(len(s.keys) - len(set(s.keys)) for one in ours for s in one.sides.values())
    wide = any(side.x[0].numel() >= _WIDE for side in sides)
    # else rows repeat all over anyhow, or short ones by chance
    if first is not None and hits > 2 * inside and (wide or hits > _SHARE * rows):
        yield Finding(
            False,
            f"{hits} of {rows} samples of {split!r} are also in tasks of {name!r} ({first}), so that what is "
            "measured there "
            "was trained on; give each sample, and each class, to one split",
        )


def _constant(drawn: Sequence[Drawn]) -> Iterator[Finding]:
    same = [one.number for one in drawn if _all_alike(one.sides.get("support"))]
    if same:
        yield Finding(
            False,
            f"in {len(same)} of {len(drawn)} tasks all support inputs are equal (task {same[0]}), so that labels "
            "can't depend "
            "on them; look at what is drawn",
        )


def _all_alike(side: Side | None) -> bool:
    return side is not None and len(side.x) > 1 and bool((side.x == side.x[:1]).all())


def _fit(learner: Learner | None, drawn: Sequence[Drawn]) -> Iterator[Finding]:
    """Yield that the labels don't fit a learner: it is asked for its losses, which it refuses to give."""
    if learner is None:
        return
    try:
        with torch.no_grad():
            copy.deepcopy(learner)([one.task for one in drawn])
    except FastadaptError as error:
        yield Finding(True, str(error))
