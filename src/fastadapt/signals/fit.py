"""Two fits of one signal side by side, step by step: from the learned start, and from a random one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from fastadapt.errors import ConfigError, DivergenceError
from fastadapt.methods.reptile import Reptile
from fastadapt.predictor import Predictor
from fastadapt.signals.signal import Signal
from fastadapt.signals.starts import Pair

MOST_STEPS = 1000
USUAL_STEPS = {"photo": 20, "sound": 10}
METRICS = {"photo": "PSNR in dB", "sound": "SNR in dB"}
HEADLINES = {"photo": 2, "sound": 3}
"""Steps after which the two are compared first: those for which such a start is learned."""


@dataclass(frozen=True, eq=False)
class Fit:
    """Hold what a network is after some steps.

    Args:
        values: of the signal, in its form.
        decibels: how near they are to it.
    """

    values: np.ndarray = field(repr=False)
    decibels: float


@dataclass(frozen=True, eq=False)
class Both:
    """Hold both fits after the same number of steps.

    Args:
        step: how many.
        learned: from the learned start.
        random: from the random one.
    """

    step: int
    learned: Fit
    random: Fit

    def without_values(self) -> "Both":
        """Return the figures alone: a long sound after a thousand steps would fill the memory."""
        none = np.zeros(0)
        return Both(self.step, Fit(none, self.learned.decibels), Fit(none, self.random.decibels))


def fits(signal: Signal, pair: Pair, steps: int, check: Callable[[], None] = lambda: None) -> Iterator[Both]:
    """Yield both fits after 0, 1, ..., `steps` steps, as soon as they are computed.

    A sound is fitted window by window, each by a network of its own; a step is a step of all of them.

    Args:
        signal: what is fitted.
        pair: the starts; a copy that nobody else runs.
        steps: 0..1000.
        check: is called between two steps of a network, and raises to stop.

    Raises:
        ConfigError: for a number of steps outside its range.
        DivergenceError: if numbers are no longer finite; whatever `check` raises.

    Example:
        >>> from fastadapt.signals.example import example
        >>> from fastadapt.signals.starts import load_pair
        >>> *_, last = fits(example("photo"), load_pair("photo").copied(), 2)
        >>> last.learned.decibels > last.random.decibels
        True
    """
    if not 0 <= steps <= MOST_STEPS:
        raise ConfigError(f"a fit takes 0 to {MOST_STEPS} steps, got {steps}")
    tasks = signal.tasks()
    lines = [_line(signal, learner, tasks, steps, check) for learner in (pair.learned, pair.random)]
    for step, (learned, random) in enumerate(zip(*lines, strict=True)):
        yield Both(step, learned, random)


def _line(
    signal: Signal, learner: Reptile, tasks: list[tuple[Tensor, Tensor]], steps: int, check: Callable[[], None]
) -> Iterator[Fit]:
    walks = [learner.adapting(task, steps) for task in tasks]
    for step in range(steps + 1):
        outputs = []
        for walk, (where, _) in zip(walks, tasks, strict=True):
            check()
            outputs.append(_seen(next(walk), where))
        values = signal.joined(outputs)
        if not np.isfinite(values).all():
            raise DivergenceError(f"after {step} steps the numbers are no longer finite; ask for fewer")
        yield Fit(values, signal.decibels(values))


@torch.no_grad()
def _seen(predictor: Predictor, where: Tensor) -> Tensor:
    return predictor(where)
