"""Budgets of time: how they are written, and how many steps fit."""

import time
from dataclasses import replace

import pytest
import torch

from fastadapt.data.sinusoid import Sinusoid
from fastadapt.errors import ConfigError
from fastadapt.runs.config import RunConfig
from fastadapt.runs.presets import PRESETS
from fastadapt.runs.within import fitting_steps, minutes_of, scheduled, shortened, steps_of, validations
from fastadapt.tasks import Task

REPTILE = PRESETS["reptile-sinusoid"][1]


@pytest.mark.parametrize(("text", "minutes"), [("90s", 1.5), ("20m", 20.0), ("1.5h", 90.0), (" 2 h ", 120.0)])
def test_a_budget_is_a_number_with_its_unit(text: str, minutes: float) -> None:
    assert minutes_of(text) == minutes


@pytest.mark.parametrize("text", ["", "20", "m", "-5m", "0s", "1d", "1h30m", "nan m"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match=r"written as 90s, 20m, 1\.5h or 8000steps"):
        minutes_of(text)


def test_a_budget_may_be_a_number_of_outer_steps() -> None:
    assert [steps_of(text) for text in ("8000steps", " 10 steps ", "90s", "20m", "soon")] == [
        8000,
        10,
        None,
        None,
        None,
    ]
    with pytest.raises(ConfigError, match="at least 10 outer steps, got '9steps'"):
        steps_of("9steps")


def slow(rng, queries=0) -> Task:
    """Draw a wave, which takes a while."""
    time.sleep(0.02)
    return Sinusoid("reptile", 50, queries).sample(rng)


def test_the_steps_that_fit_follow_from_the_time_of_one() -> None:
    torch.manual_seed(0)
    # one task a step, 20 ms each and a little more: 30 s hold less than 1500 steps, and not less than a quarter of it
    steps = fitting_steps(REPTILE.build(), slow, REPTILE, 0.5)
    assert 350 <= steps <= 1500
    assert steps == int(float(f"{steps:.2g}"))


@pytest.mark.long
def test_validations_count_as_well() -> None:
    torch.manual_seed(0)
    # five validations of 100 tasks, 20 ms each and some more to adapt: 10 s of the 30 and more
    config = replace(REPTILE, validation_tasks=100)
    without = fitting_steps(config.build(), slow, config, 0.5)
    steps = fitting_steps(config.build(), slow, config, 0.5, lambda rng: slow(rng, queries=10))
    assert steps < 0.85 * without


def test_a_run_that_validates_often_pays_for_each_of_them() -> None:
    config = replace(REPTILE, training=replace(REPTILE.training, steps=30_000, validate_every=500))
    assert [validations(shortened(config, steps).training) for steps in (90, 400, 2000, 30_000)] == [0, 4, 4, 60]
    assert validations(shortened(config, 2100).training) == 5  # the last weights as well


def test_never_more_than_were_published_nor_fewer_than_ten() -> None:
    short = replace(REPTILE, training=replace(REPTILE.training, steps=40))
    source = Sinusoid("reptile", 50, 0)
    assert fitting_steps(short.build(), source, short, 10.0) == 40
    assert fitting_steps(short.build(), source, short, 1e-6) == 10


def test_a_shortened_run_keeps_its_schedule_and_validates_on_the_way() -> None:
    config: RunConfig = replace(REPTILE, training=replace(REPTILE.training, validate_every=5000))
    short = shortened(config, 200)
    assert scheduled(config)
    assert short.training.validate_every == 50
    assert short.training.rate(100) == pytest.approx(config.training.lr / 2)
    assert shortened(config, 100).training.validate_every == 0
    assert shortened(replace(config, export="best"), 100).training.validate_every == 25
    never = replace(config, training=replace(config.training, validate_every=0))
    assert shortened(never, 200).training.validate_every == 0
