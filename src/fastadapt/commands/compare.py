"""`fastadapt compare METHOD... --on TASKS`: methods on the same tasks within the same budget, and how they stand."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from fastadapt.atomic import write_text
from fastadapt.compare.contest import Contest, Stopped, take_part
from fastadapt.compare.contestants import TASKS, contestants
from fastadapt.compare.told import as_csv, markdown, summary
from fastadapt.errors import ConfigError
from fastadapt.published.result_file import made
from fastadapt.training.device import choose_device
from fastadapt.training.interrupts import EXIT_CODES


@dataclass(frozen=True)
class CompareSettings:
    """Train methods on the same tasks within the same budget, test all on the same test tasks, and draw how they stand.

    The same command goes on with a comparison that was stopped; what is done is not done again.
    """

    methods: tyro.conf.Positional[tuple[str, ...]]
    """Methods, such as maml protonet reptile, or presets; "*" stands for anything."""
    on: str
    """Tasks, such as omniglot-5w1s or mini-imagenet-5w5s."""
    budget: str = "25m"
    """What each method may train, as 90s, 25m or 1.5h, validations included, or outer steps, as 8000steps."""
    tasks: int = 600
    """How many test tasks."""
    baseline: str | None = None
    """The method that the others are compared with; by default the best."""
    seed: int = 0
    """Seed of the weights and the training tasks; the test tasks never depend on it."""
    folder: Path | None = None
    """Folder of the runs and of what is written; default runs/compare/TASKS."""
    data: Path | None = None
    """Folder that holds the data set; default FASTADAPT_DATA, then the user's cache."""
    download: bool = False
    """Fetch the data set from its official home if it is not found."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where tensors live."""
    threads: int | None = None
    """CPU threads."""
    quiet: bool = False
    """Show nothing while it trains."""


def main(argv: Sequence[str]) -> int:
    """Parse the command line and compare."""
    settings = tyro.cli(CompareSettings, args=list(argv), prog="fastadapt compare")
    if not settings.methods:
        raise ConfigError("name at least one method, such as protonet; fastadapt list shows the presets")
    if settings.tasks < 2:
        raise ConfigError(f"accuracies with intervals need at least 2 test tasks, got --tasks {settings.tasks}")
    device = choose_device(settings.device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    chosen = contestants(settings.methods, settings.on, count=settings.tasks, seed=settings.seed)
    common = TASKS[settings.on]
    loaded = common.load(settings.data, settings.download)
    folder = settings.folder or Path("runs/compare") / settings.on
    tests = {settings.on: common.source("test", loaded)}
    contest = Contest(folder, settings.budget, loaded, tests, device, settings.quiet)
    record: dict[str, Any] = {
        "on": settings.on,
        "budget": settings.budget,
        "seed": settings.seed,
        "baseline": settings.baseline,
        "tests": {name: {"words": name, "tasks": settings.tasks} for name in tests},
        "made": made(device),
        "methods": [],
    }
    for contestant in chosen:
        try:
            record["methods"].append(take_part(contestant, contest))
        except Stopped as stop:
            print(f"{contestant.name}: stopped; the same command goes on from there")
            return EXIT_CODES[stop.signal]
        write(record, folder)
    print(summary(record))
    return 0 if any("failed" not in row for row in record["methods"]) else 1


def write(record: dict[str, Any], folder: Path) -> None:
    """Write what there is of a comparison."""
    write_text(folder / "compare.json", json.dumps(record, indent=1) + "\n")
    write_text(folder / "compare.csv", as_csv(record))
    write_text(folder / "compare.md", markdown(record))
