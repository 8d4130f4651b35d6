"""`fastadapt train faces-...`: what differs from other data once the configuration is known: measure and draw faces."""

import dataclasses
from pathlib import Path
from typing import Any

import torch

from fastadapt.data.domains.face_settings import FacesData
from fastadapt.errors import MissingExtraError
from fastadapt.evaluation import evaluate
from fastadapt.learner import Learner
from fastadapt.ranks import Ranks
from fastadapt.report.style import seconds_to_draw
from fastadapt.runs.config import RunConfig
from fastadapt.runs.face_run import FILE, as_face_run, measure_run, save_results
from fastadapt.runs.run_files import export_model, load_run, save_evaluation, settle
from fastadapt.training import clock
from fastadapt.training.budget import Budget
from fastadapt.training.interrupts import EXIT_CODES
from fastadapt.training.train import meta_train

MEASURING = 20.0
"""Seconds that are kept for verification and its intervals, where the minutes are limited."""


def run(
    config: RunConfig,
    folder: Path,
    place: Path | None,
    device: torch.device,
    ranks: Ranks,
    *,
    quiet: bool = False,
    tensorboard: bool = False,
) -> int:
    """Train, choose a threshold, measure the targets and the sources, draw, and return the exit code.

    Args:
        config: the configuration.
        folder: of the run.
        place: folder or pack of the faces.
        device: where tensors live.
        ranks: the processes that train; the first one measures faces, draws and writes.
        quiet: show nothing while it trains.
        tensorboard: also write TensorBoard events.
    """
    data = config.data
    assert isinstance(data, FacesData)
    faces = data.load(place)
    data = dataclasses.replace(data, folder="" if place is None else str(place)).of(faces)
    config = dataclasses.replace(config, data=data)
    training_tasks, test_tasks = data.source("train", faces), data.source("test", faces)
    validation = data.source("val", faces) if config.training.validate_every else None
    learner = fresh(config).to(device)
    if ranks.first:
        settle(folder, config)
    budget, minutes = Budget(None), config.training.minutes
    if minutes is not None:
        after = seconds_to_draw() + MEASURING
        budget = Budget(minutes, clock.began(), test=(test_tasks, config.protocol), after=after)
    trained = meta_train(
        learner,
        training_tasks,
        config.training,
        validation=validation,
        protocol=config.validation,
        folder=folder,
        quiet=quiet,
        tensorboard=tensorboard,
        budget=budget,
    )
    if ranks.first:
        export_model(folder, config)
    if trained.stopped in EXIT_CODES:
        if ranks.first:
            print(f"{folder} stopped at step {trained.step}; the same command goes on from there")
        return EXIT_CODES[trained.stopped]
    ranks.said(None)  # the model is written
    loaded = load_run(folder)
    at_once = ranks.said(budget.at_once(config.protocol))
    learner = loaded.learner.to(device)
    at_home = evaluate(learner, test_tasks, config.protocol, meta_batch=at_once, enough=budget.enough, ranks=ranks)
    if not ranks.first:
        return 0
    save_evaluation(folder, loaded.step, at_home)
    print(f"{folder} (weights of step {loaded.step} of {config.training.steps}): {at_home}")
    model = as_face_run(loaded).model
    results = measure_run(model, lambda: untrained(config).to(device), data, faces)
    save_results(folder / FILE, loaded.step, results)
    print("\n".join(results.lines()))
    try:
        from fastadapt.report.faces import write_face_report

        pictures = write_face_report(folder, model, data, faces, trained.records, loaded.name)
        print(f"report: {', '.join(str(path) for path in pictures)}")
    except MissingExtraError as error:
        print(f"no pictures were drawn: {error}")
    return 0


def fresh(config: RunConfig) -> Learner:
    """Return a learner with the first weights of a run."""
    torch.manual_seed(config.training.seed)
    return config.build()


def untrained(config: RunConfig) -> torch.nn.Module:
    """Return an untrained network of the run's kind."""
    learner: Any = fresh(config)
    return learner.model
