"""Collect a finished run into one result file that can be committed.

    fastadapt train maml-omniglot-5w1s --data DIR --threads 2 --training.minutes 30
    python benchmarks/collect.py runs/maml-omniglot-5w1s benchmarks/results/maml-omniglot-5w1s.json

The file holds the configuration, the validation curve against steps and seconds, and the evaluation.
"""

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

import torch

import fastadapt as fa
from fastadapt.log import read_metrics


def collect(run: Path) -> dict[str, Any]:
    """Return what is worth keeping of a run."""
    records = read_metrics(run / "metrics.jsonl")
    curve = [
        {key: r[key] for key in ("step", "seconds", "val accuracy", "val mse", "val ci95") if key in r}
        for r in records
        if any(key.startswith("val ") for key in r)
    ]
    return {
        "run": run.name,
        "fastadapt": fa.__version__,
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "steps": records[-1]["step"],
        "seconds": records[-1]["seconds"],
        "weights of step": json.loads((run / "model" / "model.json").read_text(encoding="utf-8"))["step"],
        "evaluation": json.loads((run / "evaluation.json").read_text(encoding="utf-8")),
        "curve": curve,
        "config": json.loads((run / "config.json").read_text(encoding="utf-8")),
    }


def main() -> None:
    """Read the command line and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--command", default="", help="the command that made the run")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    content = {"command": options.command, **collect(options.run)}
    options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
