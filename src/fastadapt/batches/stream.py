"""A task that comes bit by bit: each chunk is to be predicted before it is learned from."""

from typing import Any

from torch import Tensor

from fastadapt.batches.leaves import first_tensor, map_tensors
from fastadapt.batches.meta_batch import Task
from fastadapt.errors import TaskError


class Stream(Task):
    """Hold a task as a stream of batches: a learner reads them one after another, a step on each.

    It is an ordinary task. Its support set is all chunks but the last, along an axis of their own, and its query is the
    last one. `TTT` learns to read it, judged on each chunk before it learns from it; every other method takes the
    chunks for one support set.

    Args:
        batches: a pytree of tensors `[J, n, ...]`, J >= 1 chunks, by default `(x, y)`.

    Raises:
        TaskError: if there is no such axis, or tensors have several lengths of it.

    Example:
        >>> import torch
        >>> stream = Stream((torch.zeros(28, 4, 64), torch.zeros(28, 4, 64)))
        >>> stream.support[0].shape, stream.query[0].shape
        (torch.Size([27, 4, 64]), torch.Size([4, 64]))
    """

    def __init__(self, batches: Any) -> None:
        sizes: set[Any] = set()
        map_tensors(lambda leaf: sizes.add(leaf.shape[0] if leaf.dim() else None), batches)
        if first_tensor(batches) is None or len(sizes) != 1 or sizes & {None, 0}:
            raise TaskError(
                "a stream needs tensors that share a leading axis of at least 1 chunk, [J, n, ...], got "
                f"{sorted(map(str, sizes)) or type(batches).__name__}; write Stream((x, y)) with stacked batches"
            )
        super().__init__(map_tensors(lambda leaf: leaf[:-1], batches), map_tensors(lambda leaf: leaf[-1], batches))


def chunk_of(support: Any, query: Any, j: int) -> Any:
    """Return chunk `j` of a stream, of which the support set has all but the last."""
    leaves: Tensor | None = first_tensor(support)
    assert leaves is not None
    return map_tensors(lambda leaf: leaf[j], support) if j < leaves.shape[0] else query
