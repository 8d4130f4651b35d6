"""Look for the causes of differences from the papers by experiment; docs/results.md shows what was found.

    python benchmarks/published/causes.py        # needs the trained runs in runs/reproduce

So far: the inner rate at which MAML's sine waves are adapted with five points.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

import fastadapt as fa
from fastadapt.atomic import write_text
from fastadapt.methods.gradient import GradientLearner
from fastadapt.published.registry import find
from fastadapt.run_files import load_run

OUT = Path(__file__).with_name("causes.json")
RATES = (0.01, 0.005, 0.0025)
STEPS = (1, 5, 10)
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


def main() -> None:
    """Read the command line, measure, and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/reproduce"), help="folder of the trainings")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {"maml-sinusoid, 5 points": sinusoid_rates(options.runs / "maml-sinusoid" / "seed-0")}
    write_text(OUT, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
