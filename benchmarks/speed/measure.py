"""Measure one workload: every implementation's gradient is checked, then they take turns."""

import re
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flops
import inputs
import numpy as np
from variants import VARIANTS, Variant, not_installed
from worker import Worker, WorkerError
from workloads import Workload

TURN_SECONDS = 1.0  # a turn makes as many steps as fit
WARM_SECONDS = 0.5
PAUSE = 0.3  # threads of the last worker spin for a while before they sleep
MIXED = 0.5  # a meta-gradient that is off by so much misses tasks or mixes them
HOPELESS = 1.5  # a variant this much slower than the best one of its peer is timed only once


@dataclass
class Settings:
    """Hold what the command line says, and the machine's rate of matrix products in GFLOP/s."""

    peers: tuple[str, ...]
    peers_dir: Path
    threads: int = 2
    gemm: float = float("nan")
    rounds: int = 7
    minutes: float | None = None
    learner: dict[str, Any] = field(default_factory=dict)


@dataclass
class Row:
    """Hold what is known of one implementation."""

    variant: Variant
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: list[float | None] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    worker: Worker | None = None
    count: int = 1

    def stop(self, status: str = "") -> None:
        """End the worker; `status` says why, if something went wrong."""
        if status:
            self.facts["status"] = status
        if self.worker is not None:
            self.worker.close()
            self.worker = None


def relative_error(gradient: Path, reference: Path, ignored: str) -> float:
    """Return the relative L2 distance of two gradients over all parameters that are not ignored."""
    with np.load(gradient) as a, np.load(reference) as b:
        if set(a) != set(b):
            return float("inf")
        names = [n for n in b if not (ignored and re.fullmatch(ignored, n))]
        off = sum(float(np.square(a[n].astype(np.float64) - b[n]).sum()) for n in names)
        return (off / sum(float(np.square(b[n]).sum()) for n in names)) ** 0.5


