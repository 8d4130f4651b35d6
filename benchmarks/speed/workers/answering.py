"""The worker's side of the measurement: commands and answers are JSON, one object a line.

    {"do": "load", "spec": {...}, "arrays": "inputs.npz"}   -> base_mb, versions
    {"do": "gradient", "out": "gradient.npz", "task": null} -> seconds, peak_mb (compilation included)
    {"do": "steps", "count": 3, "warm": 0.5}                -> seconds a step, peak_mb, after `warm` untimed seconds
    {"do": "quit"}

A failure is answered with `{"error": "..."}`, and the worker goes on.
"""

import gc
import json
import os
import sys
import time
import traceback
import warnings
from typing import Any, Protocol

import memory
import numpy as np

Arrays = dict[str, np.ndarray]


class Implementation(Protocol):
    """One way to compute a meta-gradient."""

    def versions(self) -> dict[str, str]:
        """Return the versions of the libraries that do the work."""
        ...

    def load(self, spec: dict[str, Any], arrays: Arrays) -> None:
        """Take a workload: its description, its tasks and the initial weights."""
        ...

    def gradient(self, task: int | None) -> Arrays:
        """Return the meta-gradient at the initial weights, by the parameters' names.

        With a `task`, of a meta-batch of the same size that holds nothing but copies of that one.
        """
        ...

    def steps(self, count: int) -> None:
        """Make `count` outer steps: the meta-gradient of all tasks, then Adam."""
        ...


def _answer(worker: Implementation, command: dict[str, Any]) -> dict[str, Any]:
    if command["do"] == "load":
        with np.load(command["arrays"]) as file:
            worker.load(command["spec"], dict(file))
        gc.collect()
        return {"base_mb": memory.resident_mb(), "versions": worker.versions()}
    if command["do"] not in ("gradient", "steps"):
        raise ValueError(f"a worker can load, gradient, steps and quit, got {command['do']!r}")
    memory.reset_peak()
    began = time.perf_counter()
    while command.get("warm") and time.perf_counter() - began < command["warm"]:
        worker.steps(1)
    began = time.perf_counter()
    if command["do"] == "gradient":
        gradient = worker.gradient(command["task"])
        seconds = time.perf_counter() - began
        peak = memory.peak_mb()
        np.savez(command["out"], **gradient)  # type: ignore[arg-type]
        return {"seconds": seconds, "peak_mb": peak}
    worker.steps(command["count"])
    return {"seconds": (time.perf_counter() - began) / command["count"], "peak_mb": memory.peak_mb()}


def serve(worker: Implementation) -> None:
    """Answer commands from standard input until "quit" or its end."""
    # libraries print; what they print must not mix with the answers
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    warnings.filterwarnings("ignore")
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "quit":
            return
        try:
            answer = _answer(worker, command)
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {str(error).strip()[:400]}"}
        print(json.dumps(answer), file=answers, flush=True)
