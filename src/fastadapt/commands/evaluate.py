"""`fastadapt evaluate RUN`: measure a trained run on new tasks."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from fastadapt.atomic import write_text
from fastadapt.data.tables.table_settings import TableData
from fastadapt.errors import ConfigError
from fastadapt.evaluate import Evaluation, Protocol, evaluate
from fastadapt.layers.norm import Norm
from fastadapt.runs.run_files import LoadedRun, load_run
from fastadapt.training.device import choose_device


@dataclass(frozen=True)
class EvaluateSettings:
    """Measure a run under its protocol; what is changed here makes it a custom one."""

    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    data: Path | None = None
    """Folder of the data set, or your table; default FASTADAPT_DATA, then the cache; own images: where they were."""
    tasks: int | None = None
    """How many test tasks."""
    steps: int | None = None
    """Inner steps; the result is given after each of 0..steps."""
    after: tuple[int, ...] | None = None
    """Give the result after these numbers of inner steps only, which saves time: 0 10 50."""
    norm: Norm | None = None
    """Batch-norm mode, for example support+query for Reptile's protocol that is not transductive."""
    seed: int | None = None
    """Seed of the test tasks."""
    meta_batch: int = 25
    """Tasks at a time."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where tensors live."""
    out: Path | None = None
    """Also write the result, with the number of every task, to this JSON file."""
    json: bool = False
    """Print JSON instead of a table."""


def table(result: Evaluation) -> str:
    """Return the result after each number of inner steps as lines of text."""
    lines = [f"{'steps':>5}  {'mean':>9}  {'±95 %':>8}  {'median':>9}  non-finite"]
    columns = zip(result.after, result.mean, result.ci95, result.median, result.nonfinite, strict=True)
    for j, mean, half, median, bad in columns:
        mark = " <-" if j == result.step else ""
        lines.append(f"{j:>5}  {mean:>9.4f}  {half:>8.4f}  {median:>9.4f}  {bad}{mark}")
    return "\n".join(lines)


def custom(protocol: Protocol, settings: EvaluateSettings) -> Protocol:
    """Return the run's protocol with the settings' changes, under another name if there are any."""
    changes = {name: getattr(settings, name) for name in ("tasks", "steps", "norm", "seed")}
    changes = {name: value for name, value in changes.items() if value is not None and value != getattr(protocol, name)}
    if not changes:
        return protocol
    report = None if "steps" in changes else protocol.report
    return dataclasses.replace(
        protocol, name=f"custom ({protocol.name} with {', '.join(changes)} changed)", report=report, **changes
    )


def of_stream(loaded: LoadedRun, settings: EvaluateSettings) -> Evaluation:
    """Return the result on tasks that are drawn without end."""
    data = loaded.config.data
    source = data.source("test", data.load(settings.data))
    protocol = custom(loaded.config.protocol, settings)
    return evaluate(loaded.learner, source, protocol, meta_batch=settings.meta_batch, after=settings.after)


def of_table(loaded: LoadedRun, data: TableData, settings: EvaluateSettings) -> Evaluation:
    """Return the result on all held-out tasks of a table, which are as many as there are.

    Raises:
        ConfigError: if a number of tasks, a batch-norm mode or a choice of steps is asked for.
    """
    if settings.tasks is not None or settings.norm is not None or settings.after is not None:
        raise ConfigError(
            "a table's held-out tasks are all measured after every step, without batch norm; "
            "leave --tasks, --norm and --after out"
        )
    from fastadapt.compare.held_out import evaluate_held_out

    seed = 1 if settings.seed is None else settings.seed
    return evaluate_held_out(loaded.learner, data, data.load(settings.data), steps=settings.steps, seed=seed)


def main(argv: Sequence[str]) -> int:
    """Parse the command line and evaluate."""
    settings = tyro.cli(EvaluateSettings, args=list(argv), prog="fastadapt evaluate")
    loaded = load_run(settings.run)
    loaded.learner.to(choose_device(settings.device))
    data = loaded.config.data
    result = of_table(loaded, data, settings) if isinstance(data, TableData) else of_stream(loaded, settings)
    if settings.out is not None:
        write_text(settings.out, result.to_json(per_task=True) + "\n")
    print(result.to_json() if settings.json else f"{table(result)}\n{loaded.name}, step {loaded.step}: {result}")
    return 0
