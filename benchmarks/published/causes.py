"""Look for the causes of differences from the papers by experiment; docs/results.md shows what was found.

    python benchmarks/published/causes.py        # needs the trained runs in runs/reproduce

So far: the inner rate at which MAML's sine waves are adapted with five points; and, for the mean of 500 regressors,
that all start from the same weights, with each pull.
"""

import argparse
import copy
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import fastadapt as fa
from fastadapt.atomic import write_text
from fastadapt.methods.averaged import Pull, average_regressors
from fastadapt.methods.gradient import GradientLearner
from fastadapt.nets.settings import build_net
from fastadapt.published.registry import find
from fastadapt.report.tune import tune_step_size
from fastadapt.run_files import load_run

OUT = Path(__file__).with_name("causes.json")
RATES = (0.01, 0.005, 0.0025)
STEPS = (1, 5, 10)
VARIANTS: tuple[tuple[Pull, float, bool], ...] = (
    ("none", 0.0, True),
    ("zero", 1e-3, True),
    ("mean", 1e-3, True),
)
"""The pull, its strength, and whether all regressors start from the same weights."""
REGRESSORS = "mean of 500 regressors, 5 points"
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


def averaged(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield the error of the mean of 500 regressors with five points, in variants that the paper leaves open.

    A variant takes minutes, so each is yielded with those before it; what is among `rows` is not measured again.
    """
    (experiment,) = find(["multitask-none-sinusoid"])
    measurement, config = experiment.measurements[0], experiment.config
    validation = measurement.source(config, "val", None)
    test = measurement.source(config, "test", None)
    for pull, strength, together in VARIANTS:
        if any((row["pull"], row["strength"], row["one start"]) == (pull, strength, together) for row in rows):
            continue
        torch.manual_seed(0)
        learner = config.build()
        assert isinstance(learner, GradientLearner)
        start: Any = copy.deepcopy(learner.model) if together else lambda: build_net(config.net.describe(config.data))
        found = average_regressors(start, fa.Sinusoid(shots=100, queries=0), pull=pull, strength=strength)
        learner.model.load_state_dict(found.state)
        learner.eval()
        protocol = dataclasses.replace(measurement.protocol, tasks=experiment.tuned_on, seed=2)
        tuned = tune_step_size(learner, validation, experiment.rates, protocol)
        learner.rule = fa.SGD(tuned.rate)
        result = fa.evaluate(learner, test, measurement.protocol)
        rows = [
            *rows,
            {
                "pull": pull,
                "strength": strength,
                "one start": together,
                "reached": found.reached,
                "rate": tuned.rate,
                "steps": list(STEPS),
                "mse": [round(result.mean[step], 3) for step in STEPS],
                "ci95": [round(result.ci95[step], 3) for step in STEPS],
            },
        ]
        yield rows


def main() -> None:
    """Read the command line, measure, and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/reproduce"), help="folder of the trainings")
    parser.add_argument("--study", choices=("rates", "averaged"), help="one of the two; default both")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = json.loads(OUT.read_text(encoding="utf-8")) if OUT.is_file() else {}
    if options.study != "averaged":
        found["maml-sinusoid, 5 points"] = sinusoid_rates(options.runs / "maml-sinusoid" / "seed-0")
    if options.study != "rates":
        for rows in averaged(found.get(REGRESSORS, [])):
            found[REGRESSORS] = rows
            write_text(OUT, json.dumps(found, indent=1) + "\n")
    write_text(OUT, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
