"""Look for the causes of differences from the papers by experiment; docs/results.md shows what was found.

    python benchmarks/published/causes.py        # needs the trained runs in runs/reproduce

So far: the inner rate at which MAML's sine waves are adapted with five points, and that of the network without
convolutions; how strong the pull on regressors can be without harm, and their mean where all start from the same
weights; and a context of one number for each pixel beside one of a number for the whole image.
"""

import argparse
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import fastadapt as fa
from fastadapt.atomic import write_text
from fastadapt.compare.tune import tune_step_size
from fastadapt.methods.averaged import Pull, average_regressors
from fastadapt.methods.gradient import GradientLearner
from fastadapt.methods.settings import MAMLMethod
from fastadapt.nets import WithContext
from fastadapt.nets.settings import build_net
from fastadapt.published.registry import find
from fastadapt.runs.run_files import load_run

OUT = Path(__file__).with_name("causes.json")
RATES = (0.01, 0.005, 0.0025)
STEPS = (1, 5, 10)
PULLS: tuple[Pull, ...] = ("zero", "mean")
STRENGTHS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
REGRESSORS = 30
CONTEXTS = {"numbers": None, "maps": (28, 28)}
"""Beside the image: a number for all of it, or one for each pixel."""
CONTEXT_STEPS = 800
DENSE_STEPS = [1, 2, 3, 10]
FAR = 10.0
"""A mean squared error above which an adaptation has gone astray: before it, 3 is usual and 12.5 the most."""


def sinusoid_rates(run: Path) -> list[dict[str, Any]]:
    """Return the error of one trained run with five points, adapted at several rates, on the same 600 waves."""
    (experiment,) = find(["maml-sinusoid"])
    measurement = experiment.measurements[0]
    loaded = load_run(run)
    learner = loaded.learner
    assert isinstance(learner, GradientLearner)
    source = measurement.source(loaded.config, "test", None)
    rows = []
    for rate in RATES:
        learner.rule = fa.SGD(rate)
        errors = torch.as_tensor(fa.evaluate(learner, source, measurement.protocol).per_task, dtype=torch.float64)
        at = [errors[:, step] for step in STEPS]
        rows.append(
            {
                "rate": rate,
                "tasks": len(errors),
                "steps": list(STEPS),
                "astray": [int((~(each <= FAR)).sum()) for each in at],
                "mean of the others": [round(float(each[each <= FAR].mean()), 4) for each in at],
                "median": [round(float(each.nan_to_num(torch.inf).median()), 4) for each in at],
            }
        )
    return rows


def dense_rates(run: Path, data: Path | None) -> list[dict[str, Any]]:
    """Return the accuracy of the network without convolutions, adapted at the published rate and at smaller ones."""
    (experiment,) = find(["maml-omniglot-noconv-5w5s"])
    protocol = dataclasses.replace(experiment.measurements[0].protocol, steps=10)
    loaded = load_run(run)
    learner, config = loaded.learner, loaded.config
    assert isinstance(learner, GradientLearner) and isinstance(config.method, MAMLMethod)
    source = config.data.source("test", config.data.load(data))
    rows = []
    for part in (1, 2, 4):
        learner.rule = fa.SGD(config.method.inner_lr / part)
        result = fa.evaluate(learner, source, protocol, after=DENSE_STEPS)
        numbers = [[round(float(v), 4) for v in values] for values in (result.mean, result.ci95)]
        row = {"rate": config.method.inner_lr / part, "outer steps": loaded.step, "steps": DENSE_STEPS}
        rows.append({**row, "tasks": protocol.tasks, "accuracy": numbers[0], "ci95": numbers[1]})
    return rows


