"""The tasks of a method that predicts numbers in closed form: looked at before anything is computed."""

from typing import Any

from torch import Tensor

from fastadapt.errors import TaskError
from fastadapt.learner import MetaBatch
from fastadapt.methods.episodes import Episode
from fastadapt.tasks import as_groups


def amounts_of(tasks: MetaBatch, outputs: int, method: str) -> list[Episode]:
    """Return the tasks of a meta-batch in the order in which they were given; their `ways` are 0.

    Args:
        tasks: any form of a meta-batch.
        outputs: numbers to be predicted for a sample.
        method: the name of the method, for messages.

    Raises:
        TaskError: for a task that is none of numbers.
    """
    found: dict[int, Episode] = {}
    for group in as_groups(tasks):
        if not group.stacked:
            what = "a Collector" if group.collects else "an object of data"
            raise TaskError(f"{method} takes samples in tensors (x, y), and a task has {what}; choose MAML for it")
        (x, y), (xq, yq) = (amounts(getattr(group, side), outputs, method, side, 1) for side in ("support", "query"))
        for i, position in enumerate(group.positions):
            found[position] = Episode(x[i], y[i], xq[i], yq[i], 0)
    return [found[position] for position in sorted(found)]


def amounts(batch: Any, outputs: int, method: str, side: str, axis: int = 0) -> tuple[Tensor, Tensor]:
    """Return samples and numbers of a batch whose rows are along `axis`.

    Raises:
        TaskError: if it is not one of numbers, `outputs` for each sample.
    """
    pair = isinstance(batch, (tuple, list)) and len(batch) == 2
    if not pair or not isinstance(batch[0], Tensor) or not isinstance(batch[1], Tensor):
        raise TaskError(
            f"{method} needs a {side} set (x, y) of two tensors, samples and numbers, got a {type(batch).__name__}; "
            "choose MAML for batches of another form"
        )
    x, y = batch
    if not y.is_floating_point():
        raise TaskError(
            f"{method} predicts numbers, and the {side} targets are of {y.dtype}; choose RidgeHead for classes, and "
            "write y.float() for amounts"
        )
    rows = x.shape[axis] if x.dim() > axis else 0
    if y.dim() != axis + 2 or y.shape[-1] != outputs or y.shape[axis] != rows:
        raise TaskError(
            f"the {side} targets must be [{rows}, {outputs}], {outputs} for each of the {rows} samples, got "
            f"{list(y.shape[axis:])}{'; write y[:, None]' * (y.dim() == axis + 1)}"
        )
    return x, y
