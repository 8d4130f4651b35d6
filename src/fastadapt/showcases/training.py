"""A start that is trained for a share of a showcase's time, and exactly resumed."""

import time
from dataclasses import dataclass, replace

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors

from fastadapt.compare.contest import Stopped
from fastadapt.errors import CheckpointError
from fastadapt.learner import Learner
from fastadapt.report.style import save_picture
from fastadapt.showcases.showcase import ShowSettings
from fastadapt.showcases.stages import Stages
from fastadapt.tasks import TaskSource, draw_batch
from fastadapt.training.settings import Training
from fastadapt.training.train import meta_train

WARM, TIMED = 2, 3  # outer steps


@dataclass(frozen=True)
class Schooling:
    """What was spent on a start.

    Args:
        steps: outer steps.
        seconds: that they took.
    """

    steps: int
    seconds: float


def schooled(
    settings: ShowSettings,
    stages: Stages,
    name: str,
    learner: Learner,
    source: TaskSource,
    training: Training,
    share: float,
    fraction: float = 1.0,
    optimizer: torch.optim.Optimizer | None = None,
) -> Schooling:
    """Train a learner for a share of the minutes, or go on with that.

    How many outer steps fit is measured once and kept, so that a resumed training is the same training.

    Args:
        settings: of the showcase.
        stages: where what was measured is kept.
        name: of the training's folder.
        learner: trained in place; its weights begin as they are given.
        source: of the tasks.
        training: its settings; the number of steps is put in here.
        share: of the minutes.
        fraction: of those steps; a later call with a larger one goes on.
        optimizer: the outer optimizer, if not the one of the settings.

    Raises:
        Stopped: by a signal; the checkpoint is written.
    """
    seconds = 60 * settings.minutes * share
    learner.to(settings.device)
    kept = stages.kept(f"pace {name}", lambda: {"steps": _fitting(learner, source, training, seconds, settings)})
    steps = max(1, round(kept["steps"] * fraction))
    slug = name.replace(" ", "-")
    file = settings.out / "starts" / f"{slug}-{steps}.safetensors"

    def train() -> float:
        stages.say(f"training {name}: {steps:,} outer steps in about {seconds * fraction:.0f} s")
        began = time.monotonic()
        folder = settings.out / "training" / slug
        done = meta_train(
            learner, source, replace(training, steps=steps), folder=folder, quiet=True, optimizer=optimizer
        )
        if done.stopped in ("SIGINT", "SIGTERM"):
            raise Stopped(done.stopped)
        tensors = {key: value.contiguous() for key, value in learner.state_dict().items()}
        save_picture(save_tensors(tensors), file)
        return time.monotonic() - began

    spent = stages.kept(f"seconds {name} {steps}", train)
    try:
        learner.load_state_dict(load_file(file))  # those after these very steps, in whatever life they were made
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"can't read {file}: {error}; remove {settings.out} and begin anew") from error
    return Schooling(steps, round(spent, 1))


def _fitting(learner: Learner, source: TaskSource, training: Training, seconds: float, settings: ShowSettings) -> int:
    """Return how many outer steps fit into some seconds; the learner stays as it is."""
    if settings.small:
        return max(2, int(seconds))
    took = []
    learner.train()
    for step in range(WARM + TIMED):
        since = time.monotonic()
        numbers = range(step * training.meta_batch, (step + 1) * training.meta_batch)
        tasks = [group.to(settings.device) for group in draw_batch(source, seed=0, split="pace", indices=numbers)]
        learner(tasks).loss.backward()
        learner.zero_grad()
        took.append(time.monotonic() - since)
    torch.manual_seed(settings.seed)
    return max(1, int(seconds / min(took[WARM:])))
