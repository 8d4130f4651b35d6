"""Train a published run, measure it under the paper's protocol, and write both numbers side by side.

A run whose outer rate is constant stops at the budget and goes on from there with a larger one. Where the outer rate
falls with the steps (Reptile), a budget squeezes the whole schedule into the steps that fit; such a run has a folder of
its own. Either way the result says which fraction of the published training it is.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fastadapt.compare.tune import at_rate, tune_step_size
from fastadapt.data.sinusoid import Half, Sinusoid
from fastadapt.errors import ConfigError
from fastadapt.evaluation import Evaluation, evaluate
from fastadapt.learner import Learner
from fastadapt.methods.averaged import average_regressors
from fastadapt.methods.fine_tune import FineTune
from fastadapt.methods.gradient import GradientLearner
from fastadapt.methods.tuning import tune_transfer
from fastadapt.nets.settings import build_net
from fastadapt.published.experiment import Experiment, Measurement
from fastadapt.report.waves import adapted_wave
from fastadapt.rules.rules import with_lr
from fastadapt.runs.config import RunConfig, SinusoidData
from fastadapt.runs.run_files import LoadedRun, export_model, load_run, settle
from fastadapt.runs.within import scheduled, within
from fastadapt.tasks import TaskSource
from fastadapt.training.log import read_metrics
from fastadapt.training.train import Stop, meta_train

_FEW = (0, 1, 2, 5, 10, 20)

logger = logging.getLogger("fastadapt")


@dataclass(frozen=True)
class Reproduced:
    """Hold what one training of a published run gave.

    Args:
        record: the facts of it, as they go into the result file.
        stopped: how the training ended; a signal leaves no result.
    """

    record: dict[str, Any]
    stopped: Stop


def reproduce(
    experiment: Experiment,
    *,
    folder: Path,
    seed: int = 0,
    budget: str | None = None,
    tasks: int | None = None,
    device: torch.device | None = None,
    data: Path | None = None,
    download: bool = False,
    quiet: bool = False,
) -> Reproduced:
    """Train `experiment` with one seed, or go on with it, and measure it.

    Args:
        experiment: the published run.
        folder: where its runs live, one folder for each seed.
        seed: of the weights and of the training tasks; the test tasks never depend on it.
        budget: time to train in all, as "20m", or outer steps, as "8000steps"; None trains as long as the paper.
        tasks: measure on at most so many test tasks, the first of the paper's stream; None takes as many as the paper.
        device: where tensors live; None is the CPU.
        data: the folder that holds the data set.
        download: fetch the data set if it is not found.
        quiet: show nothing while it trains.

    Raises:
        ConfigError: for a budget that can't be read, a number of tasks below 2, or a folder that holds another run.
        DataError: if the data can't be used.
    """
    experiment = measured_on(experiment, tasks)
    device = device if device is not None else torch.device("cpu")
    config = replace(experiment.config, training=replace(experiment.config.training, seed=seed))
    loaded = config.data.load(data, download)
    if experiment.averages is not None:
        return _averaged(experiment, config, loaded, device)
    run = folder / (f"seed-{seed}-{budget}" if budget is not None and scheduled(config) else f"seed-{seed}")
    config = within(budget, config, run, loaded, device)
    settle(run, config)
    torch.manual_seed(seed)
    learner = config.build().to(device)
    trained = meta_train(
        learner,
        config.data.source("train", loaded),
        config.training,
        validation=config.data.source("val", loaded) if config.training.validate_every else None,
        protocol=config.validation,
        folder=run,
        quiet=quiet,
    )
    if trained.stopped in ("SIGINT", "SIGTERM"):
        return Reproduced({}, trained.stopped)
    export_model(run, config)
    exported = load_run(run)
    exported.learner.to(device)
    measured = [_measured(m, exported, experiment, loaded, device) for m in experiment.measurements]
    records = read_metrics(run / "metrics.jsonl") if (run / "metrics.jsonl").is_file() else []
    waves = _waves(exported.learner, config, measured) if isinstance(config.data, SinusoidData) else {}
    record = {
        "seed": seed,
        "steps": trained.step,
        "published steps": experiment.config.training.steps,
        "fraction": round(trained.step / experiment.config.training.steps, 6),
        "weights of step": exported.step,
        "seconds of training": round(float(records[-1]["seconds"]), 1) if records else 0.0,
        "skipped steps": trained.skipped,
        "measurements": measured,
        "curve": _curve(records),
        "training loss": _losses(records),
        **waves,
        "config": json.loads(config.to_json()),
    }
    return Reproduced(record, trained.stopped)


def measured_on(experiment: Experiment, tasks: int | None) -> Experiment:
    """Return the experiment with measurements on at most so many test tasks.

    Raises:
        ConfigError: if they are fewer than 2, which have no interval.
    """
    if tasks is None:
        return experiment
    if tasks < 2:
        raise ConfigError(f"a measurement with an interval needs at least 2 test tasks, got {tasks}")
    fewer = [
        replace(m, protocol=replace(m.protocol, tasks=min(tasks, m.protocol.tasks))) for m in experiment.measurements
    ]
    return replace(experiment, measurements=tuple(fewer))


def _measured(
    measurement: Measurement, exported: LoadedRun, experiment: Experiment, loaded: Any, device: torch.device
) -> dict[str, Any]:
    """Return one measurement of the trained weights, their fine-tuning rates chosen before where there is a choice."""
    config = exported.config
    ways = measurement.config(config).data.ways
    learner = _by(measurement, exported if ways is None else exported.narrowed(ways)).to(device)
    test = measurement.source(config, "test", loaded)
    with _tuned(learner, measurement, experiment, lambda: measurement.source(config, "val", loaded)) as choice:
        result = evaluate(learner, test, measurement.protocol, after=judged_after(measurement, config))
    return {**_facts(measurement, result), **choice}


def judged_after(measurement: Measurement, config: RunConfig) -> list[int] | None:
    """Return after how many inner steps a measurement judges: on waves after each, as the figures of them show.

    Networks of images answer a task's queries for as long as they adapt to it, and longer where each is answered
    beside the support set: for them it is a few, and those with a published number.
    """
    if isinstance(config.data, SinusoidData) or measurement.protocol.steps is None:
        return None
    few = [step for step in _FEW if step <= measurement.protocol.steps]
    return sorted({*few, *measurement.claims})


def _by(measurement: Measurement, exported: LoadedRun) -> Learner:
    """Return the learner of a measurement: the exported one, or another method around its weights."""
    if measurement.by is None:
        return exported.learner
    learner = replace(exported.config, method=measurement.by).build()
    learner.load_state_dict(exported.learner.state_dict())
    return learner.eval()


@contextmanager
def _tuned(
    learner: Learner, measurement: Measurement, experiment: Experiment, validation: Callable[[], TaskSource]
) -> Iterator[dict[str, Any]]:
    """Give a learner that is fine-tuned the rate that serves it best on validation tasks, for a `with` block."""
    if not experiment.rates or not isinstance(learner, GradientLearner) or learner.test_steps == 0:
        yield {}
        return
    before: Any = learner.rule
    seed = measurement.protocol.seed + 1
    try:
        if isinstance(learner, FineTune):
            found = tune_transfer(
                learner,
                validation(),
                rates=experiment.rates,
                decays=experiment.decays or (0.0,),
                tasks=experiment.tuned_on,
                seed=seed,
            )
            learner.rule = found.rule
            tried = {f"{lr:g}, decay {decay:g}": mean for (lr, decay), mean in found.accuracy.items()}
            yield {"rate": found.lr, "decay": found.decay, "rates tried": tried}
        else:
            protocol = replace(measurement.protocol, tasks=experiment.tuned_on, seed=seed)
            tuned = tune_step_size(learner, validation(), experiment.rates, protocol)
            learner.rule = with_lr(before, tuned.rate)
            rates = {f"{rate:g}": mean if math.isfinite(mean) else str(mean) for rate, mean in tuned.results.items()}
            yield {"rate": tuned.rate, "rates tried": rates}
    finally:
        learner.rule = before


def _facts(measurement: Measurement, result: Evaluation) -> dict[str, Any]:
    facts = json.loads(result.to_json())
    kept = (
        "metric",
        "mean",
        "ci95",
        "median",
        "nonfinite",
        "finite_mean",
        "transductive",
        "higher_is_better",
        "norm",
        "after",
    )
    return {"name": measurement.name, "protocol": facts["protocol"], **{name: facts[name] for name in kept}}


def _waves(learner: Learner, config: RunConfig, measured: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one test wave as the papers show it, before and after adaptation, as `{"waves": records, ...}`.

    MAML's figure has 5 points in the right half and 10 anywhere, and up to 10 steps. Reptile's has 10 points and 32
    steps, and a network that was not trained beside the trained ones.
    """
    assert isinstance(config.data, SinusoidData)
    last = measured[0]["protocol"]["steps"]
    if config.data.family == "reptile":
        torch.manual_seed(config.training.seed)
        learners = {"waves": learner, "waves before training": config.build().eval()}
        shown = {"steps": (0, last), "family": "reptile", "oracle": config.data.oracle}
        return {name: [adapted_wave(each, 10, **shown).record()] for name, each in learners.items()}
    steps = (0, 1, 10) if last else (0,)
    rates = {m["name"]: m["rate"] for m in measured if "rate" in m}
    waves = []
    places: tuple[tuple[int, Half | None], ...] = ((5, "right"), (10, None))
    for shots, half in places:
        with at_rate(learner, rates.get(f"K={shots}")) if isinstance(learner, GradientLearner) else nullcontext():
            wave = adapted_wave(learner, shots, half=half, steps=steps, oracle=config.data.oracle)
        waves.append(wave.record())
    return {"waves": waves}


