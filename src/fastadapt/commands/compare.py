"""`fastadapt compare METHOD... --on TASKS`: methods on the same tasks within the same budget, and how they stand."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from fastadapt.atomic import write_text
from fastadapt.backbones.backbone import KINDS, Backbone
from fastadapt.commands.backbone_options import BackboneOptions
from fastadapt.compare.contest import Contest, Stopped, take_part
from fastadapt.compare.contestants import TASKS, Contestant, contestants, folder_contestants
from fastadapt.compare.heads import HeadEntry, named_heads, take_part_with_head
from fastadapt.compare.test_sets import further_tests
from fastadapt.compare.told import as_csv, markdown, summary
from fastadapt.data.images.folder_images import Bad
from fastadapt.errors import ConfigError, MissingExtraError
from fastadapt.evaluation import Protocol
from fastadapt.published.result_file import made
from fastadapt.runs.folder_run import Wishes
from fastadapt.runs.within import minutes_of, steps_of
from fastadapt.training.device import choose_device
from fastadapt.training.interrupts import EXIT_CODES

PLACE = Path("runs/compare")


@dataclass(frozen=True, kw_only=True)
class CompareSettings(BackboneOptions):
    """Train methods on the same tasks within the same budget, test all on the same test tasks, and draw how they stand.

    The same command goes on with a comparison that was stopped; what is done is not done again.
    """

    methods: tyro.conf.Positional[tuple[str, ...]]
    """Methods, such as maml protonet reptile, presets, or with --backbone heads on its features, head-cl2n, head-ridge
    and others; "*" stands for anything."""
    on: str
    """Tasks, such as omniglot-5w1s or mini-imagenet-5w5s, or a folder of your own images, one folder for each class."""
    budget: str = "25m"
    """What each method may train, as 90s, 25m or 1.5h, validations included, or outer steps, as 8000steps."""
    also: tuple[str, ...] = ()
    """Test on other images too: omniglot, mini-imagenet, digits, or folders of class folders."""
    tasks: int = 600
    """How many test tasks."""
    baseline: str | None = None
    """The method that the others are compared with; by default the best."""
    ways: int | None = None
    """Of your own images: classes of a task; default 5, or what there are enough for."""
    shots: int = 1
    """Of your own images: images of each class to adapt on."""
    queries: int | None = None
    """Of your own images: images of each class to be judged on; default 15, or what the smallest class has left."""
    bad: Bad = "fail"
    """What can't be used of a folder of images: refused or left out."""
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
    if steps_of(settings.budget) is None:
        minutes_of(settings.budget)  # a mistake is told before anything is read
    device = choose_device(settings.device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    heads, others = named_heads(settings.methods)
    backbone = _backbone(settings, heads)
    chosen, data, loaded, folder = _entries(settings, others)
    on = chosen[0].config.protocol.name.removeprefix("compare-").removesuffix("-v1")
    protocol = Protocol(f"compare-{on}-v1", tasks=settings.tasks, steps=0)
    entries = [] if backbone is None else [HeadEntry(name, backbone, data, protocol, settings.seed) for name in heads]
    chosen = chosen if others else []  # which else only told what the tasks are
    names = [*(contestant.name for contestant in chosen), *heads]
    if settings.baseline is not None and settings.baseline not in names:
        raise ConfigError(f"--baseline {settings.baseline} is not among the methods {', '.join(names)}")
    tests = {
        on: (f"the test classes of {on}", data.source("test", loaded)),
        **further_tests(settings.also, data, settings.data, bad=settings.bad),
    }
    sources = {name: source for name, (_, source) in tests.items()}
    contest = Contest(folder, settings.budget, loaded, sources, device, settings.quiet)
    record: dict[str, Any] = {
        "on": on,
        "budget": settings.budget,
        "seed": settings.seed,
        "baseline": settings.baseline,
        "tests": {name: {"words": words, "tasks": settings.tasks} for name, (words, _) in tests.items()},
        "made": made(device),
        "methods": [],
    }
    for contestant in (*chosen, *entries):
        try:
            if isinstance(contestant, HeadEntry):
                record["methods"].append(take_part_with_head(contestant, contest))
            else:
                record["methods"].append(take_part(contestant, contest))
        except Stopped as stop:
            print(f"{contestant.name}: stopped; the same command goes on from there")
            return EXIT_CODES[stop.signal]
        write(record, folder)
    print(summary(record))
    _draw(record, folder)
    return 0 if any("failed" not in row for row in record["methods"]) else 1


def _backbone(settings: CompareSettings, heads: Sequence[str]) -> Backbone | None:
    """Return the backbone of the heads that take part; None where none does.

    Raises:
        ConfigError: if heads are asked for without one, or one without heads.
    """
    if heads and settings.backbone is None:
        raise ConfigError(f"{heads[0]} is fitted to what others have trained; name it with --backbone: {KINDS}")
    if settings.backbone is not None and not heads:
        raise ConfigError(f"--backbone {settings.backbone} is for heads on its features; name one, such as head-cl2n")
    return settings.find() if heads else None


def _entries(settings: CompareSettings, methods: Sequence[str]) -> tuple[list[Contestant], Any, Any, Path]:
    """Return the methods, the data that are common to them, what was read of these, and the folder for all.

    Where heads alone take part, there is still one method that tells what the tasks are.
    """
    methods, own = methods or ["protonet"], Path(settings.on)
    if settings.on in TASKS or not own.is_dir():
        if (settings.ways, settings.shots, settings.queries) != (None, 1, None):
            raise ConfigError(f"--ways, --shots and --queries are for your own images; {settings.on} has its own")
        chosen = contestants(methods, settings.on, count=settings.tasks, seed=settings.seed)
        common = TASKS[settings.on]
        loaded = common.load(settings.data, settings.download)
        return chosen, common, loaded, settings.folder or PLACE / settings.on
    wishes = Wishes(own, ways=settings.ways, shots=settings.shots, queries=settings.queries, bad=settings.bad)
    folder = settings.folder or PLACE / wishes.name.removeprefix(f"{wishes.method}-")
    chosen, images = folder_contestants(methods, wishes, folder, count=settings.tasks, seed=settings.seed)
    return chosen, chosen[0].config.data, images, folder


def write(record: dict[str, Any], folder: Path) -> None:
    """Write what there is of a comparison: numbers as JSON and CSV, and tables as Markdown."""
    write_text(folder / "compare.json", json.dumps(record, indent=1) + "\n")
    write_text(folder / "compare.csv", as_csv(record))
    write_text(folder / "compare.md", markdown(record))


def _draw(record: dict[str, Any], folder: Path) -> None:
    from fastadapt.report.standings import draw_standings
    from fastadapt.report.standings_page import write_page

    picture = None
    try:
        picture = draw_standings(record, folder / "compare.png")
    except MissingExtraError as error:
        print(f"no picture was drawn: {error}")
    page = write_page(record, folder / "compare.html", picture)
    files = [folder / "compare.json", folder / "compare.csv", folder / "compare.md", picture, page]
    print(f"written: {', '.join(str(path) for path in files if path is not None)}")
