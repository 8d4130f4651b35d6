"""Which tasks, and what in them, made a loss or a gradient that is not finite: the data first, then the method."""

import copy
import logging
from typing import Any

import torch
from torch import Tensor

from fastadapt.errors import DivergenceError
from fastadapt.judging.not_finite import SHOWN, faults_of_data, listed
from fastadapt.learner import Learner, Outcome
from fastadapt.tasks import Task, Tasks
from fastadapt.training.settings import Training

logger = logging.getLogger("fastadapt")


def gradient_norm(grads: list[Tensor]) -> Tensor:
    """Return the Euclidean norm of all gradients together; it is finite only if each of them is."""
    if not grads:
        return torch.zeros(())
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in grads]))


def blamed(outcome: Outcome, numbers: range) -> list[int]:
    """Return the numbers of the tasks whose loss is not finite; of all tasks where only the gradient is not."""
    bad = torch.nonzero(~torch.isfinite(outcome.losses)).flatten().tolist()
    return [numbers[i] for i in bad] or list(numbers)


def skipped(
    outcome: Outcome, tasks: list[Tasks], numbers: range, training: Training, records: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return what is logged of a step that was skipped; say it the first time that the data are at fault."""
    faults = faults_of_data(tasks, numbers)
    if faults and not any("in the data" in record for record in records):
        logger.warning(
            "the data of a task are not finite, and the step is skipped: %s, of the stream (seed %d, 'train'); "
            "leave such "
            "samples out, or fill them in",
            listed(faults),
            training.seed,
        )
    record: dict[str, Any] = {"not finite": blamed(outcome, numbers)}
    return record | ({"in the data": faults[:SHOWN]} if faults else {})


def divergence(
    learner: Learner, tasks: list[Tasks], outcome: Outcome, numbers: range, training: Training, in_a_row: list[int]
) -> DivergenceError:
    """Return the error that names the tasks at fault in the last meta-batch, and their data where these are.

    Args:
        learner: the learner; left as it was.
        tasks: the last meta-batch.
        outcome: what came of it.
        numbers: the numbers of its tasks.
        training: the settings.
        in_a_row: the steps that were skipped, the first of which still has good weights.
    """
    weights = f"the weights are still those of step {in_a_row[0]}"
    faults = faults_of_data(tasks, numbers)
    if faults:
        return DivergenceError(
            f"the loss was not finite for {len(in_a_row)} steps in a row, and the data hold what is not finite: "
            f"{listed(faults)}, of the stream (seed {training.seed}, 'train'); leave such samples out, or fill "
            "them in; "
            f"{weights}"
        )
    for name, tensor in learner.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return DivergenceError(
                f"the loss was not finite for {len(in_a_row)} steps in a row, and {name!r} of the learner is not "
                "finite "
                "itself, as it was given: no step has moved it; build the network anew, or load other weights"
            )
    bad = [numbers[i] for i in torch.nonzero(~torch.isfinite(outcome.losses)).flatten().tolist()]
    what = "loss"
    if not bad:  # every loss is finite: look for the gradients that are not
        what, learner = "gradient", copy.deepcopy(learner)  # the probe must not touch the weights
        for group in tasks:
            for position, task in zip(group.positions, group, strict=True):
                if not _task_gradient_is_finite(learner, task):
                    bad.append(numbers[position])
    shown = ", ".join(map(str, bad[:10])) + (" and more" if len(bad) > 10 else "")
    named = (
        f"task {shown} of the stream (seed {training.seed}, 'train')" if bad else f"tasks {numbers[0]} to {numbers[-1]}"
    )
    seen = "" if any(group.collects for group in tasks) else ", whose data are finite"
    return DivergenceError(
        f"the {what} was not finite for {len(in_a_row)} steps in a row, last in {named}{seen}; "
        f"{weights}. Try a smaller inner learning rate, Clip(rule) for the inner gradient, or training.clip_norm "
        "for the "
        "outer one"
    )


def _task_gradient_is_finite(learner: Learner, task: Task) -> bool:
    learner.zero_grad(set_to_none=True)
    learner(task).loss.backward()
    return bool(torch.isfinite(gradient_norm([p.grad for p in learner.parameters() if p.grad is not None])))
