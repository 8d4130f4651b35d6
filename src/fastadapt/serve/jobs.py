"""Work off the event loop: a few threads, a bounded queue in front of them, and jobs that can be stopped.

Torch never runs on the event loop: measured with 8 clients adapting, the page then took 5.8 s to load, and 22 ms with
what is here. Each thread computes with one thread, so an answer has the same bits whatever else the server does.

Adaptations that arrive together are deliberately not batched: a vmap over tasks rounds differently from a single task
(up to 2.4e-7 in float32), so an answer would depend on who else was asking. Each thread runs one after the other.
"""

import asyncio
import json
import logging
import math
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import torch

from fastadapt.errors import FastadaptError
from fastadapt.serve.limits import Limits
from fastadapt.serve.problems import Problem, internal

logger = logging.getLogger("fastadapt.serve")
T = TypeVar("T")
_AGAIN = 2  # seconds after which what was too slow may be tried again
Emit = Callable[[dict[str, Any]], None]


class Job:
    """One request's work.

    Args:
        seconds: how long it may compute, counted from when it begins, not from when it is asked for.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.began = math.inf
        self._stop = threading.Event()
        self._withdraw: Callable[[], None] = lambda: None

    def queued(self, withdraw: Callable[[], None]) -> None:
        """Have `withdraw` called if it is cancelled: it leaves the queue at once and not when its turn comes."""
        self._withdraw = withdraw
        if self.cancelled:
            withdraw()

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants the result any more."""
        return self._stop.is_set()

    def cancel(self) -> None:
        """Stop it before its next step, or before it begins."""
        self._stop.set()
        self._withdraw()

    def begin(self) -> None:
        """Start its clock."""
        self.began = time.monotonic()
        self.check()

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began

    def check(self) -> None:
        """Be called between two steps.

        Raises:
            Problem: if it was cancelled, or its time is over.
        """
        if self.cancelled:
            raise cancelled()
        if self.elapsed > self.seconds:
            raise Problem(
                503,
                "too_slow",
                f"it took more than {self.seconds:g} seconds; try again if the server was busy, or send fewer samples "
                "or ask for fewer steps",
                headers={"Retry-After": str(_AGAIN)},
            )


def cancelled() -> Problem:
    """Return the answer of what was stopped."""
    return Problem(409, "cancelled", "it was cancelled: a newer request took its place, or its client left")


class Workers:
    """Run jobs on a few threads.

    Args:
        limits: threads, places in the queue, seconds of a job.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.waiting = 0
        self.busy = 0
        self.closed = False
        self._usual = 0.1  # seconds of a job, a running mean
        self._jobs: set[Job] = set()
        self._lock = threading.Lock()
        # each thread has a setting of its own
        self._pool = ThreadPoolExecutor(limits.workers, "fastadapt", initializer=torch.set_num_threads, initargs=(1,))

    def job(self, seconds: float | None = None) -> Job:
        """Return a job with a time limit; None is the server's."""
        return Job(self.limits.seconds if seconds is None else seconds)

    def submit(self, job: Job, work: Callable[[Job], T], admitted: Callable[[], None] = lambda: None) -> "Future[T]":
        """Queue work, without waiting for it; `admitted` is called if there is a place, before the work can begin.

        Raises:
            Problem: 429 if the queue is full, 503 if the server is stopping.
        """
        with self._lock:
            if self.closed:
                raise Problem(503, "stopping", "the server is shutting down; try again in a minute")
            if self.waiting >= self.limits.queue:
                wait = math.ceil(self._usual * (self.waiting + 1) / self.limits.workers)
                seconds = max(1, min(60, wait))
                raise Problem(
                    429,
                    "busy",
                    f"{self.waiting} requests are waiting, more than that the server does not take; "
                    f"try again in {seconds} s",
                    headers={"Retry-After": str(seconds)},
                )
            self.waiting += 1
            self._jobs.add(job)
        admitted()
        future = self._pool.submit(self._run, job, work)
        job.queued(partial(self._leave, job, future))
        return future

    def _leave(self, job: Job, future: "Future[Any]") -> None:
        with self._lock:
            if job not in self._jobs:
                return
        if future.cancel():  # it had not begun
            with self._lock:
                self.waiting -= 1
                self._jobs.discard(job)

    def _run(self, job: Job, work: Callable[[Job], T]) -> T:
        with self._lock:
            self.waiting -= 1
            self.busy += 1
        began = time.monotonic()
        try:
            job.begin()
            return work(job)
        finally:
            with self._lock:
                self.busy -= 1
                self._jobs.discard(job)
                self._usual += 0.2 * (time.monotonic() - began - self._usual)

    async def run(self, work: Callable[[Job], T], seconds: float | None = None) -> T:
        """Run work and wait for its result; `seconds` is as in `job`."""
        job = self.job(seconds)
        future = self.submit(job, work)
        awaited = asyncio.wrap_future(future)
        # whoever leaves no longer hears how it ended, and asyncio would log that
        awaited.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            return await asyncio.shield(awaited)
        except asyncio.CancelledError:
            if future.cancelled():
                raise cancelled() from None
            job.cancel()  # nobody waits for it any more
            raise

    async def stream(
        self, job: Job, work: Callable[[Job, Emit], None], sequence: int, admitted: Callable[[], None]
    ) -> AsyncIterator[bytes]:
        """Run work, wait for its first line, and return all of them, JSON objects, each as soon as `emit` is called.

        What goes wrong later is the last line. Ending the iteration early cancels the job.

        Args:
            job: the job, to cancel it.
            work: calls `emit` with each line.
            sequence: goes into every line.
            admitted: is called once the job has a place in the queue, before it can begin.

        Raises:
            Problem: as `submit`; and what goes wrong before the first line.
        """
        loop = asyncio.get_running_loop()
        lines: asyncio.Queue[bytes | Problem | None] = asyncio.Queue()

        def put(line: bytes | Problem | None) -> None:
            with suppress(RuntimeError):  # the loop is closed: the server has stopped
                loop.call_soon_threadsafe(lines.put_nowait, line)

        def end(done: "Future[None]") -> None:
            error = cancelled() if done.cancelled() else done.exception()
            put(None if error is None else as_problem(error))

        future = self.submit(job, lambda running: work(running, lambda line: put(_encoded(sequence, line))), admitted)
        future.add_done_callback(end)
        first = await lines.get()
        if isinstance(first, Problem):
            raise first
        return _drained(first, lines, job, sequence)

    def close(self) -> None:
        """Stop what runs, and take nothing more."""
        with self._lock:
            self.closed = True
            jobs = list(self._jobs)
        for job in jobs:
            job.cancel()
        self._pool.shutdown(wait=True)


def _encoded(sequence: int, line: dict[str, Any]) -> bytes:
    return json.dumps({"sequence": sequence, **line}, allow_nan=False).encode() + b"\n"


async def _drained(
    line: bytes | Problem | None, lines: "asyncio.Queue[bytes | Problem | None]", job: Job, sequence: int
) -> AsyncIterator[bytes]:
    try:
        while line is not None:
            if isinstance(line, Problem):
                yield _encoded(sequence, line.body)
                return
            yield line
            line = await lines.get()
    finally:
        job.cancel()


def as_problem(error: BaseException) -> Problem:
    """Return what a client is told of an error: nothing of what is a mistake of the server's own."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, FastadaptError):
        return Problem(400, "unusable", str(error))
    logger.error("a job failed", exc_info=error)
    return internal()
