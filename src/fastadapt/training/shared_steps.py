"""Which outer steps several processes take with each other."""

import torch

from fastadapt.errors import ConfigError
from fastadapt.learner import Learner
from fastadapt.ranks import Ranks
from fastadapt.training.local_steps import LocalSteps
from fastadapt.training.outer_step import OuterStep, outer_step
from fastadapt.training.settings import Training
from fastadapt.training.sharded import ShardedStep


def together(
    step: OuterStep, learner: Learner, ranks: Ranks, training: Training, optimizer: torch.optim.Optimizer
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
    if training.local_steps > 1:
        return LocalSteps(learner, ranks, training, optimizer)
    return ShardedStep(learner, ranks)
