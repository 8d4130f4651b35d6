"""What a loss and a model may not do: change their input, or the parameters, in place."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fastadapt.errors import TaskError


@contextmanager
def unchanged(batch: Any, model: nn.Module | None) -> Iterator[None]:
    """Refuse a model or a loss that changes its input or its parameters in place.

    The next step, and the next task, would see other samples, and the user's own weights would change.

    Raises:
        TaskError: if a tensor of `batch` or a parameter of `model` was changed in the block.
    """
    inputs = [leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor) and not leaf.is_inference()]
    own = [] if model is None else [p for p in model.parameters() if not p.is_inference()]
    before = [leaf._version for leaf in inputs], [p._version for p in own]
    yield
    whose = "the model" if model is None else type(model).__name__
    if [leaf._version for leaf in inputs] != before[0]:
        raise changes_its_input(whose)
    if [p._version for p in own] != before[1]:
        raise TaskError(
            f"{whose} or the loss changes a parameter in place, which is the user's own weight; compute with a changed "
            "copy, as in w = self.weight.clamp(-1, 1)"
        )


def changes_its_input(whose: str) -> TaskError:
    """Return the sentence for a model that writes to what it is given."""
    return TaskError(
        f"{whose} or the loss changes its input in place, so that every further step sees other samples; write "
        "x = x + 1 in place of x += 1, or F.relu(x) in place of F.relu_(x)"
    )


def changed_in_place(error: RuntimeError) -> TaskError:
    """Return the sentence for what torch says of a tensor that was written to after a gradient had come to need it."""
    found = re.search(r"which is (output \d+ of \w+)", str(error))
    if found is None:  # nothing has computed it, so it was given
        return changes_its_input("the model")
    return TaskError(
        f"the model or the loss changes a result of its own in place, {found[1]}, which the gradient still needs; "
        "write h = h + 1 in place of h += 1, or F.relu(h) in place of F.relu_(h), or take a copy first, h.clone()"
    )