def _averaged(experiment: Experiment, config: RunConfig, loaded: Any, device: torch.device) -> Reproduced:
    """Train single-task regressors, and measure their mean as a pretrained network is."""
    began = time.monotonic()
    settings = dict(experiment.averages or {})
    source = Sinusoid(shots=settings.pop("points"), queries=0)
    averaged = average_regressors(
        lambda: build_net(config.net.describe(config.data)).to(device), source, seed=config.training.seed, **settings
    )
    logger.info("%s", averaged)
    learner = config.build()
    assert isinstance(learner, GradientLearner)
    learner.model.load_state_dict(averaged.state)
    exported = LoadedRun(learner.eval(), config, experiment.name, int(averaged.updates.max()))
    seconds = round(time.monotonic() - began, 1)
    measured = [_measured(m, exported, experiment, loaded, device) for m in experiment.measurements]
    record = {
        "seed": config.training.seed,
        "steps": exported.step,
        "published steps": None,
        "fraction": 1.0,
        "weights of step": exported.step,
        "seconds of training": seconds,
        "regressors": {"tasks": len(averaged.errors), "reached": averaged.reached, "threshold": averaged.threshold},
        "measurements": measured,
        "curve": [],
        "config": json.loads(config.to_json()),
    }
    return Reproduced(record, "finished")


def _curve(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the validations: step, seconds, and every number whose name begins with "val"."""
    kept = [r for r in records if any(key.startswith("val ") for key in r)]
    return [{k: v for k, v in r.items() if k in ("step", "seconds") or k.startswith("val ")} for r in kept]


def _losses(records: list[dict[str, Any]], most: int = 200) -> list[list[float]]:
    """Return `[step, loss]` of at most `most` records, evenly spread."""
    rows = [[r["step"], r["loss"]] for r in records if "loss" in r]
    return rows[:: max(1, -(-len(rows) // most))]
