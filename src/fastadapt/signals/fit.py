"""Two fits of one signal side by side, step by step: from the learned start, and from a random one."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from fastadapt.errors import ConfigError, DivergenceError
from fastadapt.signals.signal import Signal
from fastadapt.signals.starts import Pair, Start

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
        pair: the starts; they stay as they are.
        steps: 0..1000.
        check: is called between two steps of a network, and raises to stop.

    Raises:
        ConfigError: for a number of steps outside its range.
        DivergenceError: if numbers are no longer finite; whatever `check` raises.

    Example:
        >>> from fastadapt.signals.example import example
        >>> from fastadapt.signals.starts import load_pair
        >>> *_, last = fits(example("photo"), load_pair("photo"), 2)
        >>> last.learned.decibels > last.random.decibels
        True
    """
    if not 0 <= steps <= MOST_STEPS:
        raise ConfigError(f"a fit takes 0 to {MOST_STEPS} steps, got {steps}")
    tasks = signal.tasks()
    lines = [_line(signal, start, tasks, steps, check) for start in (pair.learned, pair.random)]
    for step, (learned, random) in enumerate(zip(*lines, strict=True)):
        yield Both(step, learned, random)


def _line(
    signal: Signal, start: Start, tasks: list[tuple[Tensor, Tensor]], steps: int, check: Callable[[], None]
) -> Iterator[Fit]:
    walks = [_walk(start, where, values, steps) for where, values in tasks]
    for step in range(steps + 1):
        outputs = []
        for walk in walks:
            check()
            outputs.append(next(walk))
        values = signal.joined(outputs)
        if not np.isfinite(values).all():
            raise DivergenceError(f"after {step} steps the numbers are no longer finite; ask for fewer")
        yield Fit(values, signal.decibels(values))


def _walk(start: Start, where: Tensor, values: Tensor, steps: int) -> Iterator[Tensor]:
    """Yield the values at all positions after 0, 1, ... steps on the mean squared error.

    It is `Learner.adapting` for a network that has nothing to settle, such as batch norm, and without what that costs:
    a sound has dozens of networks that each take a few milliseconds.
    """
    net, rule = copy.deepcopy(start.net), start.rule  # a call puts other weights into the module for a moment
    params = {name: p.detach().to(where.dtype) for name, p in net.named_parameters()}
    state, rows = rule.init(params), _rows(len(where), start.batch)
    for step in range(steps + 1):
        leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
        points = next(rows)
        with torch.set_grad_enabled(points is None and step < steps):
            seen = functional_call(net, leaves, (where,))
        yield seen.detach()
        if step == steps:
            return
        output = seen if points is None else functional_call(net, leaves, (where[points],))
        loss = functional.mse_loss(output, values if points is None else values[points])
        grads = dict(zip(leaves, torch.autograd.grad(loss, tuple(leaves.values())), strict=True))
        with torch.no_grad():
            params, state = rule.update(leaves, grads, state)


def _rows(total: int, batch: int | None) -> Iterator[Tensor | None]:
    """Yield the points of each step: None for all, or a batch of the shuffled ones, shuffled anew when used up."""
    drawn, left = torch.Generator().manual_seed(0), torch.zeros(0, dtype=torch.long)
    while True:
        if batch is None or batch >= total:
            yield None
            continue
        if len(left) < batch:
            left = torch.cat([left, torch.randperm(total, generator=drawn)])
        yield left[:batch]
        left = left[batch:]
