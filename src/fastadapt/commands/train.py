"""`fastadapt train PRESET`, or `--data` of your own: meta-train, validate, checkpoint, export, evaluate and draw."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from fastadapt.commands import train_embeddings, train_faces, train_table
from fastadapt.data.domains.face_settings import FacesData
from fastadapt.data.images.folder_settings import FolderData
from fastadapt.data.settings import SinusoidData
from fastadapt.errors import ConfigError, MissingExtraError
from fastadapt.evaluation import evaluate, with_changes
from fastadapt.ranks import Ranks
from fastadapt.report.style import seconds_to_draw
from fastadapt.rl.environments import family
from fastadapt.runs.cheaper import cheaper
from fastadapt.runs.config import RunConfig
from fastadapt.runs.folder_run import first_guess, parse_wishes, resolve, seal, settled
from fastadapt.runs.presets import PRESETS
from fastadapt.runs.presets_policies import own_environment
from fastadapt.runs.run_files import export_model, load_run, save_evaluation, save_split, settle
from fastadapt.tasks import TaskSource
from fastadapt.training import clock
from fastadapt.training.budget import Budget
from fastadapt.training.device import choose_device
from fastadapt.training.interrupts import EXIT_CODES
from fastadapt.training.launch import join, launch, launched, leave
from fastadapt.training.train import meta_train


@dataclass(frozen=True)
class TrainSettings:
    """Meta-train; the same command goes on with a run that was stopped or killed."""

    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    """What is trained, and how."""
    run: Path | None = None
    """Folder of the run; default runs/PRESET, or a name made of the folder of images."""
    data: Path | None = None
    """Folder that holds the data set; default FASTADAPT_DATA, then the cache. Without PRESET: your own images."""
    download: bool = False
    """Fetch the data set from its official home if it is not found."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where tensors live; auto takes a GPU if there is one."""
    threads: int | None = None
    """CPU threads; a resume is bit-exact for one and the same number."""
    quiet: bool = False
    """Show nothing while it trains."""
    tensorboard: bool = False
    """Also write TensorBoard events."""
    processes: int | None = None
    """How many processes on this machine share each meta-batch; None is one, or those that torchrun started."""
    sharding: Literal["none", "full"] = "none"
    """What each of several processes keeps: all weights, or a part of them and of their moments (FSDP2)."""


def main(argv: Sequence[str]) -> int:
    """Parse the command line and train."""
    if list(argv) in (["--help"], ["-h"]):
        print("fastadapt train --data FOLDER --ways N --shots K trains on your own images (--data FOLDER --help);")
        print("fastadapt train --data CSV --task-column C --target T on a table;")
        print("fastadapt train --data EMBEDDINGS --head H fits a head to embeddings;")
        print("fastadapt train --env PACKAGE:FUNCTION trains a policy in environments of your own.\n")
    elif argv and argv[0].partition("=")[0] == "--env":
        return train_environment(argv)
    elif train_embeddings.is_asked_for(argv):
        return train_embeddings.main(argv)
    elif train_table.is_asked_for(argv):
        return train_table.main(argv)
    elif argv and argv[0].startswith("-"):
        return train_folder(argv)
    if argv and not argv[0].startswith("-") and argv[0] not in PRESETS:
        import difflib

        near = difflib.get_close_matches(argv[0], PRESETS, n=3)
        raise ConfigError(
            f"there is no preset {argv[0]!r}; "
            + (f"near are {', '.join(near)}" if near else "fastadapt list shows them")
        )
    # of the preset alone where it is named: a mistyped option is looked for among the options of all others otherwise
    named = {argv[0]: PRESETS[argv[0]]} if argv and argv[0] in PRESETS else PRESETS
    presets = {
        name: (text, TrainSettings(config=config, run=Path("runs") / name)) for name, (text, config) in named.items()
    }
    settings = tyro.extras.overridable_config_cli(presets, args=list(argv), prog="fastadapt train")
    config = honestly_named(settings.config, PRESETS[argv[0]][1])
    if settings.processes is not None and not launched():
        return launch(settings.processes, ["train", *argv])
    return run(dataclasses.replace(settings, config=config))


def train_folder(argv: Sequence[str]) -> int:
    """Train on a folder of the user's own images."""
    wishes, rest = parse_wishes(argv)
    settings = _folder_settings(rest, first_guess(wishes))  # a mistake is told before the images are read
    if settings.processes is not None and not launched():
        return launch(settings.processes, ["train", *argv])
    wishes, looked = settled(wishes, settings.run)
    place = settings.run or Path("runs") / wishes.name
    config, images = resolve(wishes, place, looked)
    settings = _folder_settings(rest, config)
    chosen = seal(honestly_named(settings.config, config), images, place)
    return run(dataclasses.replace(settings, config=chosen, data=wishes.data, run=place), images)


