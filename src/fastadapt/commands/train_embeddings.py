"""`fastadapt train --data EMBEDDINGS --head WHICH`: a head on embeddings that were computed before, measured and kept.

What there is to train is trained on tasks of the training classes: the centre of cl2n, strength and scale of ridge.
"""

import argparse
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
import tyro

from fastadapt.arguments import argument
from fastadapt.data.embeddings.embeddings import Embeddings
from fastadapt.data.embeddings.embeddings_settings import EmbeddingsData
from fastadapt.data.embeddings.reading import read_embeddings
from fastadapt.data.files import shown
from fastadapt.data.images.folder_split import divide, most_ways
from fastadapt.data.images.folder_verdict import MOST_QUERIES, USUAL_WAYS
from fastadapt.errors import ConfigError
from fastadapt.evaluation import Protocol, evaluate
from fastadapt.learner import Learner
from fastadapt.methods.frozen import FrozenLearner
from fastadapt.methods.head_settings import (
    HEADS,
    CentroidMethod,
    CosineHeadMethod,
    Head,
    LinearProbeMethod,
    NearestSampleMethod,
    RidgeMethod,
)
from fastadapt.nets.settings import FeaturesNet
from fastadapt.runs.config import RunConfig
from fastadapt.runs.presets_folder import TRAIN_QUERIES
from fastadapt.runs.run_files import (
    export_learner,
    export_model,
    load_run,
    save_evaluation,
    save_split,
    settle,
)
from fastadapt.training.interrupts import EXIT_CODES
from fastadapt.training.settings import Training
from fastadapt.training.train import meta_train

