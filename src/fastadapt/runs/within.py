"""How a budget is written, how many outer steps fit into it, and a run that keeps to it."""

import logging
import re
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fastadapt.data.images.resident import resident
from fastadapt.errors import ConfigError
from fastadapt.evaluation import measure, with_headline
from fastadapt.learner import Learner
from fastadapt.runs.config import RunConfig
from fastadapt.runs.run_files import read_config
from fastadapt.tasks import SampleFunction, TaskSource, draw_batch
from fastadapt.training.captured import captured_where_it_can_be
from fastadapt.training.outer_step import outer_step
from fastadapt.training.saved_steps import newest_step, saved_steps
from fastadapt.training.settings import Training

logger = logging.getLogger("fastadapt")

_UNITS = {"s": 1 / 60, "m": 1.0, "h": 60.0}
_WARM, _TIMED = 3, 8
_NO_CURVE = 100
_MARGIN = 0.95  # checkpoints take the rest


def minutes_of(text: str) -> float:
    """Return the minutes of a budget such as "20m", "1.5h" or "90s".

    Raises:
        ConfigError: if it is not written like that, or not above 0.

    Example:
        >>> minutes_of("20m"), minutes_of("1.5h")
        (20.0, 90.0)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([smh])\s*", text)
    if match is None or not float(match[1]) > 0:
        raise ConfigError(f"a budget is written as 90s, 20m, 1.5h or 8000steps, got {text!r}")
    return float(match[1]) * _UNITS[match[2]]


def steps_of(text: str) -> int | None:
    """Return the outer steps of a budget such as "8000steps"; None for a budget of time.

    Raises:
        ConfigError: if they are fewer than 10.

    Example:
        >>> steps_of("8000steps"), steps_of("20m")
        (8000, None)
    """
    match = re.fullmatch(r"\s*(\d+)\s*steps\s*", text)
    if match is None:
        return None
    if int(match[1]) < 10:
        raise ConfigError(f"a budget has at least 10 outer steps, got {text!r}")
    return int(match[1])


def scheduled(config: RunConfig) -> bool:
    """Return whether the outer rate depends on the number of steps, so that a shorter run is another run."""
    return config.training.schedule not in ("constant", "step")


def fitting_steps(
    learner: Learner,
    source: TaskSource | SampleFunction,
    config: RunConfig,
    minutes: float,
    validation: TaskSource | SampleFunction | None = None,
) -> int:
    """Return how many outer steps, with their validations, take `minutes`.

    It is measured on a few steps of a learner that is not needed again, and on a tenth of a validation. The first steps
    are not counted: shapes are measured and compiled there. What is returned has two leading digits, since no more is
    known.

    Returns:
        At least 10 and at most the published number of steps.
    """
    training = config.training
    optimizer = training.build_optimizer(learner)
    step_once = captured_where_it_can_be(outer_step, optimizer)
    device = next(p.device for p in learner.parameters())
    source = resident(source, device)
    engine: Any = getattr(learner, "engine", None)
    if engine is not None:
        engine.expect(training.steps, 60 * minutes)
    learner.train()
    seconds = []
    for step in range(_WARM + _TIMED):
        began = time.perf_counter()
        numbers = range(step * training.meta_batch, (step + 1) * training.meta_batch)
        tasks = draw_batch(source, seed=training.seed, split="train", indices=numbers)
        step_once(learner, [group.to(device) for group in tasks], optimizer, training)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if step >= _WARM:
            seconds.append(time.perf_counter() - began)
    pace, room = statistics.median(seconds), _MARGIN * 60 * minutes
    validating = 0.0 if validation is None else _validation_seconds(learner, resident(validation, device), config)

    def seconds_of(steps: int) -> float:
        return steps * pace + validations(shortened(config, steps).training) * validating

    steps = max(10, min(training.steps, int(float(f"{room / pace:.2g}"))))
    while steps > 10 and seconds_of(steps) > room:
        steps = max(10, int(float(f"{0.95 * steps:.2g}")))
    return steps


def validations(training: Training) -> int:
    """Return how many validations a training makes: on its way, and of the last weights.

    Example:
        >>> validations(Training(steps=100, validate_every=30)), validations(Training(steps=100))
        (4, 0)
    """
    every = training.validate_every
    return -(-training.steps // every) if every else 0


def _validation_seconds(learner: Learner, source: TaskSource | SampleFunction, config: RunConfig) -> float:
    """Return how long one validation takes, from a tenth of its tasks; routes are measured before, on a few."""
    whole = config.validation
    after = with_headline([0], whole, learner.eval())
    seconds = 0.0
    for tasks in (2, max(2, whole.tasks // 10)):
        began = time.perf_counter()
        measure(learner, source, replace(whole, tasks=tasks), after=after)
        seconds = (time.perf_counter() - began) * whole.tasks / tasks
    return seconds


def shortened(config: RunConfig, steps: int) -> RunConfig:
    """Return the run with its schedule squeezed into `steps`, validated at least four times on the way.

    More often would cost a short run more than its training, since Reptile's validations take 50 inner steps. In 100
    outer steps or fewer there is no curve to see, and no validation where the last weights are the result anyway.
    """
    every = config.training.validate_every
    if steps <= _NO_CURVE and config.export == "last":
        every = 0
    training = replace(config.training, steps=steps, validate_every=min(every, max(1, steps // 4)) if every else 0)
    return replace(config, training=training)


def within(budget: str | None, config: RunConfig, run: Path, loaded: Any, device: torch.device) -> RunConfig:
    """Return the configuration whose training keeps to a budget; a run that was begun keeps its number of steps.

    Args:
        budget: time to train in all, as "20m", or outer steps, as "8000steps"; None trains as long as `config` says.
        config: the run.
        run: its folder, which may not exist yet.
        loaded: what `config.data.load` returned.
        device: where it trains.

    Raises:
        ConfigError: if the budget can't be read, or the run has more outer steps already.
    """
    if budget is None:
        return config
    steps = steps_of(budget)
    if steps is not None:
        if steps >= config.training.steps:
            return config
        if (done := newest_step(run / "checkpoints")) > steps:
            raise ConfigError(f"{run} has {done:,} outer steps already, ask for more than {steps:,} or another folder")
        fewer = replace(config, training=replace(config.training, steps=steps))
        return shortened(config, steps) if scheduled(config) else fewer
    minutes = minutes_of(budget)
    if not scheduled(config):
        return replace(config, training=replace(config.training, minutes=minutes))
    if saved_steps(run / "checkpoints"):
        return shortened(config, read_config(run).training.steps)
    torch.manual_seed(config.training.seed)
    validation = config.data.source("val", loaded) if config.training.validate_every else None
    steps = fitting_steps(config.build().to(device), config.data.source("train", loaded), config, minutes, validation)
    logger.info("%s outer steps of %s fit into %s", f"{steps:,}", f"{config.training.steps:,}", budget)
    return shortened(config, steps) if steps < config.training.steps else config
