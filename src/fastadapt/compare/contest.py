"""One method of a comparison: trained within a budget, measured on every set of test tasks, all of it kept on disk.

FOLDER/NAME/               a run, as `fastadapt train` writes it
FOLDER/NAME/compared.json  what it has in the comparison; what stands there is not done again
"""

import copy
import json
import logging
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fastadapt.atomic import write_text
from fastadapt.compare.contestants import Contestant
from fastadapt.errors import DataError, FastadaptError
from fastadapt.evaluation import Evaluation, evaluate
from fastadapt.learner import Learner
from fastadapt.results.evaluation_json import json_values
from fastadapt.runs.run_files import LoadedRun, export_model, load_run, settle
from fastadapt.runs.within import scheduled, within
from fastadapt.tasks import TaskSource, draw
from fastadapt.training.checkpoint import latest_checkpoint
from fastadapt.training.interrupts import EXIT_CODES
from fastadapt.training.train import meta_train

logger = logging.getLogger("fastadapt")
KEPT = "compared.json"
TIMED = 20
"""Test tasks whose adaptation is timed, after two that are not."""


@dataclass(frozen=True)
class Contest:
    """Hold what is the same for all methods.

    Args:
        folder: where their runs are.
        budget: what each may train, as "25m" or "2000steps".
        loaded: what the data's `load` returned.
        tests: name -> test tasks.
        device: where tensors live.
        quiet: show nothing while they train.
    """

    folder: Path
    budget: str
    loaded: Any
    tests: Mapping[str, TaskSource]
    device: torch.device
    quiet: bool = False


class Stopped(Exception):  # noqa: N818 - no error: the same command goes on from there
    """A signal ended a training."""

    def __init__(self, signal: str) -> None:
        super().__init__(signal)
        self.signal = signal


def take_part(contestant: Contestant, contest: Contest) -> dict[str, Any]:
    """Train a method and measure it, or go on with that, and return its row.

    Returns:
        Facts of the training and `"results"` for each set of test tasks, with the accuracy of every task; where
        something fails, `"failed"` with a sentence, so that the others go on.

    Raises:
        Stopped: if a signal ended the training.
    """
    run = _run(contestant, contest)
    row: dict[str, Any] = {"method": contestant.name, "preset": contestant.preset}
    try:
        row |= _trained(contestant, contest, run)
        loaded = load_run(run)
        loaded.learner.to(contest.device)
        for name, source in contest.tests.items():
            row["results"] = {**row.get("results", {}), name: _result(row, name, source, loaded, contestant)}
            _keep(run, row)
        if "seconds to adapt" not in row:
            row |= _sizes(loaded.learner, next(iter(contest.tests.values())), contest.device)
            _keep(run, row)
    except Stopped:
        raise
    except FastadaptError as error:
        logger.warning("%s failed: %s", contestant.name, error)
        row["failed"] = " ".join(str(error).split())
    except Exception as error:  # a method of any kind: the others go on, and the sentence says which
        logger.warning("%s failed", contestant.name, exc_info=True)
        row["failed"] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return row


def _run(contestant: Contestant, contest: Contest) -> Path:
    """Return the folder of its run; where the schedule is squeezed into the budget, one for each budget."""
    name = f"{contestant.name}-{contest.budget}" if scheduled(contestant.config) else contestant.name
    return contest.folder / name


def _trained(contestant: Contestant, contest: Contest, run: Path) -> dict[str, Any]:
    """Return the facts of the training, after it was done unless it is."""
    kept = read_row(run)
    seed = contestant.config.training.seed
    if (kept.get("budget"), kept.get("seed")) == (contest.budget, seed) and "seconds of training" in kept:
        return kept
    config = within(contest.budget, contestant.config, run, contest.loaded, contest.device)
    torch.manual_seed(seed)
    learner = config.build().to(contest.device)
    settle(run, config)
    trained = meta_train(
        learner,
        config.data.source("train", contest.loaded),
        config.training,
        validation=config.data.source("val", contest.loaded) if config.training.validate_every else None,
        protocol=config.validation,
        folder=run,
        quiet=contest.quiet,
    )
    export_model(run, config)
    if trained.stopped in EXIT_CODES:
        raise Stopped(trained.stopped)
    newest = latest_checkpoint(run / "checkpoints")
    row = {
        "method": contestant.name,
        "preset": contestant.preset,
        "budget": contest.budget,
        "seed": seed,
        "learner": type(learner).__name__,
        "network": config.network["name"],
        "outer steps": trained.step,
        "published steps": contestant.published,
        "tasks of a step": config.training.meta_batch,
        "weights of step": load_run(run).step,
        "seconds of training": round(float(newest.state["seconds"]), 1) if newest is not None else 0.0,
        "skipped steps": trained.skipped,
        "config": json.loads(config.to_json()),
    }
    _keep(run, row)
    return row


def _result(
    row: Mapping[str, Any], name: str, source: TaskSource, loaded: LoadedRun, contestant: Contestant
) -> dict[str, Any]:
    """Return the result on one set of test tasks, measured unless it was."""
    protocol = contestant.config.protocol
    kept = row.get("results", {}).get(name, {})
    asked = {"tasks": protocol.tasks, "seed": protocol.seed, "weights of step": loaded.step}
    if kept.get("asked") == asked:
        return kept
    result = evaluate(loaded.learner, source, replace(protocol, name=f"compare-{name}-v1"), after=())
    logger.info("%s on %s: %s", contestant.name, name, result)
    return {"asked": asked, **_facts(result)}


def _facts(result: Evaluation) -> dict[str, Any]:
    return {
        "metric": result.metric,
        "mean": json_values(result.result),
        "ci95": json_values(result.half),
        "inner steps": result.step,
        "norm": result.norm,
        "transductive": result.transductive,
        "nonfinite": result.nonfinite[result.column],
        "per task": [json_values(round(task[result.column], 6)) for task in result.per_task],
    }


def _sizes(learner: Learner, source: TaskSource, device: torch.device) -> dict[str, Any]:
    """Return how long a new task takes, in the median, and how large what is kept of it is.

    A query is timed as a service asks it, alone: beside the support set where the method's queries share statistics.
    """
    learner = copy.deepcopy(learner).eval()
    norm = "support+query" if learner.norm == "transductive" else learner.norm
    adapting, answering, size = [], [], 0
    for task in draw(source, seed=1, split="test", indices=range(TIMED + 2)):
        task = task.to(device)
        began = _now(device)
        predictor = learner.adapt(task.support, norm=norm)
        adapted = _now(device)
        with torch.no_grad():
            predictor(task.query[0][:1])
        adapting.append(adapted - began)
        answering.append(_now(device) - adapted)
        size = sum(tensor.numel() * tensor.element_size() for tensor in predictor.state_dict().values())
    return {
        "seconds to adapt": statistics.median(adapting[2:]),
        "seconds to answer": statistics.median(answering[2:]),
        "parameters": sum(parameter.numel() for parameter in learner.parameters()),
        "predictor bytes": size,
    }


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def read_row(run: Path) -> dict[str, Any]:
    """Return what a run has in its comparison; nothing before it was trained.

    Raises:
        DataError: if the file is damaged.
    """
    path = run / KEPT
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}); remove it, and it is measured again") from None


def _keep(run: Path, row: Mapping[str, Any]) -> None:
    write_text(run / KEPT, json.dumps(row, indent=1) + "\n")
