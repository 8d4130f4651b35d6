"""A head on a frozen backbone in a comparison of methods: the same tasks, and no training but the head's own."""

import fnmatch
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from fastadapt.backbones.backbone import Backbone
from fastadapt.backbones.shown import Shown
from fastadapt.compare.contest import Contest, guarded, judged, read_row
from fastadapt.errors import ConfigError
from fastadapt.evaluation import Protocol
from fastadapt.methods.features import mean_feature
from fastadapt.methods.frozen import FrozenLearner
from fastadapt.methods.head_settings import HEADS
from fastadapt.tasks import TaskSource, draw
from fastadapt.training.settings import Training
from fastadapt.training.train import meta_train

BEGINS = "head-"
LOOKED_AT = 40
"""Training tasks whose images are averaged, for a head that takes the mean feature of the training classes."""
TRAINING = Training(steps=50, meta_batch=2, lr=0.1, schedule="linear", log_every=50, checkpoint_every=50)
"""How the numbers of a head are trained, where it has any (ridge has two)."""


@dataclass(frozen=True)
class HeadEntry:
    """Hold one head as it takes part.

    Args:
        name: how it is called here, "head-cl2n".
        backbone: what others have trained.
        data: the settings of the common tasks.
        protocol: how it is measured.
        seed: of the tasks that its own numbers are trained on.
    """

    name: str
    backbone: Backbone
    data: Any
    protocol: Protocol
    seed: int = 0


def named_heads(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the heads among the methods of a comparison, each once, and the other words.

    Raises:
        ConfigError: if a word that begins as a head fits none.

    Example:
        >>> named_heads(["protonet", "head-cl2n", "head-*2n"])
        (['head-cl2n', 'head-l2n'], ['protonet'])
    """
    every = [f"{BEGINS}{name}" for name in HEADS]
    heads: dict[str, None] = {}
    for word in (word for word in words if word.startswith(BEGINS)):
        fitting = fnmatch.filter(every, word)
        if not fitting:
            raise ConfigError(f"there is no head {word!r}; there are {', '.join(every)}")
        heads |= dict.fromkeys(fitting)
    return list(heads), [word for word in words if not word.startswith(BEGINS)]


def take_part_with_head(entry: HeadEntry, contest: Contest) -> dict[str, Any]:
    """Fit what a head has to learn, measure it, or go on with that, and return its row, see `contest.take_part`."""
    run = contest.folder / entry.name

    def work(row: dict[str, Any]) -> None:
        kept = read_row(run)
        asked = {"backbone": entry.backbone.name, "seed": entry.seed}
        if all(kept.get(name) == value for name, value in asked.items()):
            row |= kept
        began = time.monotonic()
        learner, steps = _fitted(entry, contest)
        row |= {
            **asked,
            "learner": type(learner).__name__,
            "network": entry.backbone.name,
            "outer steps": steps,
            "published steps": steps,
            "tasks of a step": TRAINING.meta_batch,
            "weights of step": steps,
            "seconds of training": round(time.monotonic() - began, 1),
            "skipped steps": 0,
        }
        judged(row, run, learner, steps, entry.name, entry.protocol, contest)

    return guarded(entry.name, f"{entry.name} on {entry.backbone.name}", work)


def _fitted(entry: HeadEntry, contest: Contest) -> tuple[FrozenLearner, int]:
    """Return the head, with a centre and numbers of the training classes where it has any, and its outer steps."""
    torch.manual_seed(entry.seed)
    shown = Shown(entry.backbone, entry.data.input).to(contest.device)
    learner = HEADS[entry.name.removeprefix(BEGINS)].learner(shown, entry.data.loss, entry.data)
    assert isinstance(learner, FrozenLearner)
    learner.to(contest.device)
    source: TaskSource = entry.data.source("train", contest.loaded)
    if learner.centre is not None:
        images = [
            part
            for task in draw(source, seed=entry.seed, split="train", indices=range(LOOKED_AT))
            for part in (task.support[0], task.query[0])
        ]
        learner.centre = mean_feature(shown, torch.cat(images).to(contest.device))
    if not any(parameter.requires_grad for parameter in learner.parameters()):
        return learner.eval(), 0
    trained = meta_train(learner, source, replace(TRAINING, seed=entry.seed), quiet=True)
    return learner.eval(), trained.step