def train_environment(argv: Sequence[str]) -> int:
    """Train a policy in a family of environments: an id, or package:function of the user's own."""
    word, _, value = argv[0].partition("=")
    if not value and (len(argv) < 2 or argv[1].startswith("-")):
        raise ConfigError(f"{word} needs what makes the environments: write --env package:function")
    spec, rest = (value, argv[1:]) if value else (argv[1], argv[2:])
    known = family(spec)  # a mistake is told before anything is written
    config = own_environment(spec)
    settings = tyro.cli(
        TrainSettings,
        args=list(rest),
        prog="fastadapt train --env PACKAGE:FUNCTION",
        default=TrainSettings(config=config, run=Path("runs") / f"maml-{spec.replace(':', '-')}"),
        config=(tyro.conf.AvoidSubcommands,),
    )
    return run(dataclasses.replace(settings, config=honestly_named(settings.config, config)), known)


def _folder_settings(words: Sequence[str], config: RunConfig) -> TrainSettings:
    return tyro.cli(
        TrainSettings,
        args=list(words),
        prog="fastadapt train --data FOLDER",
        default=TrainSettings(config=config),
        config=(tyro.conf.AvoidSubcommands,),
    )


def honestly_named(config: RunConfig, preset: RunConfig) -> RunConfig:
    """Return `config`, its protocol renamed if it is not measured as the preset that owns the name is."""
    pairs = [("protocol", config.protocol, preset.protocol), ("data", config.data, preset.data)]
    changed = [
        f"{part}.{field.name}"
        for part, ours, theirs in pairs
        for field in dataclasses.fields(ours)
        if not field.name.startswith(("train_", "rotated_classes", "flat_batch", "name"))
        and getattr(ours, field.name) != getattr(theirs, field.name, None)
    ]
    if not changed or config.protocol.name != preset.protocol.name:
        return config
    name = with_changes(preset.protocol.name, changed)
    return dataclasses.replace(config, protocol=dataclasses.replace(config.protocol, name=name))


def budget_of(config: RunConfig, test_tasks: TaskSource) -> Budget:
    """Return the time of the command, of which the test and the pictures get their part."""
    if config.training.minutes is None:
        return Budget(None)
    return Budget(
        config.training.minutes,
        clock.began(),
        test=(test_tasks, config.protocol),
        after=seconds_to_draw(),
        pictured=11,  # one in a picture of its own, and the ten worst
        times=4 if isinstance(config.data, SinusoidData) else 1,  # the error for three numbers of points is drawn
        cheaper=cheaper(config),
    )


def run(settings: TrainSettings, loaded_data: Any = None) -> int:
    """Train as the settings say and return the exit code.

    Args:
        settings: what the user asked for.
        loaded_data: what `settings.config.data.load` returned, if it was asked already.
    """
    ranks, device = join(choose_device(settings.device))
    with ranks.together():
        code = _run(settings, loaded_data, ranks, device)
    leave()
    return code


def _run(settings: TrainSettings, loaded_data: Any, ranks: Ranks, device: torch.device) -> int:
    config, folder = settings.config, Path(settings.run or "runs/custom")
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    if isinstance(config.data, FacesData):
        shown = {"quiet": settings.quiet, "tensorboard": settings.tensorboard}
        return train_faces.run(config, folder, settings.data, device, ranks, **shown)
    if loaded_data is None:
        loaded_data = config.data.load(settings.data, settings.download)
    training_tasks = config.data.source("train", loaded_data)
    validation = config.data.source("val", loaded_data) if config.training.validate_every else None
    test_tasks = config.data.source("test", loaded_data)
    torch.manual_seed(config.training.seed)
    learner = config.build().to(device)  # before anything is written: what can't be built leaves no trace
    if ranks.first:
        settle(folder, config)
        if isinstance(config.data, FolderData):
            save_split(folder, config.data)
    budget = budget_of(config, test_tasks)
    trained = meta_train(
        learner,
        training_tasks,
        config.training,
        validation=validation,
        protocol=config.validation,
        outer_step=config.outer_step,
        folder=folder,
        quiet=settings.quiet,
        tensorboard=settings.tensorboard,
        budget=budget,
        sharding=settings.sharding,
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
    tested = loaded.learner.to(device)
    result = evaluate(tested, test_tasks, config.protocol, meta_batch=at_once, enough=budget.enough, ranks=ranks)
    if not ranks.first:
        return 0
    if result.protocol.tasks < config.protocol.tasks:
        print(f"tested on {result.protocol.tasks:,} of {config.protocol.tasks:,} tasks: the minutes allow no more")
    save_evaluation(folder, loaded.step, result)
    print(f"{folder} (weights of step {loaded.step} of {config.training.steps}): {result}")
    loaded.learner.to("cpu")
    try:
        from fastadapt.report import write_report

        count = budget.pictured - 1
        pictures = write_report(folder, loaded, trained.records, result, test_tasks, worst=count)
        print(f"report: {', '.join(str(path) for path in pictures)}")
    except MissingExtraError as error:
        print(f"no pictures were drawn: {error}")
    return 0
