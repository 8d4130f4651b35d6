"""What the minutes of a command, or of a call of `meta_train`, are spent on.

    reading | looking | outer steps and validations on the way ... | last validation | test | drawing
    ------- so long as it takes ---|-- what is left --------------|--------- kept back ---------------

How long a task of a validation takes is measured before the first outer step. From it follows what is kept back for the
end; where everything would not fit, one rule each says how much less is measured, in shares of what reading has left:

* a validation takes at most a twentieth of the time, on fewer tasks if need be;
* all of them on the way take at most a fifth of what has passed in training, or are left out;
* the test gets what it needs, up to a fifth of the time; it ends when that is over;
* single tasks that are run for pictures get a tenth, and are fewer if need be.

Each of these is said. Without a number of minutes nothing is measured and nothing changes.
"""

import copy
import logging
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from fastadapt.evaluation import Protocol, measure
from fastadapt.learner import Learner
from fastadapt.tasks import SampleFunction, TaskSource
from fastadapt.training.settings import Training

logger = logging.getLogger("fastadapt")

ONE_VALIDATION, VALIDATIONS, TEST, PICTURED = 1 / 20, 1 / 5, 1 / 5, 1 / 10
"""Shares of the time, at most: of one validation, of those on the way, of the test, of tasks that are drawn."""
TOO_FEW, TOO_FEW_OF_ALL = 500, 1 / 20
"""Outer steps, and their share of those that the settings name, below which a run is told what would be faster.

After 500 steps the committed curves of images (`benchmarks/published/results`) are 3 to 67 points below their end, most
of them 10 and more; Reptile, made for 100,000, is 6 below after a twentieth.
"""
_FEWEST, _AT_ONCE = 2, 25
_QUICK, _LONG = 1.0, 60.0  # seconds of a task, and of the time, with which more than one task is timed
_PACED = 1.0  # seconds after which the pace of the outer steps is told, without the second, which has the looks in it


