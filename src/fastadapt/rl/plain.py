"""The plain outer step on policies, and what the log says of any of them."""

from dataclasses import replace

import torch

from fastadapt.learner import Learner
from fastadapt.tasks import Tasks
from fastadapt.training.outer_step import Stepped, outer_step
from fastadapt.training.settings import Training


def plain_step(learner: Learner, tasks: list[Tasks], optimizer: torch.optim.Optimizer, training: Training) -> Stepped:
    """Take one step of the outer optimizer along the meta-gradient, as every other learner of the library does."""
    return told(outer_step(learner, tasks, optimizer, training))


def told(taken: Stepped) -> Stepped:
    """Return the same, as it is to be logged.

    The loss becomes minus the return, as the surrogate is 0 wherever it is measured at the policies that acted; where a
    number was not finite it stays, to be blamed. All metrics but the return become facts: means of returns, sums of
    steps and episodes.
    """
    metrics = dict(taken.outcome.metrics)
    headline = {"return": metrics.pop("return")}
    facts = {name: float(v.mean() if name.startswith("return") else v.sum()) for name, v in metrics.items()}
    outcome = replace(taken.outcome, metrics=headline)
    if taken.moved:
        outcome = replace(outcome, loss=-headline["return"].mean(), losses=-headline["return"])
    return replace(taken, outcome=outcome, facts=facts | taken.facts)
