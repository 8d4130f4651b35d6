"""`fastadapt train --data tasks.csv --task-column ... --target ...`: meta-learn on your own table, and compare.

What is left in the run's folder beside what every run has:

    split.json                which task was for training, validation and test
    comparison.json           the learner and the baselines on the held-out tasks, task by task
    report/comparison.md      the same as tables, with what it says in a sentence
"""

import dataclasses
import json
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
import tyro

from fastadapt.arguments import argument
from fastadapt.atomic import write_text
from fastadapt.commands.table_methods import WAYS, TableMethod, check_target, refuse_unfit
from fastadapt.commands.table_options import TableOptions, speaks_of_a_table
from fastadapt.compare.baselines import arrays_of
from fastadapt.compare.boosting import boosting_seconds, need_boosting
from fastadapt.compare.comparison import FACTORS, compare, comparison_markdown, tune_adaptation
from fastadapt.compare.deadline import Deadline
from fastadapt.compare.fit_gaussian import fit_to_table
from fastadapt.compare.held_out import evaluate_held_out
from fastadapt.data.files import shown
from fastadapt.data.tables.columns import Preparation
from fastadapt.data.tables.content import same_table
from fastadapt.data.tables.notation import PLAIN, shown_notation
from fastadapt.data.tables.table import write_split
from fastadapt.data.tables.table_settings import PreparedTable, TableData, prepare_table
from fastadapt.errors import ConfigError, MissingExtraError
from fastadapt.evaluation import Protocol
from fastadapt.methods.gaussian_prior import GaussianPrior
from fastadapt.methods.gradient import GradientLearner
from fastadapt.nets.settings import FeaturesNet, MLPNet
from fastadapt.report.style import seconds_to_draw
from fastadapt.results.evaluation_json import json_values
from fastadapt.runs.config import RunConfig
from fastadapt.runs.run_files import (
    LoadedRun,
    export_learner,
    export_model,
    load_run,
    read_config,
    save_evaluation,
    settle,
)
from fastadapt.training import clock
from fastadapt.training.budget import Budget
from fastadapt.training.device import choose_device
from fastadapt.training.interrupts import EXIT_CODES
from fastadapt.training.settings import Training
from fastadapt.training.train import meta_train

logger = logging.getLogger("fastadapt")
COMPARING, SIMPLE = 1 / 4, 10.0
"""Share of the minutes, at most, to compare with baselines; and seconds of those that fit no trees."""
MOST_STEPS = 20
"""Inner steps that are tried for a new task."""


@dataclass(frozen=True)
class TableTraining:
    """The outer loop; None takes the method's default."""

    steps: int | None = None
    """Outer steps; by default 3,000, for Reptile 6,000."""
    meta_batch: int | None = None
    """Tasks in each outer step; by default 16, for Reptile 5."""
    lr: float | None = None
    """Outer learning rate at the start; it falls to 0."""
    seed: int = 0
    """Seed of the weights and of the training tasks."""
    validate_every: int | None = None
    """Validate after so many steps; by default twenty times in all."""
    minutes: float | None = None
    """What the whole command may take: reading, training, choosing, comparing and drawing."""


@dataclass(frozen=True, kw_only=True)
class TableSettings(TableOptions):
    """Meta-learn on a table whose rows belong to tasks, and compare with what one would try otherwise."""

    data: Path
    """The file: CSV, or .xlsx or Parquet where openpyxl or pyarrow is installed."""
    task_column: str = argument(prepare_table, "task")
    target: str = argument(prepare_table, "target")
    method: TableMethod = "maml"
    """How it learns to learn; those that compare with the support rows (protonet and others) are for labels."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the network's hidden layers."""
    inner_lr: float | None = None
    """Inner step size in training, by default 0.05 (1 for cavia and meta-lstm); that for new tasks is chosen on the
    validation tasks, unless it is learned."""
    inner_steps: int | None = None
    """Inner steps in training, by default 5 (metasgd 1, cavia 2, imaml 16); those for new tasks are chosen on the
    validation tasks."""
    training: TableTraining = field(default_factory=TableTraining)
    """The outer loop."""
    baselines: Literal["all", "quick", "none"] = "all"
    """What to compare with; quick leaves out what fits a model for every task."""
    draws: int = 5
    """How often each held-out task is taken, with other rows."""
    run: Path | None = None
    """Folder of the run; default runs/METHOD-FILE."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where tensors live; auto takes a GPU if there is one."""
    threads: int | None = None
    """CPU threads; a resume is bit-exact for one and the same number."""
    quiet: bool = False
    """Show nothing while it trains."""
    tensorboard: bool = False
    """Also write TensorBoard events."""


