"""Which shapes of task are worth a look at the routes.

A look runs vmap, which for some modules takes seconds the first time, and pays where many tasks of the shape follow.
Tasks of ever other lengths or sizes go one after another instead. The rule goes by what has come, not by a clock, so
that two runs of one seed compute alike, and so does one that was resumed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fastadapt.engine.plan import Plan, described
from fastadapt.tasks import Tasks

FEW = 4
"""Tasks of a shape, on average over a meta-batch of several shapes, below which none of them is looked at."""
AT_ONCE = 2
"""Shapes of a function that are looked at when they come; of further ones those that come back."""
MANY = 8
"""Tasks at once for which a look pays at the first time."""
RETURNS = 64
"""Times that a further shape has to come until it is looked at; a look takes as long as about ten meta-batches."""
MOST_FORMS = 16
"""Constants riding along in so many forms that looking can't pay (a name for each task)."""
ALONE = "a single task"
"""Why the loop was taken without a look at vmap, whose first call takes seconds; trainings and more tasks look."""
RARE = "a shape of many that has not come often"
"""Why the loop was taken without a look."""


def scattered(groups: Sequence[Tasks]) -> bool:
    """Return whether a meta-batch has only a few tasks of each of its shapes.

    Example:
        >>> import torch
        >>> from fastadapt import Task, group_by_shape
        >>> tasks = [Task(torch.zeros(n, 1), torch.zeros(5, 1)) for n in (3, 4, 5, 3)]
        >>> scattered(group_by_shape(tasks)), scattered(group_by_shape(tasks[:1] * 8))
        (True, False)
    """
    return len(groups) > 1 and sum(len(group) for group in groups) < FEW * len(groups)


class Forms:
    """Count the forms in which constants ride along."""

    def __init__(self) -> None:
        self._seen: set[Any] = set()

    def many(self, tasks: Tasks, route: str) -> bool:
        """Return whether what rides along differs so often (a name for each task) that looking can't pay."""
        if any(constant != (type(None), "None") for constant in tasks.constants):
            self._seen.add(tasks.constants)
        return bool(tasks.constants) and len(self._seen) > MOST_FORMS and route != "vmap"


def standing(
    plans: dict[Any, Plan], key: Any, *, recorded: Mapping[str, int], tasks: int, ahead: bool, picks: bool
) -> Plan | None:
    """Return how a shape runs this time; None if that is to be found by a look at the strategies.

    Args:
        plans: how the shapes that have come run; what is returned is noted there.
        key: the function and the shape.
        recorded: how often shapes, in words, had come in the run that this one resumes.
        tasks: how many are to be run now.
        ahead: whether more are to be run later.
        picks: whether neither the route nor programs were asked for.
    """
    plan, name = plans.get(key), described(key)
    if plan is not None and plan.why == ALONE and (tasks > 1 or ahead or name in recorded):
        plan = None
    if not picks:
        return plan
    if plan is None and name in recorded:
        plan = Plan("loop", why=RARE, came=recorded[name]) if recorded[name] < RETURNS else None
    elif plan is None and tasks < MANY and len(_others(name, plans, recorded)) >= AT_ONCE:
        plan = Plan("loop", why=RARE)
    if plan is not None and plan.why == RARE:
        plan = replace(plan, came=plan.came + 1) if plan.came < RETURNS and tasks < MANY else None
    if plan is not None:
        plans[key] = plan
    return plan


def history(plans: Mapping[Any, Plan]) -> dict[str, int]:
    """Return how often each shape, in words, has come, which a resume has to know; `RETURNS` if it was looked at."""
    seen = {described(key): plan for key, plan in plans.items() if plan.why != ALONE}
    return {name: plan.came if plan.why == RARE else RETURNS for name, plan in seen.items()}


def _others(name: str, plans: dict[Any, Plan], recorded: Mapping[str, int]) -> set[str]:
    """Return the other shapes of the function that have come, in this run or the one that it resumes."""
    known = {described(other) for other, plan in plans.items() if plan.why != ALONE} | set(recorded)
    return {other for other in known if other.split()[0] == name.split()[0]} - {name}
