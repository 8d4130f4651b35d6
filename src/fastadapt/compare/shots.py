"""One learner on sine waves with several numbers of support points."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from fastadapt.compare.tune import at_rate
from fastadapt.data.sinusoid import Family, Sinusoid
from fastadapt.evaluation import Evaluation, Protocol, evaluate
from fastadapt.learner import Learner
from fastadapt.methods.gradient import GradientLearner

Rates = Mapping[int, float]
"""A step size for each number of shots."""


def evaluate_shots(
    learner: Learner,
    *,
    shots: Sequence[int] = (5, 10, 20),
    family: Family = "maml",
    oracle: bool = False,
    protocol: Protocol | None = None,
    rates: Rates | None = None,
) -> dict[int, Evaluation]:
    """Evaluate a learner on sinusoids with several numbers of support points, on a grid of 100 query points.

    Args:
        learner: the learner.
        shots: support points K.
        family: the family of waves.
        oracle: whether the learner is told height and phase.
        protocol: how to measure; default 600 tasks, 10 steps, and the interval with `ddof=0` as in MAML's code.
        rates: inner step sizes, where they differ from the learner's own.

    Returns:
        `{K: evaluation}`.

    Example:
        >>> from fastadapt import MAML, MLP
        >>> results = evaluate_shots(MAML(MLP(1, (8,), 1)), shots=(5,), protocol=Protocol(tasks=4, steps=2))
        >>> len(results[5].mean)
        3
    """
    protocol = protocol if protocol is not None else Protocol("sinusoid-v1", tasks=600, steps=10, ddof=0)
    results = {}
    for k in shots:
        source = Sinusoid(family, shots=k, queries=100, grid=True, oracle=oracle)
        with rated(learner, rates, k):
            results[k] = evaluate(learner, source, protocol, meta_batch=100)
    return results


def rated(learner: Learner, rates: Rates | None, shots: int) -> AbstractContextManager[Any]:
    """Return a context in which the learner has the step size for that number of shots."""
    rate = None if rates is None else rates.get(shots)
    return at_rate(learner, rate) if isinstance(learner, GradientLearner) else nullcontext()