class Budget:
    """Keep the time of a command, and say what still fits into it.

    Args:
        minutes: in all; None is without a limit.
        began: when it began, as `time.monotonic()` tells; None is now.
        test: the source of the tasks that are measured in the end, and how; None where nothing is.
        after: seconds for what comes last whatever is measured: exporting, drawing.
        pictured: how many single tasks are run for pictures, at most.
        times: how often so many tasks are measured, where pictures need it more than once.
        cheaper: what would make an outer step faster, in the words of the command.

    Example:
        >>> budget = Budget(2.0, after=10.0)
        >>> 100 < budget.for_training <= 110, Budget(None).for_training
        (True, inf)
    """

    def __init__(
        self,
        minutes: float | None,
        began: float | None = None,
        *,
        test: tuple[TaskSource | SampleFunction, Protocol] | None = None,
        after: float = 0.0,
        pictured: int = 0,
        times: int = 1,
        cheaper: Sequence[str] = (),
    ) -> None:
        self.seconds = math.inf if minutes is None else 60 * minutes
        self.began = time.monotonic() if began is None else began
        self.shared = max(0.0, self.left)  # what the shares are of: reading is over
        self.test, self.after, self.most_pictured, self.times = test, after, pictured, times
        self.cheaper = cheaper
        self.earlier = 0.0
        self.task = 0.0  # seconds of a test task
        self._testing = self.shared * TEST if self.limited and test is not None else 0.0
        self._validating, self._look = 0.0, 0.0  # seconds: of a validation, and beside it of the first
        self._looked = False  # whether a look at the routes was timed
        self._validated, self._skipped = 0.0, False
        self._trains = self._last = time.monotonic()
        self._taken: list[float] = []
        self._told = self.seconds == math.inf
        self._batches: list[float] = []

    @property
    def limited(self) -> bool:
        """Whether there is a limit."""
        return self.seconds < math.inf

    @property
    def left(self) -> float:
        """Seconds until everything is to be done."""
        return self.seconds - (time.monotonic() - self.began)

    @property
    def for_training(self) -> float:
        """Seconds for further outer steps: what is left but for the last validation, the test and what comes after."""
        return self.left - self.earlier - self._validating - self._testing - self._drawing

    @property
    def pictured(self) -> int:
        """How many single tasks to run for pictures: at least two, if any."""
        if not self.limited:
            return self.most_pictured
        return min(self.most_pictured, max(2, int(PICTURED * self.shared / max(self.task, 1e-9))))

    @property
    def over(self) -> bool:
        """Whether another outer step would end later than half of it."""
        return self.limited and self.for_training <= 0.5 * (min(self._taken) if self._taken else 0.0)

    @property
    def _drawing(self) -> float:
        return self.after + self.pictured * self.task if self.limited else 0.0

    def begin(
        self,
        learner: Learner,
        spent: float,
        protocol: Protocol,
        validation: TaskSource | SampleFunction | None,
    ) -> Protocol:
        """Measure what a task takes, and return how to validate: on fewer tasks, where all take too long.

        The weights, the learner's memory of routes and the random state stay as they are: a copy is measured.

        Args:
            learner: what is trained.
            spent: seconds that earlier lives of the run have trained.
            protocol: of a validation.
            validation: where its tasks come from; None where nothing is validated.
        """
        self.earlier = spent
        protocol = self._kept_back(learner, protocol, validation) if self.limited else protocol
        self._trains = self._last = time.monotonic()
        return protocol

    def _kept_back(
        self, learner: Learner, protocol: Protocol, validation: TaskSource | SampleFunction | None
    ) -> Protocol:
        source, how = self.test if self.test is not None else (validation, protocol)
        if source is None:
            return protocol
        look, self.task = self._timed(_copied(learner), source, how)  # a test task, judged oftener, takes longest
        if self.test is not None:
            whole = look + 1.1 * self.test[1].tasks * self.task
            self._testing = min(self._testing, self.times * whole)
        if validation is None:
            return protocol
        most = max(_FEWEST, int(ONE_VALIDATION * self.shared / max(self.task, 1e-9)))
        if most < protocol.tasks:
            logger.info(
                "a validation is on %d tasks rather than %d, as one takes about %s",
                most,
                protocol.tasks,
                _told(self.task),
            )
            protocol = replace(protocol, tasks=most)
        self._look, self._validating = look, look + self.task * protocol.tasks
        return protocol

    def _timed(self, learner: Learner, source: TaskSource | SampleFunction, protocol: Protocol) -> tuple[float, float]:
        """Return how long the first look at such tasks takes, and then each of them.

        One is timed, and again. Where it is quick and there is a minute, two are, whose first time has the look in it,
        and then many at once.
        """

        def seconds(tasks: int) -> float:
            since = time.monotonic()
            measure(learner, source, replace(protocol, tasks=tasks))
            return (time.monotonic() - since) / tasks

        first = seconds(1)
        alone = first if first > _QUICK else seconds(1)
        if alone > _QUICK or self.shared < _LONG:
            return first - alone, alone
        self._looked = True
        look = max(0.0, _FEWEST * (seconds(_FEWEST) - seconds(_FEWEST)))
        return look, seconds(min(_AT_ONCE, protocol.tasks))

    # ---- during the training -------------------------------------------------------------------

    def stepped(self, step: int, training: Training, say: Callable[[str], None]) -> None:
        """Be told that an outer step was taken; once their pace is known, say how many the time will buy."""
        if self._told:
            return
        now = time.monotonic()
        self._taken.append(now - self._last)
        self._last = now
        if len(self._taken) == 2 and not self._looked:
            look = max(0.0, self._taken[1] - self._taken[0])  # that of the trace will take no longer
            self._look += look if self._validating else 0.0
            self._validating += look if self._validating else 0.0
            self._testing += look if self.test is not None else 0.0
        paced = now - self._trains > _PACED and (len(self._taken) > 2 or (self._taken[0] > _PACED and not self.earlier))
        if not paced and step < training.steps and not self.over:
            return
        self._told = True
        say(self.forecast(step, training))

    def forecast(self, step: int, training: Training) -> str:
        """Return how many outer steps the time will buy and, where those are few, what to try instead."""
        pace = statistics.median(self._taken[2:] or self._taken[:1])
        every = training.validate_every * pace
        validating = min(VALIDATIONS, self._validating / every) if every else 0.0
        fits = step + max(0, round((1 - validating) * self.for_training / pace))
        minutes = self.seconds / 60
        before, ending = self._trains - self.began, self._validating + self._testing + self._drawing
        spent = f", {_told(self.earlier)} of them spent" if self.earlier else ""
        shares = f"{_told(pace)} each, {_told(before)} before, {_told(ending)} kept to validate, test and draw"
        if fits >= training.steps:
            return f"all {training.steps:,} outer steps fit into {minutes:g} minutes{spent} ({shares})"
        words = (
            f"about {_rounded(fits):,} outer steps of {training.steps:,} fit into {minutes:g} minutes{spent} ({shares})"
        )
        if fits >= max(TOO_FEW, TOO_FEW_OF_ALL * training.steps):
            return words
        hints = "; ".join((*self.cheaper, "more minutes"))
        return f"{words}\nthat is too few to learn much; what gets further: {hints}"

    def validates(self) -> bool:
        """Return whether a validation that is due is worth its time now; say so the first time it is not."""
        if not self.limited:
            return True
        passed = time.monotonic() - self._trains
        fits = self._validated + self._validating <= VALIDATIONS * passed and self.for_training > self._validating
        if not fits and not self._skipped:
            self._skipped = True
            logger.info(
                "validations are further apart than training.validate_every: one takes %s, and all on the way "
                "at most a fifth of the training",
                _told(self._validating),
            )
        return fits

    def validated(self, seconds: float) -> None:
        """Be told how long a validation took."""
        self._validated += seconds
        self._validating, self._look = max(0.0, seconds - self._look), 0.0

    # ---- after it ------------------------------------------------------------------------------

    def at_once(self, protocol: Protocol) -> int:
        """Return how many test tasks to measure at a time: 25, or fewer where all don't fit and a few take long."""
        if not self.limited or self.times * protocol.tasks * self.task <= self.left - self._drawing:
            return _AT_ONCE
        return max(1, min(_AT_ONCE, int(0.02 * self.shared / max(self.task, 1e-9))))

    def enough(self, done: int) -> bool:
        """Return whether to stop measuring, with `done` tasks measured: the next ones would take what drawing needs."""
        now = time.monotonic()
        self._batches = [*self._batches, now - self._last] if done else []
        self._last = now
        if not self.limited or done < _FEWEST:
            return False
        again = (self.times - 1) * sum(self._batches)  # so long it takes each time
        return self.left - self._drawing - again < self.times * min(self._batches)


def _copied(learner: Learner) -> Learner:
    try:
        return copy.deepcopy(learner)
    except Exception:  # a module that can't be copied is measured itself; that leaves its weights alone as well
        return learner


def _rounded(count: int) -> int:
    """Return a count with two digits, as no more is known."""
    return int(float(f"{count:.2g}"))


def _told(seconds: float) -> str:
    """Return a time for a person.

    Example:
        >>> _told(0.0123), _told(3.21), _told(75.0)
        ('12 ms', '3.2 s', '75 s')
    """
    return f"{1000 * seconds:.2g} ms" if seconds < 0.1 else f"{seconds:.2g} s" if seconds < 99.5 else f"{seconds:.0f} s"
