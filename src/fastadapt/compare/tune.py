"""The step size of fine-tuning, tuned on tasks of its own: a baseline deserves its best setting."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from torch import Tensor

from fastadapt.errors import ConfigError
from fastadapt.evaluation import Protocol, evaluate
from fastadapt.methods.gradient import GradientLearner
from fastadapt.rules.rules import with_lr
from fastadapt.tasks import SampleFunction, TaskSource


@dataclass(frozen=True)
class Tuned:
    """Hold the result of a search for a step size.

    Args:
        rate: the best step size.
        results: for every step size that was tried, the metric's mean over the validation tasks; not finite
            where a task diverged.
    """

    rate: float
    results: dict[float, float]


@contextmanager
def at_rate(learner: GradientLearner, rate: float | Tensor | None) -> Iterator[GradientLearner]:
    """Give the learner's inner rule another step size for the length of a `with` block; None changes nothing.

    Several rates given as tensors are run as one program; each one given as a number is a program of its own.
    """
    before = learner.rule
    learner.rule = before if rate is None else with_lr(before, rate)
    try:
        yield learner
    finally:
        learner.rule = before


def tune_step_size(
    learner: GradientLearner,
    source: TaskSource | SampleFunction,
    rates: Sequence[float],
    protocol: Protocol | None = None,
) -> Tuned:
    """Return the step size that serves a learner best on validation tasks, never on the test tasks.

    Args:
        learner: usually a `Pretrain`; left as it was.
        source: where the tasks come from, with as many shots as in the test.
        rates: the step sizes to try.
        protocol: how to measure; default 200 tasks and 10 steps. Its stream is always "val".

    Returns:
        The best rate (highest accuracy or return, otherwise lowest mean), and what every rate gave. A rate
        with which a task diverges loses to every other.

    Raises:
        ConfigError: if `rates` is empty, or every rate diverges.

    Example:
        >>> from fastadapt import MLP, Pretrain
        >>> from fastadapt.data.sinusoid import Sinusoid
        >>> learner = Pretrain(MLP(1, (8,), 1, init_std=None))
        >>> tuned = tune_step_size(learner, Sinusoid(), [1e-9, 0.01], Protocol(tasks=20, steps=5))
        >>> tuned.rate
        0.01
    """
    if not rates:
        raise ConfigError("tuning needs at least one step size to try, got none")
    protocol = replace(protocol if protocol is not None else Protocol(tasks=200, steps=10), split="val")
    results: dict[float, float] = {}
    scores: dict[float, float] = {}
    for rate in rates:
        with at_rate(learner, rate):
            result = evaluate(learner, source, protocol, meta_batch=100, after=[])
        diverged = result.nonfinite[result.column] > 0
        results[rate] = math.nan if diverged else result.result
        if result.score is not None and not diverged:
            scores[rate] = result.score
    if not scores:
        raise ConfigError(f"every step size of {list(rates)} made a task diverge; try smaller ones")
    return Tuned(max(scores, key=lambda rate: scores[rate]), results)
