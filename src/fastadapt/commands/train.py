"""`fastadapt train PRESET`, or a table of your own: meta-train, validate, checkpoint, export, evaluate and draw."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from fastadapt.atomic import write_text
from fastadapt.checkpoint import saved_steps
from fastadapt.config import RunConfig, differences
from fastadapt.errors import ConfigError, MissingExtraError
from fastadapt.evaluate import evaluate
from fastadapt.presets import PRESETS
from fastadapt.run_files import export_model, load_run, read_config, save_evaluation
from fastadapt.train import meta_train

EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143}


@dataclass(frozen=True)
class TrainSettings:
    """Meta-train; the same command goes on with a run that was stopped or killed."""

    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    """What is trained, and how."""
    run: Path | None = None
    """Folder of the run; default runs/PRESET."""
    data: Path | None = None
    """Folder that holds the data set; default FASTADAPT_DATA, then the user's cache."""
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


def choose_device(name: str) -> torch.device:
    """Return the device called `name`, where "auto" is a GPU if there is one.

    Raises:
        ConfigError: if CUDA is asked for and absent.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda was asked for, but torch sees no GPU; use --device cpu")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def settle(folder: Path, config: RunConfig) -> None:
    """Write the run's `config.json`, or make sure that the one there is the same run.

    Raises:
        ConfigError: if the folder holds a run with other settings.
    """
    path = folder / "config.json"
    if path.is_file() and saved_steps(folder / "checkpoints"):
        changed = differences(read_config(folder), config)
        if changed:
            raise ConfigError(
                f"{folder} holds a run with other settings ({'; '.join(changed[:5])}"
                f"{' and more' if len(changed) > 5 else ''}); go on with the same settings, or choose another --run"
            )
    elif folder.is_dir() and any(folder.iterdir()) and not path.is_file():
        raise ConfigError(f"{folder} is not empty and not a run; choose another --run")
    write_text(path, config.to_json() + "\n")


def main(argv: Sequence[str]) -> int:
    """Parse the command line and train."""
    from fastadapt.commands import train_table  # which builds on this module

    if train_table.is_asked_for(argv):
        return train_table.main(argv)
    presets = {
        name: (text, TrainSettings(config=config, run=Path("runs") / name)) for name, (text, config) in PRESETS.items()
    }
    if argv and not argv[0].startswith("-") and argv[0] not in presets:
        import difflib

        near = difflib.get_close_matches(argv[0], presets, n=3)
        raise ConfigError(
            f"there is no preset {argv[0]!r}; "
            + (f"near are {', '.join(near)}" if near else "fastadapt list shows them")
        )
    settings = tyro.extras.overridable_config_cli(presets, args=list(argv), prog="fastadapt train")
    config = honestly_named(settings.config, PRESETS[argv[0]][1])
    return run(dataclasses.replace(settings, config=config))


def honestly_named(config: RunConfig, preset: RunConfig) -> RunConfig:
    """Return `config`, its protocol renamed if it is not measured as the preset that owns the name is."""
    pairs = [("protocol", config.protocol, preset.protocol), ("data", config.data, preset.data)]
    changed = [
        f"{part}.{field.name}"
        for part, ours, theirs in pairs
        for field in dataclasses.fields(ours)
        if not field.name.startswith(("train_", "rotated_classes", "name"))
        and getattr(ours, field.name) != getattr(theirs, field.name, None)
    ]
    if not changed or config.protocol.name != preset.protocol.name:
        return config
    name = f"custom ({preset.protocol.name} with {', '.join(changed)} changed)"
    return dataclasses.replace(config, protocol=dataclasses.replace(config.protocol, name=name))


def run(settings: TrainSettings) -> int:
    """Train as the settings say and return the exit code."""
    config, folder = settings.config, Path(settings.run or "runs/custom")
    device = choose_device(settings.device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    loaded_data = config.data.load(settings.data, settings.download)
    training_tasks = config.data.source("train", loaded_data)
    validation = config.data.source("val", loaded_data) if config.training.validate_every else None
    test_tasks = config.data.source("test", loaded_data)
    torch.manual_seed(config.training.seed)
    learner = config.build().to(device)  # before anything is written: what can't be built leaves no trace
    settle(folder, config)
    trained = meta_train(
        learner,
        training_tasks,
        config.training,
        validation=validation,
        protocol=config.validation,
        folder=folder,
        quiet=settings.quiet,
        tensorboard=settings.tensorboard,
    )
    export_model(folder, config)
    if trained.stopped in EXIT_CODES:
        print(f"{folder} stopped at step {trained.step}; the same command goes on from there")
        return EXIT_CODES[trained.stopped]

    loaded = load_run(folder)
    result = evaluate(loaded.learner.to(device), test_tasks, config.protocol)
    save_evaluation(folder, loaded.step, result)
    print(f"{folder} (weights of step {loaded.step} of {config.training.steps}): {result}")
    loaded.learner.to("cpu")
    try:
        from fastadapt.report import write_report

        pictures = write_report(folder, loaded, trained.records, result, test_tasks)
        print(f"report: {', '.join(str(path) for path in pictures)}")
    except MissingExtraError as error:
        print(f"no pictures were drawn: {error}")
    return 0