logger = logging.getLogger("fastadapt")
ENDINGS = (".npz", ".safetensors", ".npy", ".pt", ".pth", ".pkl")
"""Files that are no table: embeddings, or what is taken for such and refused with a sentence."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingsSettings:
    """Measure a head on embeddings of your own, train what it has to train, and keep it as a run."""

    data: Path
    """The embeddings: .safetensors or .npz, such as fastadapt embed writes, .parquet or .csv."""
    head: Head = "cl2n"
    """Nearest centroid (plain; l2n of length 1; cl2n centred too), ridge, linear, cosine or nearest."""
    method: CentroidMethod | NearestSampleMethod | RidgeMethod | LinearProbeMethod | CosineHeadMethod = field(
        default_factory=lambda: HEADS["cl2n"]  # type: ignore[return-value]
    )
    """The settings of the head."""
    class_column: str | None = argument(read_embeddings, "class_column")
    ways: int | None = None
    """Classes of a task; default 5, or what there are enough for."""
    shots: int = 1
    """Samples of each class to adapt on."""
    queries: int | None = None
    """Samples of each class to be judged on; default 15, or what the smallest class has left."""
    min_samples: int = EmbeddingsData.min_samples
    """Leave out classes with fewer samples than this."""
    split: Literal["auto", "random"] = "auto"
    """How classes are divided: as the folder did that they were computed of, where it did, or at random."""
    val: float = EmbeddingsData.val_fraction
    """Share of the classes that validate; 0 for none."""
    test: float = EmbeddingsData.test_fraction
    """Share of the classes to test on."""
    split_seed: int = EmbeddingsData.split_seed
    """Seed of the division of the classes."""
    run: Path | None = None
    """Folder of the run; default runs/HEAD-FILE."""
    tasks: int = 600
    """Test tasks."""
    steps: int = 200
    """Outer steps, for a head that trains."""
    seed: int = 0
    """Seed of the training tasks."""
    quiet: bool = False
    """Show nothing while it trains."""


def is_asked_for(argv: Sequence[str]) -> bool:
    """Return whether the words after `train` speak of embeddings.

    Example:
        >>> is_asked_for(["--data", "photos.npz"]), is_asked_for(["--data", "t.csv", "--target", "y"])
        (True, False)
    """
    if argv and not argv[0].startswith("-"):
        return False
    words = [word for given in argv for word in given.split("=", 1)]
    named = [word for before, word in itertools.pairwise(words) if before == "--data"]
    return "--head" in words or any(Path(word).suffix.lower() in ENDINGS for word in named)


def main(argv: Sequence[str]) -> int:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--head", default="cl2n")
    head = parser.parse_known_args(list(argv))[0].head
    if head not in get_args(Head):
        raise ConfigError(f"there is no head {head!r}; choose one of {', '.join(get_args(Head))}")
    default = EmbeddingsSettings(data=tyro.MISSING, head=head, method=HEADS[head])  # type: ignore[arg-type]
    words = list(argv)
    return run(
        tyro.cli(
            EmbeddingsSettings,
            args=words,
            prog="fastadapt train",
            default=default,
            config=(tyro.conf.AvoidSubcommands,),
        )
    )


def run(settings: EmbeddingsSettings) -> int:
    """Train what there is to train, measure, write the run, and return the exit code."""
    made = read_embeddings(settings.data, class_column=settings.class_column)
    config = configured(settings, made)
    data = config.data
    assert isinstance(data, EmbeddingsData)
    folder = settings.run or Path("runs") / f"{settings.head}-{settings.data.stem}"
    torch.manual_seed(config.training.seed)
    learner = config.build()
    centre_of(learner, made, data)
    settle(folder, config)
    save_split(folder, data)
    logger.info(
        "%s: %d embeddings of %d numbers, %d classes (%s); %d-way %d-shot tasks, %d queries a class",
        shown(settings.data),
        len(made),
        data.features,
        len(made.class_names),
        ", ".join(f"{len(names)} {part}" for part, names in data.split.items()),
        data.ways,
        data.shots,
        data.queries,
    )
    if any(p.requires_grad for p in learner.parameters()):
        source = data.source("train", made)
        trained = meta_train(learner, source, config.training, folder=folder, quiet=settings.quiet)
        export_model(folder, config)
        if trained.stopped in EXIT_CODES:
            print(f"{folder} stopped at step {trained.step}; the same command goes on from there")
            return EXIT_CODES[trained.stopped]
    else:
        centred = " but the mean feature of the training classes" if config.method.centred else ""  # type: ignore[union-attr]
        print(f"{settings.head} has nothing to train{centred}: it is fitted to the samples of each task")
        export_learner(folder, config, learner.state_dict(), 0)
    loaded = load_run(folder)
    result = evaluate(loaded.learner, data.source("test", made), config.protocol)
    save_evaluation(folder, loaded.step, result)
    print(f"{folder} ({settings.head}, chance {1 / data.ways:.4f}): {result}")
    return 0


def configured(settings: EmbeddingsSettings, made: Embeddings) -> RunConfig:
    """Return the configuration of the run.

    Raises:
        ConfigError: for a setting outside its range.
        DataError: if there are too few classes or samples.
    """
    for name, least in (("ways", 2), ("shots", 1), ("queries", 1), ("steps", 1), ("tasks", 1)):
        value = getattr(settings, name)
        if value is not None and value < least:
            raise ConfigError(f"--{name} must be at least {least}, got {value}")
    counts = {name: count for name, count in made.counts.items() if count >= settings.min_samples}
    parts = made.parts if settings.split == "auto" else {}

    def divided(ways: int) -> object:
        return divide(counts, parts, ways=ways, val=settings.val, test=settings.test, seed=settings.split_seed)

    ways = settings.ways or max(2, min(USUAL_WAYS, most_ways(len(counts), divided)))
    least = min(counts.values(), default=1)
    queries = settings.queries or max(1, min(MOST_QUERIES, least - settings.shots))
    data = EmbeddingsData(
        ways=ways,
        shots=settings.shots,
        queries=queries,
        train_shots=settings.shots,
        train_queries=min(queries, TRAIN_QUERIES),
        class_column=settings.class_column,
        min_samples=settings.min_samples,
        val_fraction=settings.val,
        test_fraction=settings.test,
        split_seed=settings.split_seed,
        folder=str(settings.data),
    ).of(made, by_parts=settings.split == "auto")
    name = f"embeddings-{ways}w{settings.shots}s-v1"
    training = Training(
        steps=settings.steps, meta_batch=4, lr=0.1, schedule="linear", seed=settings.seed, checkpoint_every=50
    )
    return RunConfig(
        data=data,
        net=FeaturesNet(),
        method=settings.method,
        training=training,
        protocol=Protocol(name, tasks=settings.tasks, steps=0),
        export="last",
    )


def centre_of(learner: Learner, made: Embeddings, data: EmbeddingsData) -> None:
    """Give a head its centre, the mean feature of the training classes, where it wants one."""
    if isinstance(learner, FrozenLearner) and learner.centre is not None:
        rows = made.features[torch.from_numpy(np.flatnonzero(data.numbers("train", made) >= 0))]
        learner.centre = rows.double().mean(0).float()
