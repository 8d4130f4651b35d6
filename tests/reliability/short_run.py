"""A training of a moment, with validations, checkpoints and a log, for tests of what interrupts it."""

from pathlib import Path

import torch

import fastadapt as fa
from fastadapt.data.sinusoid import Sinusoid

STEPS = 6


def train(folder: Path) -> dict[str, torch.Tensor]:
    """Train, or go on, and return the weights at the end."""
    torch.manual_seed(0)
    learner = fa.MAML(fa.MLP(1, (8,), 1), rule=fa.SGD(0.01), route="loop")
    training = fa.Training(steps=STEPS, meta_batch=2, checkpoint_every=2, validate_every=3, log_every=1, keep=2)
    protocol = fa.Protocol(tasks=4, split="val")
    fa.meta_train(learner, Sinusoid(), training, validation=Sinusoid(), protocol=protocol, folder=folder, quiet=True)
    return learner.state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two learners have the same bits."""
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())
