"""Go on where a run stopped: find its newest checkpoint, make sure that it is the same run, and load it."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fastadapt.engine.engine import Engine
from fastadapt.errors import CheckpointError
from fastadapt.learner import Learner
from fastadapt.ranks import Ranks
from fastadapt.training.captured import load as load_state
from fastadapt.training.checkpoint import Checkpoint, latest_checkpoint, load_checkpoint, step_folder, sweep
from fastadapt.training.settings import Training

if TYPE_CHECKING:
    from fastadapt.training.fully_sharded import FullySharded

logger = logging.getLogger("fastadapt")


def engine_of(learner: Learner) -> Engine | None:
    """Return what runs the learner's tasks, where it has such a thing."""
    engine = getattr(learner, "engine", None)
    return engine if isinstance(engine, Engine) else None


def resume(
    folder: Path | None,
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    training: Training,
    state: dict[str, Any],
    ranks: Ranks,
    shards: "FullySharded | None" = None,
) -> int:
    """Load the newest valid checkpoint, if any, which the first process finds for all, and return its step.

    Args:
        folder: of the checkpoints, in the first process; None keeps none.
        learner: filled with its weights.
        optimizer: filled with its state.
        training: the settings, which have to be those of the run.
        state: what is kept beside the weights; its counters are filled in.
        ranks: the processes.
        shards: where each process keeps a part of the weights.

    Raises:
        CheckpointError: if it is of other settings, another learner or another network.
    """
    if folder is not None:
        sweep(folder)
    load = (
        load_checkpoint if shards is None else shards.counters_of
    )  # each reads its own parts, once they are known to fit
    checkpoint: Checkpoint | None = ranks.said(None if folder is None else latest_checkpoint(folder, load))
    if checkpoint is None:
        return 0
    for key, value in state["environment"].items():
        was = checkpoint.state.get("environment", {}).get(key)
        if was != value:
            logger.warning(
                "the checkpoint was written with %s %s, now it is %s: results may differ%s",
                key,
                was,
                value,
                "" if key == "processes" and training.local_steps > 1 else " in the last bits",
            )
    old, new = checkpoint.state.get("learner", {}), state["learner"]
    changed = training.conflicts(checkpoint.state.get("training", {}))
    changed += [f"{key}: {old.get(key)} -> {new.get(key)}" for key in sorted(old | new) if old.get(key) != new.get(key)]
    if changed:
        raise CheckpointError(
            f"{folder} was trained with other settings ({'; '.join(changed)}); "
            "go on with the same, or use another folder"
        )
    try:
        if shards is None:
            learner.load_state_dict(checkpoint.learner)
        else:
            path: Any = ranks.said(None if folder is None else step_folder(folder, checkpoint.step))
            checkpoint = shards.load(path, optimizer)
        load_state(optimizer, checkpoint.optimizer)
    except (RuntimeError, ValueError, KeyError) as error:
        first = str(error).splitlines()[0]
        raise CheckpointError(
            f"the checkpoint of step {checkpoint.step} in {folder} does not fit this learner: {first}"
        ) from None
    engine = engine_of(learner)
    if engine is not None:  # run alike, so that the resumed numbers are those of a run that never stopped
        engine.recall(checkpoint.state.get("execution", {}))
    state.update({key: checkpoint.state[key] for key in ("skipped", "seconds") if key in checkpoint.state})
    return checkpoint.step
