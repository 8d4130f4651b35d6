"""Who takes part in a comparison of methods: presets by name, all brought to the same tasks.

What a task is (its classes, split, shots, queries, turns and pixels) is common to all. How many classes, shots and
queries a *training* task has is a part of the method and stays as its preset has it, and so do network, inner loop,
outer optimizer and batch norm.
"""

import difflib
import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args

from fastadapt.data.files import shown
from fastadapt.data.settings import MiniImageNetData, OmniglotData
from fastadapt.errors import ConfigError
from fastadapt.evaluation import Protocol
from fastadapt.runs.config import RunConfig
from fastadapt.runs.folder_run import Looked, Wishes, resolve, seal, settled
from fastadapt.runs.presets import PRESETS, SETTINGS
from fastadapt.runs.presets_folder import FolderMethod

QUERIES = 15
"""Query images of each class of a test task: of all shots alike, so that intervals are as wide."""
TASKS: dict[str, OmniglotData | MiniImageNetData] = {
    **{f"omniglot-{s}": OmniglotData(ways=n, shots=k, queries=QUERIES) for s, (n, k) in SETTINGS.items()},
    **{f"mini-imagenet-5w{k}s": MiniImageNetData(shots=k, queries=QUERIES) for k in (1, 5)},
}
"""Name -> the tasks that all methods are tested on; a preset `METHOD-NAME` is METHOD on it."""
_OF_TRAINING = ("train_ways", "train_shots", "train_queries", "flat_batch", "rotated_classes")


@dataclass(frozen=True)
class Contestant:
    """Hold one method as it takes part.

    Args:
        name: how it is called here.
        preset: where its settings are from.
        config: all of them, on the common tasks.
        published: the outer steps of the preset.
    """

    name: str
    preset: str
    config: RunConfig
    published: int


def methods_on(tasks: str) -> list[str]:
    """Return the names of the methods that have a preset on some tasks.

    Example:
        >>> {"maml", "protonet", "reptile"} <= set(methods_on("omniglot-5w1s"))
        True
    """
    return [name.removesuffix(f"-{tasks}") for name in PRESETS if name.endswith(f"-{tasks}")]


def contestants(names: Sequence[str], tasks: str, *, count: int, seed: int = 0) -> list[Contestant]:
    """Return the methods of the given names on the tasks of a name, each once.

    Args:
        names: methods, such as "protonet", in which `*` stands for anything, or presets by their whole name.
        tasks: a key of `TASKS`.
        count: how many test tasks.
        seed: of the weights and the training tasks.

    Raises:
        ConfigError: if there are no such tasks, or a name fits nothing that trains on them; near ones are named.

    Example:
        >>> [c.name for c in contestants(["protonet", "ma*ing"], "omniglot-5w1s", count=600)]
        ['protonet', 'matching']
    """
    if tasks not in TASKS:
        raise ConfigError(f"there are no tasks {tasks!r}; there are {', '.join(TASKS)}, or a folder of your own images")
    found: dict[str, Contestant] = {}
    for name, preset in ((n, p) for word in names for n, p in _presets(word, tasks)):
        config = on_tasks(PRESETS[preset][1], tasks, preset, count=count, seed=seed)
        found[name] = Contestant(name, preset, config, PRESETS[preset][1].training.steps)
    return list(found.values())


def _presets(word: str, tasks: str) -> list[tuple[str, str]]:
    known = methods_on(tasks)
    fitting = fnmatch.filter(known, word)
    if fitting:
        return [(name, f"{name}-{tasks}") for name in fitting]
    if word in PRESETS:
        return [(word, word)]
    near = difflib.get_close_matches(word, known, n=3)
    hint = f"near are {', '.join(near)}" if near else f"there are {', '.join(known)}"
    raise ConfigError(f"there is no method {word!r} on {tasks}; {hint}")


def on_tasks(config: RunConfig, tasks: str, preset: str, *, count: int, seed: int) -> RunConfig:
    """Return a preset's run on the common tasks, measured on so many of them after its own number of inner steps.

    Raises:
        ConfigError: if the preset is on data of another kind.
    """
    common = TASKS[tasks]
    if type(config.data) is not type(common):
        raise ConfigError(f"{preset} trains on {_kind(config)}, not on {tasks}; leave it out, or compare on others")
    own = {field.name: getattr(config.data, field.name) for field in fields(common) if field.name in _OF_TRAINING}
    data: Any = replace(common, **own)
    return _measured(replace(config, data=data), tasks, count, seed)


def _measured(config: RunConfig, tasks: str, count: int, seed: int) -> RunConfig:
    protocol = config.protocol
    steps = protocol.steps if protocol.report is None else protocol.report
    judged = Protocol(f"compare-{tasks}-v1", tasks=count, steps=steps, norm=protocol.norm)
    return replace(config, protocol=judged, training=replace(config.training, seed=seed))


def _kind(config: RunConfig) -> str:
    return type(config.data).__name__.removesuffix("Data")


def folder_contestants(
    names: Sequence[str], wishes: Wishes, place: Path, *, count: int, seed: int = 0
) -> tuple[list[Contestant], Any]:
    """Return the methods of the given names on a folder of the user's own images, and the images.

    Args:
        names: methods of `fastadapt train --data FOLDER --method`, in which `*` stands for anything.
        wishes: what is said about the folder.
        place: the folder of the comparison, whose runs keep their division of the classes.
        count: how many test tasks.
        seed: of the weights and the training tasks.

    Raises:
        ConfigError: if a name fits none.
        DataError: if the folder can't be used as asked.
    """
    every: tuple[FolderMethod, ...] = get_args(FolderMethod)
    chosen: dict[Any, None] = {}  # ordered, each once
    for word in names:
        fitting = [name for name in every if fnmatch.fnmatch(name, word)]
        if not fitting:
            raise ConfigError(f"there is no method {word!r} for a folder of images; there are {', '.join(every)}")
        chosen |= dict.fromkeys(fitting)
    found: list[Contestant] = []
    looked: Looked | None = None
    images: Any = None
    for name in chosen:
        run = place / name
        if looked is None:
            wishes, looked = settled(wishes, run)
        config, images = resolve(replace(wishes, method=name), run, looked)
        config = seal(config, images, run)
        tasks = f"{shown(wishes.data.name)}-{config.data.ways}w{config.data.shots}s"
        found.append(Contestant(name, f"--method {name}", _measured(config, tasks, count, seed), config.training.steps))
    return found, images
