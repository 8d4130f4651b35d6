"""`fastadapt reproduce NAME...`: train published runs, measure them as the paper did, compare the numbers."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro

from fastadapt.errors import ConfigError
from fastadapt.published.comparison import Row, rows, share
from fastadapt.published.experiment import Experiment
from fastadapt.published.registry import find
from fastadapt.published.reproduce import reproduce
from fastadapt.published.result_file import read_result, save_result
from fastadapt.training.device import choose_device
from fastadapt.training.interrupts import EXIT_CODES

RESULTS = Path("benchmarks/published/results")


@dataclass(frozen=True)
class ReproduceSettings:
    """Train published runs, measure them under the paper's protocol, and compare; a stopped run goes on."""

    names: tyro.conf.Positional[tuple[str, ...]]
    """Published runs (fastadapt list shows them); "*" stands for anything, as in "gradients-*"."""
    budget: str | None = None
    """Time to train each run in all, as 90s, 20m or 1.5h, or its outer steps, as 8000steps; by default as the paper."""
    tasks: int | None = None
    """Measure on at most so many test tasks; the result says so. By default as many as the published protocol."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the weights and the training tasks; one training each."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where tensors live; auto takes a GPU if there is one."""
    threads: int | None = None
    """CPU threads."""
    data: Path | None = None
    """Folder that holds the data set; default FASTADAPT_DATA, then the user's cache."""
    download: bool = False
    """Fetch the data set from its official home if it is not found."""
    runs: Path = Path("runs/reproduce")
    """Folder of the trainings."""
    out: Path | None = None
    """Folder of the result files; default benchmarks/published/results in a clone, else next to the trainings."""
    show: bool = False
    """Train nothing: show what the result files hold."""
    json: bool = False
    """Print JSON instead of a table."""
    quiet: bool = False
    """Show nothing while it trains."""


def main(argv: Sequence[str]) -> int:
    """Parse the command line and reproduce."""
    settings = tyro.cli(ReproduceSettings, args=list(argv), prog="fastadapt reproduce")
    if not settings.names:
        raise ConfigError("name at least one published run, such as maml-sinusoid; fastadapt list shows them")
    if min(settings.seeds, default=-1) < 0:
        raise ConfigError(f"--seeds needs whole numbers of at least 0, got {list(settings.seeds)}")
    experiments = find(settings.names)
    out = settings.out if settings.out is not None else RESULTS if RESULTS.is_dir() else settings.runs
    device = choose_device(settings.device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    for experiment in experiments:
        for seed in () if settings.show else settings.seeds:
            made = reproduce(
                experiment,
                folder=settings.runs / experiment.name,
                seed=seed,
                budget=settings.budget,
                tasks=settings.tasks,
                device=device,
                data=settings.data,
                download=settings.download,
                quiet=settings.quiet,
            )
            if made.stopped in EXIT_CODES:
                print(f"{experiment.name}, seed {seed}: stopped; the same command goes on from there")
                return EXIT_CODES[made.stopped]
            save_result(out, experiment, made.record, words=argv, device=device)
        path = out / f"{experiment.name}.json"
        if path.is_file():
            show(experiment, rows(experiment, read_result(path)["runs"]), path, as_json=settings.json)
        else:
            print(f"{experiment.name}: no result in {out} yet")
    return 0


def show(experiment: Experiment, table: list[Row], path: Path, *, as_json: bool) -> None:
    """Print our numbers beside the published ones."""
    if as_json:
        print(json.dumps([dataclasses.asdict(row) for row in table], indent=2))
        return
    print(f"\n{experiment.name}: {experiment.what} ({experiment.source})")
    print(f"{'measured':<26} {'steps':>5}  {'ours ± 95 % CI':>18}  {'published':>14}  verdict")
    for row in table:
        words = row.remark("nothing published")
        print(f"{row.label:<26} {row.step:>5}  {row.text():>18}  {row.published or '–':>14}  {words}")
    part = min((row.fraction for row in table), default=1.0)
    training = "the published training" if part >= 1 else f"{share(part)} of the published outer steps"
    seeds = max((row.seeds for row in table), default=1)
    print(f"{seeds} training{'s' if seeds > 1 else ''}, {training}; {path}")
    for line in experiment.differs:
        print(f"  differs: {line}")