def strengths() -> Iterator[list[dict[str, Any]]]:
    """Yield how many of 30 regressors come below the paper's 0.02 with pulls of growing strength.

    The strength is raised until fewer do than without a pull; each row is yielded with those before it.
    """
    (experiment,) = find(["multitask-none-sinusoid"])
    config = experiment.config

    def start() -> Any:
        return build_net(config.net.describe(config.data))

    def reached(pull: Pull, strength: float) -> dict[str, Any]:
        waves = fa.Sinusoid(shots=100, queries=0)
        found = average_regressors(start, waves, REGRESSORS, pull=pull, strength=strength, seed=1)
        updates = round(float(found.updates.double().mean()))
        return {"pull": pull, "strength": strength, "reached": found.reached, "of": REGRESSORS, "updates": updates}

    rows = [reached("none", 0.0)]
    yield rows
    for pull in PULLS:
        for strength in STRENGTHS:
            rows = [*rows, reached(pull, strength)]
            yield rows
            if rows[-1]["reached"] < rows[0]["reached"]:
                break


def one_start() -> list[dict[str, Any]]:
    """Return the error of the mean of 500 regressors without a pull that all start from the same weights."""
    (experiment,) = find(["multitask-none-sinusoid"])
    measurement, config = experiment.measurements[0], experiment.config
    torch.manual_seed(0)
    learner = config.build()
    assert isinstance(learner, GradientLearner)
    found = average_regressors(learner.model, fa.Sinusoid(shots=100, queries=0))
    learner.model.load_state_dict(found.state)
    learner.eval()
    tuning = dataclasses.replace(measurement.protocol, tasks=experiment.tuned_on, seed=2)
    tuned = tune_step_size(learner, measurement.source(config, "val", None), experiment.rates, tuning)
    learner.rule = fa.SGD(tuned.rate)
    result = fa.evaluate(learner, measurement.source(config, "test", None), measurement.protocol)
    numbers = [[round(float(values[step]), 3) for step in STEPS] for values in (result.mean, result.ci95)]
    return [{"reached": found.reached, "rate": tuned.rate, "steps": list(STEPS), "mse": numbers[0], "ci95": numbers[1]}]


def contexts(data: Path | None) -> Iterator[list[dict[str, Any]]]:
    """Yield the accuracy of MAML that adapts a context alone, after the same short training with each kind."""
    (experiment,) = find(["context-omniglot-5w1s"])
    config = experiment.config
    training = dataclasses.replace(config.training, steps=CONTEXT_STEPS, validate_every=0)
    loaded = config.data.load(data)
    protocol = experiment.measurements[0].protocol
    rows: list[dict[str, Any]] = []
    for kind, maps in CONTEXTS.items():
        torch.manual_seed(training.seed)
        model, method = config.build().model, config.method
        assert isinstance(model, WithContext) and isinstance(method, MAMLMethod)
        size = len(model.context)
        learner = method.build(WithContext(model.net, size, maps=maps), config.data.loss)
        fa.meta_train(learner, config.data.source("train", loaded), training, quiet=True)
        result = fa.evaluate(learner.eval(), config.data.source("test", loaded), protocol)
        row = {"context": kind, "size": size, "steps": CONTEXT_STEPS, "tasks": protocol.tasks}
        rows = [*rows, {**row, "accuracy": round(result.mean[-1], 4), "ci95": round(result.ci95[-1], 4)}]
        yield rows


def main() -> None:
    """Read the command line, measure, and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/reproduce"), help="folder of the trainings")
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument(
        "--study", choices=("rates", "dense", "strengths", "start", "contexts"), help="one; default all"
    )
    parser.add_argument("--out", type=Path, default=OUT, help="the file; what it has of other studies stays")
    options = parser.parse_args()
    torch.set_num_threads(1)

    def write(name: str, rows: list[dict[str, Any]]) -> None:
        found = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {}
        write_text(options.out, json.dumps({**found, name: rows}, indent=1) + "\n")

    if options.study in (None, "rates"):
        write("maml-sinusoid, 5 points", sinusoid_rates(options.runs / "maml-sinusoid" / "seed-0"))
    if options.study in (None, "dense"):
        run = options.runs / "maml-omniglot-noconv-5w5s" / "seed-0"
        write("maml-omniglot-noconv-5w5s", dense_rates(run, options.data))
    if options.study in (None, "strengths"):
        for rows in strengths():
            write("how strong a pull can be", rows)
    if options.study in (None, "start"):
        write("500 regressors from the same weights", one_start())
    if options.study in (None, "contexts"):
        for rows in contexts(options.data):
            write("context-omniglot-5w1s", rows)


if __name__ == "__main__":
    main()
