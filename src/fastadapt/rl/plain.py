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
    """Return the same, with all metrics but the return as facts: returns are means, steps and episodes are counted."""
    metrics = dict(taken.outcome.metrics)
    headline = {"return": metrics.pop("return")}
    facts = {name: float(v.mean() if name.startswith("return") else v.sum()) for name, v in metrics.items()}
    return replace(taken, outcome=replace(taken.outcome, metrics=headline), facts=facts | taken.facts)