def _checks(workload: Workload) -> list[int | None]:
    """Return what gradients are compared: that of all tasks, and those of up to three single ones.

    Where rounding flips one sign before a ReLU, one task's float32 gradient is off by per cent, and with it that of the
    whole meta-batch, whoever computes it. The median over single tasks tells a wrong gradient from such a flip; the
    whole meta-batch tells whether every task is in it.
    """
    return [None, *sorted({0, workload.tasks // 2, workload.tasks - 1})]


def _gradients(worker: Worker, workload: Workload, files: Path, name: str) -> dict[str, Any]:
    """Let a worker write its gradients as `NAME-TASK.npz`; return its answer to the first."""
    answers = [worker.ask("gradient", out=str(files / f"{name}-{task}.npz"), task=task) for task in _checks(workload)]
    return answers[0]


def _wanted(workload: Workload, settings: Settings) -> list[Variant]:
    peers = [p for p in settings.peers if not workload.only or p in workload.only]
    return [v for v in VARIANTS if v.peer in peers and workload.net in v.nets]


def _begin(row: Row, workload: Workload, settings: Settings, files: Path) -> None:
    """Start a worker and let it compute the gradient; note its errors."""
    reason = not_installed(row.variant.peer, settings.peers_dir) or workload.without.get(row.variant.name, "")
    if reason:
        return row.stop(reason)
    try:
        row.worker = Worker(row.variant, settings.peers_dir, settings.threads)
        spec = workload.spec("float32", settings.learner if row.variant.name.startswith("fastadapt") else {})
        loaded = row.worker.ask("load", spec=spec, arrays=str(files / "inputs.npz"))
        first = _gradients(row.worker, workload, files, row.variant.name)
    except WorkerError as error:
        lacks, unsupported = "NotImplementedError: ", str(error)
        if unsupported.startswith(lacks):
            return row.stop(f"not applicable: {unsupported.removeprefix(lacks)}")
        return row.stop(f"failed: {error}")
    row.facts |= loaded
    row.facts["first step s"], row.facts["first peak_mb"] = round(first["seconds"], 4), first["peak_mb"]
    whole, *single = (
        relative_error(files / f"{row.variant.name}-{t}.npz", files / f"reference-{t}.npz", workload.ignored)
        for t in _checks(workload)
    )
    row.facts |= {"error": statistics.median(single), "error of all tasks": whole}
    return None


def _reference(workload: Workload, settings: Settings, files: Path) -> None:
    """Let plain autograd compute the meta-gradients in float64."""
    worker = Worker(next(v for v in VARIANTS if v.name == "plain"), settings.peers_dir, settings.threads)
    try:
        worker.ask("load", spec=workload.spec("float64", {}), arrays=str(files / "inputs.npz"))
        _gradients(worker, workload, files, "reference")
    finally:
        worker.close()


def _refuse_wrong(rows: list[Row], workload: Workload) -> None:
    """Stop those whose gradient is wrong, measured by what plain autograd achieves in float32."""
    plain = next((r.facts["error"] for r in rows if r.variant.name == "plain" and "error" in r.facts), 0.0)
    for row in rows:
        error, whole = row.facts.get("error", 0.0), row.facts.get("error of all tasks", 0.0)
        # not "error >": NaN must not pass
        if not error <= 10 * plain + workload.tolerance:
            row.stop(f"not timed: its gradient is off by {error:.1e}, plain float32's by {plain:.1e}")
        elif not whole <= MIXED:
            row.stop(f"not timed: its gradient of all tasks is off by {whole:.1e}, that of single ones by {error:.1e}")


def _turn(row: Row) -> float | None:
    """Let one implementation make its steps."""
    assert row.worker is not None
    try:
        if not row.seconds:  # the first steps still allocate; and they tell how many fit in a turn
            warm = row.worker.ask("steps", count=1, warm=WARM_SECONDS)["seconds"]
            row.count = max(1, round(TURN_SECONDS / warm))
        # while a process waits for its turn the system takes its pages and caches away
        answer = row.worker.ask("steps", count=row.count, warm=WARM_SECONDS if row.count > 1 else 0.0)
    except WorkerError as error:
        row.stop(f"failed: {error}")
        return None
    row.peaks.append(answer["peak_mb"] or float("nan"))
    return answer["seconds"]


def _drop_slow(rows: list[Row]) -> None:
    for row in rows:
        rivals = [r.seconds[0] for r in rows if r.variant.peer == row.variant.peer and r.seconds and r.seconds[0]]
        if row.worker is not None and row.seconds[0] and row.seconds[0] > HOPELESS * min(rivals):
            row.stop(f"timed once: more than {HOPELESS} times the best variant of {row.variant.peer}")


def _result(row: Row, ours: Row, work: int, gemm: float) -> dict[str, Any]:
    """Return the figures of one implementation."""
    timed = [s for s in row.seconds if s is not None]
    facts = {"variant": row.variant.name, "peer": row.variant.peer, "status": "ok", **row.facts}
    if not timed:
        return facts
    ratios = [s / o for s, o in zip(row.seconds, ours.seconds, strict=False) if s is not None and o is not None]
    median = statistics.median(timed)
    peak = max(row.peaks)
    facts |= {
        "seconds": median,
        "seconds min": min(timed),
        "seconds max": max(timed),
        "seconds of rounds": [None if s is None else float(f"{s:.5g}") for s in row.seconds],
        "steps a turn": row.count,
        "ratio": statistics.median(ratios) if ratios else None,
        "ratio range": [min(ratios), max(ratios)] if ratios else None,
        "peak_mb": peak,
        "data peak_mb": peak - (row.facts["base_mb"] or float("nan")),
        "GFLOP/s": work / median / 1e9,
        "share of GEMM": work / median / 1e9 / gemm,
    }
    return facts


def measure(workload: Workload, settings: Settings) -> dict[str, Any]:
    """Return the figures of all implementations on one workload."""
    minutes = workload.minutes if settings.minutes is None else settings.minutes
    rows = [Row(v) for v in _wanted(workload, settings)]
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder)
        np.savez(files / "inputs.npz", **inputs.arrays(workload))  # type: ignore[arg-type]
        _reference(workload, settings, files)
        try:
            for row in rows:
                _begin(row, workload, settings, files)
            _refuse_wrong(rows, workload)
            began = time.monotonic()
            for turn in range(settings.rounds):
                if turn and time.monotonic() - began > 60 * minutes:
                    break
                # another one begins each round, so that nobody always follows the same neighbour
                order = [(i + turn) % len(rows) for i in range(len(rows))]
                for row in (rows[i] for i in order):
                    if row.worker is not None:
                        time.sleep(PAUSE)
                        row.seconds.append(_turn(row))
                if turn == 0:
                    _drop_slow(rows)
        finally:
            for row in rows:
                row.stop()
    work = flops.meta_step(workload)
    ours = next((r for r in rows if r.variant.name == "fastadapt"), Row(rows[0].variant))
    return {
        "title": workload.title,
        "group": workload.group,
        "tasks": workload.tasks,
        "steps": workload.steps,
        "GFLOP": work / 1e9,
        "rows": [_result(row, ours, work, settings.gemm) for row in rows],
    }
