"""Verdicts on strategies, kept on disk: what was compared with the loop once need not be compared by each process.

A verdict stands under a digest of the operations that both have run (`fastadapt.engine.census`), of torch's version and
of the device, so that another module, another line in its code, or another shape has no verdict yet.
"""

import hashlib
import json
import logging
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fastadapt.atomic import write_text
from fastadapt.cache import cache_folder
from fastadapt.engine.census import Census
from fastadapt.engine.check import Verdict, disagreement
from fastadapt.engine.strategy import Strategy, TaskFunction
from fastadapt.errors import CheckpointError
from fastadapt.tasks import Tasks

logger = logging.getLogger(__name__)


def compared(
    loop: Strategy, other: Strategy, alone: Census, f: TaskFunction, state: Any, tasks: Tasks, extra: Any
) -> tuple[Verdict, int]:
    """Return how far a strategy is from the loop, and the bytes that it takes.

    Args:
        loop: the loop.
        other: the strategy; it is run in its own precision in any case.
        alone: the operations of one task in the loop.
        f: the function of one task.
        state: everything it depends on besides the task.
        tasks: the few tasks to compare with.
        extra: what each needs besides.
    """
    with Census() as together:
        other.run(f, state, tasks, extra)
    name = name_of(alone.digest, together.digest, str(tasks.device))
    verdict = known(name)
    if verdict is None:
        verdict = disagreement(partial(loop.run, f), partial(other.run, f), state, tasks, extra)
        if verdict.told:  # weights that diverge say nothing about those of the next run
            keep(name, verdict)
    return verdict, together.peak


def name_of(*facts: str) -> str:
    """Return the name under which a verdict on these facts stands."""
    words = "\n".join((torch.__version__, *facts))
    return hashlib.sha256(words.encode()).hexdigest()[:40]


def known(name: str) -> Verdict | None:
    """Return what was found, or None if there is no verdict that can be read."""
    place = _place(name)
    if place is None:
        return None
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(place.read_text(encoding="utf-8"))
        return Verdict(float(found["difference"]), float(found["allowed"]))
    return None


def keep(name: str, verdict: Verdict) -> None:
    """Write a verdict; on a machine where that isn't possible every process finds its own."""
    place = _place(name)
    if place is None:
        return
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"difference": verdict.difference, "allowed": verdict.allowed})
        write_text(place, text + "\n", shared=True)
    except (OSError, CheckpointError) as error:
        logger.debug("a verdict could not be kept: %s", error)


def _place(name: str) -> Path | None:
    folder = cache_folder()
    return None if folder is None else folder / "verdicts" / f"{name}.json"
