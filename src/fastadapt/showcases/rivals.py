"""Meta-trained rivals of a showcase: trained for some seconds, and tuned on validation tasks for what is measured."""

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastadapt.errors import ConfigError
from fastadapt.evaluation import Protocol, evaluate
from fastadapt.methods.gradient import GradientLearner
from fastadapt.tasks import TaskSource
from fastadapt.training.settings import Training
from fastadapt.training.train import meta_train

FEW = 5
"""Outer steps where nothing but the direction is to be seen."""
_WARM, _PACED = 10, 40
"""Outer steps before the pace is taken, and those that it is taken of."""
Score = Callable[[GradientLearner, Sequence[int]], Sequence[float]]
"""From a learner and numbers of inner steps to its mean on validation tasks after each of them."""


@dataclass(frozen=True)
class Adaptation:
    """Hold how a trained learner adapts to new tasks.

    Args:
        learner: the learner.
        rule: its inner rule.
        steps: its inner steps.
        words: the same for people.
        score: what it had on the validation tasks.
    """

    learner: GradientLearner
    rule: Any
    steps: int
    words: str
    score: float


def train_for(learner: GradientLearner, source: TaskSource, training: Training, seconds: float) -> int:
    """Train a learner for about so many seconds and return the outer steps, so that its schedule ends with them.

    Args:
        learner: trained in place.
        source: of the training tasks.
        training: the outer loop; its `steps` are replaced.
        seconds: until it is to be done, the look at the pace included; 0 trains for `FEW` outer steps.
    """
    if seconds <= 0:
        meta_train(learner, source, replace(training, steps=FEW), quiet=True)
        return FEW
    began = time.monotonic()
    trial = copy.deepcopy(learner)
    meta_train(trial, source, replace(training, steps=_WARM), quiet=True)
    warm = time.monotonic()
    meta_train(trial, source, replace(training, steps=_PACED), quiet=True)
    now = time.monotonic()
    steps = max(1, int((seconds - (now - began)) / ((now - warm) / _PACED)))
    meta_train(learner, source, replace(training, steps=steps), quiet=True)
    return steps


def best_adaptation(
    learners: Mapping[str, GradientLearner],
    rules: Mapping[str, Any],
    steps: Sequence[int],
    score: Score,
    *,
    higher_is_better: bool = False,
) -> Adaptation:
    """Return the learner, the inner rule and the number of inner steps that do best on validation tasks.

    The rule that a learner was trained with is tried as well, under its own name. What is not finite loses.

    Args:
        learners: by name; left as they were.
        rules: further inner rules to try, by name; none is tried where a learner has learned its own.
        steps: numbers of inner steps to try, ascending.
        score: measures a learner on the validation tasks.
        higher_is_better: the direction of `score`.

    Raises:
        ConfigError: if nothing is finite.
    """
    sign, found = (1.0 if higher_is_better else -1.0), []
    for name, learner in learners.items():
        own = learner.rule
        for words, rule in {"its own rule": own, **rules}.items():
            learner.rule = rule
            try:
                values = score(learner, steps)
            finally:
                learner.rule = own
            for k, value in zip(steps, values, strict=True):
                if math.isfinite(value):
                    found.append(Adaptation(learner, rule, k, f"{name}{k} steps, {words}", value))
    if not found:
        raise ConfigError(f"no inner rule of {', '.join(rules)} gives finite values on the validation tasks")
    return max(found, key=lambda one: sign * one.score)


def on_tasks(source: TaskSource, tasks: int, *, seed: int = 1) -> Score:
    """Return the score of a learner: its headline metric on so many validation tasks of a source."""

    def score(learner: GradientLearner, steps: Sequence[int]) -> Sequence[float]:
        protocol = Protocol("tuning-v1", tasks=tasks, steps=max(steps), seed=seed, split="val")
        return evaluate(learner, source, protocol, meta_batch=100, after=steps).mean

    return score