def is_asked_for(argv: Sequence[str]) -> bool:
    """Return whether the words after `train` speak of a table rather than of a preset."""
    return speaks_of_a_table(argv)


def main(argv: Sequence[str]) -> int:
    """Parse the command line and train."""
    refuse_unfit(argv)
    return run(tyro.cli(TableSettings, args=list(argv), prog="fastadapt train"))


def prepare(settings: TableSettings) -> PreparedTable:
    """Read and prepare the table as the settings say.

    Raises:
        DataError: if the file can't be used.
        ConfigError: if a setting can't, or the method can't predict the target.
    """
    prepared = settings.prepared(
        settings.data,
        task=settings.task_column,
        target=settings.target,
        with_queries=settings.method != "reptile",
    )
    check_target(settings.method, prepared.data.preparation)
    known = dataclasses.replace(prepared.data, known=WAYS[settings.method].compares)
    return dataclasses.replace(prepared, data=known)


def as_recorded(prepared: PreparedTable, path: Path, run: Path) -> PreparedTable:
    """Return the table under the digest that the run in `run` began with, where only its line ends are others now."""
    if not (run / "config.json").is_file():
        return prepared
    before = read_config(run).data
    if not isinstance(before, TableData) or before.sha256 == prepared.data.sha256:
        return prepared
    if not same_table(path, before.sha256):
        return prepared
    return dataclasses.replace(prepared, data=dataclasses.replace(prepared.data, sha256=before.sha256))


