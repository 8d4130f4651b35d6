"""Which of the two routes is faster for tasks of one shape, by measuring both."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from torch import nn

from fastadapt.engine.check import seconds
from fastadapt.engine.plan import Plan, loop_is_usual, milliseconds
from fastadapt.engine.routes import first
from fastadapt.tasks import Tasks

CLEARLY = 1.3
"""How many times faster than the usual route the other one must be, every time it is measured."""
SMALL = 0.1
"""Seconds of a meta-batch below which the usual route is taken: there noise is as large as the difference."""
FEW = 8
"""Tasks by which vmap is measured."""
SLOW = 0.3  # seconds of a task from which two are enough
ROUNDS = 3  # times that the unusual route has to be clearly faster; the first time that it is not ends it


def faster(
    loop: Callable[[Tasks, Any], Any],
    vmap: Callable[[Tasks, Any], Any],
    tasks: Tasks,
    extra: Any,
    model: nn.Module,
    chunk: int | None,
) -> Plan:
    """Measure both routes; take the one that is usually faster unless the other is so clearly and every time.

    A choice that flickered with the noise of a machine would make two runs of one seed differ in their last bits.
    """
    one, of_one = first(1, tasks, extra)
    whole = min(len(tasks), chunk or len(tasks))

    def together(count: int) -> float:
        many, of_many = first(count, tasks, extra)
        return seconds(lambda: vmap(many, of_many), tasks) * len(tasks) / count

    def both() -> dict[str, float]:
        looping = seconds(lambda: loop(one, of_one), tasks) * len(tasks)
        return {"vmap": together(min(whole, FEW if looping < SLOW * len(tasks) else 2)), "loop": looping}

    usual: Literal["vmap", "loop"] = "loop" if loop_is_usual(model, tasks) else "vmap"
    plans = {"vmap": Plan("vmap", chunk), "loop": Plan("loop")}
    times = both()
    if min(times.values()) < SMALL:
        plan, why = plans[usual], f"usual for work of {milliseconds(times[usual])}"
    else:
        other: Literal["vmap", "loop"] = "vmap" if usual == "loop" else "loop"
        rounds = [times]
        while len(rounds) < ROUNDS and CLEARLY * rounds[-1][other] < rounds[-1][usual]:
            rounds.append(both())
        plan = plans[other if CLEARLY * rounds[-1][other] < rounds[-1][usual] else usual]
        best = {route: min(t[route] for t in rounds) for route in times}
        why = f"measured: vmap {milliseconds(best['vmap'])}, loop {milliseconds(best['loop'])}"
    return replace(plan, why=f"{why} for {len(tasks)} tasks")
