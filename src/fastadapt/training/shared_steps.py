"""Which outer steps several processes take with each other."""

from typing import TYPE_CHECKING, Literal

import torch

from fastadapt.errors import ConfigError
from fastadapt.learner import Learner
from fastadapt.ranks import Ranks
from fastadapt.training.local_steps import LocalSteps
from fastadapt.training.outer_step import OuterStep, outer_step
from fastadapt.training.overlapped import Overlapped
from fastadapt.training.settings import Training
from fastadapt.training.sharded import ShardedStep

if TYPE_CHECKING:
    from fastadapt.training.fully_sharded import FullySharded


Sharding = Literal["none", "full"]
"""Which process keeps what: each of them all weights, or each a part of them."""


def sharded(
    sharding: Sharding, learner: Learner, ranks: Ranks, training: Training, optimizer: torch.optim.Optimizer | None
) -> "FullySharded | None":
    """Return what keeps parts of a learner's weights, where that is asked for and there are several processes.

    Raises:
        ConfigError: for what goes with whole weights alone.
    """
    if sharding not in ("none", "full"):
        raise ConfigError(f"sharding must be 'none' or 'full', got {sharding!r}")
    if sharding == "none":
        return None
    if training.local_steps > 1:
        raise ConfigError(
            f"sharding='full' and training.local_steps={training.local_steps} exclude each other: local steps need all "
            "weights in each process; leave one of them out"
        )
    if optimizer is not None:
        raise ConfigError(
            "sharding='full' replaces the parameters that an optimizer= was made for; leave it out, and choose among "
            "the optimizers of the settings"
        )
    if not ranks.many:
        return None
    from fastadapt.training.fully_sharded import FullySharded

    return FullySharded(learner, ranks)


def together(
    step: OuterStep,
    learner: Learner,
    ranks: Ranks,
    training: Training,
    optimizer: torch.optim.Optimizer,
    shards: "FullySharded | None" = None,
) -> OuterStep:
    """Return what takes outer steps in several processes, in the place of `outer_step`.

    Raises:
        ConfigError: for an outer step of another kind, which says itself how processes share it; where a process would
            have no task, and where `training.local_steps` are not sound.
    """
    if step is not outer_step:
        raise ConfigError(
            f"outer_step={getattr(step, '__name__', type(step).__name__)} takes the tasks of one process, and there "
            f"are {ranks.world}; train in one, or leave outer_step out"
        )
    if training.meta_batch < ranks.world:
        raise ConfigError(
            f"training.meta_batch is {training.meta_batch} and there are {ranks.world} processes; give each "
            "at least one task"
        )
    if training.overlap > 1 and (shards is not None or training.local_steps > 1):
        other = "sharding='full'" if shards is not None else f"training.local_steps={training.local_steps}"
        raise ConfigError(
            f"training.overlap={training.overlap} and {other} exclude each other: the first sends gradients in parts, "
            "and the other sends them in its own way; leave one of them out"
        )
    if shards is not None:
        return shards
    if training.overlap > 1:
        return Overlapped(learner, ranks, training.overlap)
    if training.local_steps > 1:
        return LocalSteps(learner, ranks, training, optimizer)
    return ShardedStep(learner, ranks)
