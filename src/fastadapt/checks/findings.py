"""What tasks show that were drawn: broken promises, and what is worth a note."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fastadapt.checks.drawn import Drawn, Side, matches, same_data
from fastadapt.judging.criteria import criterion_of
from fastadapt.judging.labels import IGNORED
from fastadapt.judging.not_finite import not_finite_in
from fastadapt.learner import Learner
from fastadapt.losses import MSE, OnOutput

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


def looked_at(
    drawn: Sequence[Drawn], split: str, learner: Learner | None = None, source: object = None
) -> Iterator[Finding]:
    """Yield what the tasks themselves show; whole numbers are taken for classes unless the learner's loss says no.

    A source that says `judges_support` means its queries to have samples of the support; one that says `one_meaning`
    has labels that mean the same in every task, so that a support set may lack some.
    """
    yield from _broken(drawn)
    yield from _repeated(drawn, split)
    looks = [_constant] if getattr(source, "judges_support", False) else [_leaked, _constant]
    if not _compares_numbers(learner):
        looks += [_from_one] if getattr(source, "one_meaning", False) else [_one_class, _unseen_class, _from_one]
    for look in looks:
        yield from look(drawn)


def _compares_numbers(learner: Learner | None) -> bool:
    loss = getattr(learner, "loss", None)
    return isinstance(loss, MSE) or (isinstance(loss, OnOutput) and criterion_of(loss.criterion).targets == "numbers")


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


def shared_classes(source: Any, other: Any, split: str, name: str) -> Iterator[Finding]:
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


def shared_rows(ours: Sequence[Drawn], theirs: Sequence[Drawn], split: str, name: str) -> Iterator[Finding]:
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
        new = sorted(set(query.tolist()) - set(support.tolist()) - {IGNORED})
        if new:
            unseen.append((one.number, new[0]))
    if unseen:
        number, label = unseen[0]
        yield Finding(
            False,
            f"in {len(unseen)} of {len(drawn)} tasks the query has a class that the support set lacks (task {number}: "
            f"{label}), which no learner can know; draw both from the same classes",
        )


def _from_one(drawn: Sequence[Drawn]) -> Iterator[Finding]:
    every = [side.y for one in drawn for side in one.sides.values() if side.classes is not None and side.y.dim() == 1]
    if not every or every[0].dtype == torch.bool:
        return
    labels = torch.cat([y.long().cpu().unique() for y in every]).unique().tolist()
    least, most = labels[0], labels[-1]
    if least == 1 and len(labels) == most:
        yield Finding(
            False,
            f"no label is 0, they are {least}..{most}; class indices are counted from 0, so that {most} needs "
            f"{most + 1} outputs: write y - 1 if there are {most} classes",
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