def configure(settings: TableSettings, prepared: PreparedTable) -> RunConfig:
    """Return the configuration of the run: everything it depends on, the preparation of the table included."""
    given = settings.training
    way, maml = WAYS[settings.method], settings.method != "reptile"
    if way.rate is None and (settings.inner_lr is not None or settings.inner_steps is not None):
        raise ConfigError(f"--method {settings.method} takes no inner steps; leave --inner-lr and --inner-steps out")
    steps = given.steps or (3000 if maml else 6000)
    training = Training(
        steps=steps,
        meta_batch=given.meta_batch or (16 if maml else 5),
        optimizer="adam" if maml else "sgd",
        lr=given.lr if given.lr is not None else (2e-3 if maml else 0.5),
        schedule="cosine" if maml else "linear",
        clip_norm=10.0 if maml else None,
        seed=given.seed,
        validate_every=max(1, steps // 20) if given.validate_every is None else given.validate_every,
        log_every=max(1, steps // 20),
        minutes=given.minutes,
    )
    method = way.make(_rate(settings), _steps(settings), steps)
    held_out = len(prepared.loaded.split.test)
    return RunConfig(
        data=prepared.data,
        net=FeaturesNet() if way.amounts else MLPNet(hidden=settings.hidden, init_std=None, context=way.context),
        method=method,
        training=training,
        protocol=Protocol(f"held-out tasks, K={prepared.data.shots}, {settings.draws} draws each, v1", tasks=held_out),
        validation_tasks=200,
    )


def _rate(settings: TableSettings) -> float:
    return settings.inner_lr if settings.inner_lr is not None else WAYS[settings.method].rate or 0.0


def _steps(settings: TableSettings) -> int:
    return settings.inner_steps if settings.inner_steps is not None else WAYS[settings.method].steps


def budget_of(settings: TableSettings, prepared: PreparedTable, drawing: float, boosting: bool) -> Budget:
    """Return the time of the command, of which choosing and comparing get their part, but no more than they need."""
    minutes, data, parts = settings.training.minutes, prepared.data, prepared.loaded.split
    if minutes is None:
        return Budget(None)
    began = clock.began()
    tried = len(FACTORS) if WAYS[settings.method].tunes else 1
    chosen_on = settings.draws * (tried * len(data.every_shots) * len(parts.val) + len(parts.test))
    choosing = Protocol("choosing-v1", tasks=chosen_on, steps=MOST_STEPS, split="val")
    share = COMPARING * (60 * minutes - (time.monotonic() - began))
    comparing = SIMPLE if settings.baselines != "none" else 0.0
    if boosting and share > comparing:
        needed = boosting_seconds(
            arrays_of(prepared.loaded, data),
            tuned_on=len(parts.val),
            measured_on=settings.draws * len(parts.test),
            refit=settings.baselines == "all",
        )
        comparing += len(data.every_shots) * needed
    return Budget(
        minutes,
        began,
        test=(data.source("val", prepared.loaded), choosing),
        after=max(0.0, min(share, comparing)) + drawing,
        cheaper=_cheaper(settings),
    )


def _cheaper(settings: TableSettings) -> list[str]:
    hints = []
    if settings.baselines == "all":
        hints.append("no model fitted for every task in the comparison (--baselines quick)")
    if _steps(settings) > 1:
        hints.append(f"fewer inner steps (--inner-steps {max(1, _steps(settings) // 3)})")
    if WAYS[settings.method].rate is not None and settings.method != "reptile":
        hints.append("no second derivatives (--method reptile)")
    return hints


def run(settings: TableSettings) -> int:
    """Train, choose how to adapt, evaluate and compare; return the exit code."""
    prepared = prepare(settings)
    folder = settings.run or Path("runs") / f"{settings.method}-{settings.data.stem}"
    prepared = as_recorded(prepared, settings.data, folder)
    config = configure(settings, prepared)
    device, given = choose_device(settings.device), settings.training
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    _describe(prepared)
    boosting = _has_boosting() if settings.baselines != "none" else False
    torch.manual_seed(config.training.seed)
    learner = config.build().to(device)
    settle(folder, config)
    data, table = prepared.data, prepared.loaded
    facts = {"file": data.file, "sha256": data.sha256, "seed": data.split_seed, "split": data.split or "random"}
    write_split(folder / "split.json", prepared.loaded.split, facts)
    drawing = seconds_to_draw() if given.minutes is not None else 0.0
    budget = budget_of(settings, prepared, drawing, boosting)
    if isinstance(learner, GaussianPrior):  # nothing that steps could train
        words = fit_to_table(learner.to("cpu"), table, data, draws=settings.draws)
        print(f"fitted in closed form to {len(prepared.loaded.split.train)} tasks, with {words}")
        export_learner(folder, config, learner.state_dict(), 0)
        loaded, records = load_run(folder), []
    else:
        trained = meta_train(
            learner,
            data.source("train", table),
            config.training,
            validation=data.source("val", table) if config.training.validate_every else None,
            protocol=config.validation,
            folder=folder,
            quiet=settings.quiet,
            tensorboard=settings.tensorboard,
            budget=budget,
        )
        export_model(folder, config)
        if trained.stopped in EXIT_CODES:
            print(f"{folder} stopped at step {trained.step}; the same command goes on from there")
            return EXIT_CODES[trained.stopped]
        loaded, records = _adapting_well(folder, config, settings, prepared, device, budget), trained.records
    result = evaluate_held_out(loaded.learner, data, table, draws=settings.draws)
    save_evaluation(folder, loaded.step, result)
    print(f"{folder}{f' (weights of step {loaded.step} of {config.training.steps})' * bool(records)}: {result}")
    if settings.baselines != "none":
        name = WAYS[settings.method].title
        say = (lambda text: None) if settings.quiet else logger.info
        comparison = compare(
            {name: loaded.learner},
            table,
            data,
            draws=settings.draws,
            boosting=boosting,
            refit=settings.baselines == "all",
            say=say,
            left=lambda: budget.left - drawing,
        )
        write_text(folder / "comparison.json", json.dumps(json_values(comparison), indent=1) + "\n")
        told = comparison_markdown(comparison)
        write_text(folder / "report" / "comparison.md", told)
        print(f"\n{told}\nwrote {folder / 'comparison.json'} and {folder / 'report' / 'comparison.md'}")
    loaded.learner.to("cpu")
    _draw(folder, records, loaded.name)
    return 0


def _adapting_well(
    folder: Path,
    config: RunConfig,
    settings: TableSettings,
    prepared: PreparedTable,
    device: torch.device,
    budget: Budget,
) -> LoadedRun:
    """Choose inner rate and steps for new tasks on the validation tasks, export them, and load the model."""
    loaded = load_run(folder)
    learner = loaded.learner.to(device)
    if not isinstance(learner, GradientLearner):
        return loaded
    chosen = tune_adaptation(
        learner,
        prepared.loaded,
        prepared.data,
        rate=_rate(settings) if WAYS[settings.method].tunes else None,
        most_steps=MOST_STEPS,
        draws=settings.draws,
        deadline=Deadline(budget.left - budget.after),
    )
    rate = {} if chosen.rate is None else {"inner_lr": chosen.rate}
    method = dataclasses.replace(config.method, test_steps=chosen.steps, **rate)
    export_model(folder, dataclasses.replace(config, method=method))
    told = "as learned" if chosen.rate is None else f"of {chosen.rate:g}"
    print(f"for new tasks, as chosen on the validation tasks: {chosen.steps} inner steps {told}")
    loaded = load_run(folder)
    loaded.learner.to(device)
    return loaded


def _describe(prepared: PreparedTable) -> None:
    """Say what was made of the table, so that a mistake shows before the training."""
    data, split = prepared.data, prepared.loaded.split
    preparation = data.preparation
    target = f"target {shown(preparation.target)}: {_target(preparation)}"
    print(f"{shown(data.file)}: {_columns_in_words(preparation)}; {target}")
    for column in preparation.columns:
        if column.holds == "category":
            count, example = len(column.categories), shown(column.categories[0])
            told = f"{count} categor{'ies' if count > 1 else 'y'}, such as {example!r}"
            print(f"column {shown(column.name)}: {told}{', or missing' if column.missing else ''}")
        elif column.holds == "number" and (column.written != PLAIN or column.unit):
            print(f"column {shown(column.name)}: numbers written as {shown_notation(column.written, column.unit)}")
    print(f"{len(split.train)} tasks train, {len(split.val)} validate, {len(split.test)} test")
    if split.too_small:
        named = ", ".join(f"{shown(name)} ({size})" for name, size in list(split.too_small.items())[:5])
        print(f"note: {len(split.too_small)} tasks have fewer than {data.fewest} rows and are left out: {named}")
    for name, reason in prepared.left_out.items():
        word = shown(name) if name.startswith("column ") else f"column {shown(name)}"
        print(f"note: {word} is left out: {reason}")
    for note in prepared.notes:
        print(f"note: {note}")


def _columns_in_words(preparation: Preparation) -> str:
    kinds = Counter({column.name: column.holds for column in preparation.columns}.values())
    numbers, dates = kinds["number"], kinds["date"]
    columns = f"{numbers} number column{'s' * (numbers != 1)}, {kinds['category']} of categories"
    columns += f", {dates} of dates" if dates else ""
    return f"{columns}: {preparation.inputs} input{'s' * (preparation.inputs != 1)}"


def _target(preparation: Preparation) -> str:
    if preparation.labels:
        listed = ", ".join(map(shown, preparation.labels[:10])) + (", ..." if len(preparation.labels) > 10 else "")
        return f"{len(preparation.labels)} labels ({listed})"
    amounts = f"amounts, {preparation.mean:.4g} ± {preparation.std:.4g} in training tasks"
    if preparation.written == PLAIN and not preparation.unit:
        return amounts
    return f"{amounts}, written as {shown_notation(preparation.written, preparation.unit)}"


def _has_boosting() -> bool:
    try:
        need_boosting()
    except MissingExtraError as error:
        print(f"note: {error}; the comparison will be without it")
        return False
    return True


def _draw(folder: Path, records: list, name: str) -> None:
    if not records:
        return
    try:
        from fastadapt.report import draw_curves

        print(f"report: {draw_curves(records, folder / 'report' / 'curves.png', name=name)}")
    except MissingExtraError as error:
        print(f"no pictures were drawn: {error}")
