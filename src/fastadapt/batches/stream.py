"""A task that comes bit by bit: each chunk is to be predicted before it is learned from."""

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fastadapt.batches.leaves import first_tensor, map_tensors
from fastadapt.batches.meta_batch import Task
from fastadapt.errors import TaskError


class Stream(Task):
    """Hold a task as a stream of batches: a learner reads them one after another, a step on each.

    It is an ordinary task. Its support set is all chunks but the last, along an axis of their own, and its query is the
    last one. `TTT` learns to read it, judged on each chunk before it learns from it; every other method takes the
    chunks for one support set, and refuses classes as labels, which then have an axis more than the query's.

    Args:
        batches: a pytree of tensors `[J, n, ...]`, J >= 1 chunks, by default `(x, y)`; or a list of J batches
            `[(x_1, y_1), ...]` of equal shapes.

    Raises:
        TaskError: if there is no such axis, tensors have several lengths of it, or batches are of several forms.

    Example:
        >>> import torch
        >>> stream = Stream((torch.zeros(28, 4, 64), torch.zeros(28, 4, 64)))
        >>> stream.support[0].shape, stream.query[0].shape
        (torch.Size([27, 4, 64]), torch.Size([4, 64]))
    """

    def __init__(self, batches: Any) -> None:
        if isinstance(batches, list) and batches and not all(isinstance(batch, Tensor) for batch in batches):
            batches = _stacked(batches)
        sizes: set[Any] = set()
        map_tensors(lambda leaf: sizes.add(leaf.shape[0] if leaf.dim() else None), batches)
        if first_tensor(batches) is None or len(sizes) != 1 or sizes & {None, 0}:
            raise TaskError(
                "a stream needs tensors that share a leading axis of at least 1 chunk, [J, n, ...], got "
                f"{sorted(map(str, sizes)) or type(batches).__name__}; write Stream((x, y)) with stacked batches"
            )
        super().__init__(map_tensors(lambda leaf: leaf[:-1], batches), map_tensors(lambda leaf: leaf[-1], batches))


def _stacked(batches: list[Any]) -> Any:
    """Return a list of batches as one, along an axis of their own."""
    forms = {str(pytree.tree_structure(batch)) for batch in batches}
    leaves = [pytree.tree_leaves(batch) for batch in batches]
    if not all(isinstance(leaf, Tensor) for batch in leaves for leaf in batch):
        raise TaskError("the batches of a stream hold something that is no tensor; write Stream([(x_1, y_1), ...])")
    shapes = {str([tuple(leaf.shape) for leaf in batch]) for batch in leaves}
    if len(forms) != 1 or len(shapes) != 1:
        raise TaskError(
            f"the batches of a stream have {len(forms)} forms and {len(shapes)} sets of shapes; give all the same: "
            "a stream is cut into chunks of equal length, and what is left over goes"
        )
    return pytree.tree_map(
        lambda *leaves: torch.stack(leaves) if isinstance(leaves[0], Tensor) else leaves[0], *batches
    )


def chunk_of(support: Any, query: Any, j: int) -> Any:
    """Return chunk `j` of a stream, of which the support set has all but the last."""
    leaves: Tensor | None = first_tensor(support)
    assert leaves is not None
    return map_tensors(lambda leaf: leaf[j], support) if j < leaves.shape[0] else query
