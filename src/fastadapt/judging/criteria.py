"""What the losses of torch ask of their targets, as a table: torch broadcasts in silence and checks few values."""

import functools
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Criterion:
    """Say what a loss of torch takes beside the output.

    Args:
        targets: "classes", class indices or class probabilities; "indices", class indices alone; "numbers", one for
            each number of the output; "any", what is not known here.
        least: the smallest number that has a meaning, None where all have.
        most: the largest one.
        why: what the numbers are, for a message.
    """

    targets: str = "any"
    least: float | None = None
    most: float | None = None
    why: str = ""


_NUMBERS = Criterion("numbers")
_SHARES = Criterion("numbers", 0.0, 1.0, "targets of a binary cross-entropy are 0, 1 or a probability between them")
_SIGNS = Criterion("numbers", -1.0, 1.0, "targets of this loss are 1 and -1")
CRITERIA = {
    ("CrossEntropyLoss", "cross_entropy"): Criterion("classes"),
    ("NLLLoss", "nll_loss"): Criterion("indices"),
    ("MultiMarginLoss", "multi_margin_loss"): Criterion("indices"),
    ("MSELoss", "mse_loss"): _NUMBERS,
    ("L1Loss", "l1_loss"): _NUMBERS,
    ("SmoothL1Loss", "smooth_l1_loss"): _NUMBERS,
    ("HuberLoss", "huber_loss"): _NUMBERS,
    ("PoissonNLLLoss", "poisson_nll_loss"): _NUMBERS,
    ("KLDivLoss", "kl_div"): _NUMBERS,
    ("BCELoss", "binary_cross_entropy"): _SHARES,
    ("BCEWithLogitsLoss", "binary_cross_entropy_with_logits"): _SHARES,
    ("MultiLabelSoftMarginLoss", "multilabel_soft_margin_loss"): _SHARES,
    ("SoftMarginLoss", "soft_margin_loss"): _SIGNS,
    ("HingeEmbeddingLoss", "hinge_embedding_loss"): _SIGNS,
}
"""By the names of the module and of the function."""
_MODULES: dict[str, Criterion] = {module: takes for (module, _), takes in CRITERIA.items()}
_FUNCTIONS: dict[str, Criterion] = {function: takes for (_, function), takes in CRITERIA.items()}


def unwrapped(loss: Any) -> Any:
    """Return the function or the module that a `functools.partial` calls."""
    while isinstance(loss, functools.partial):
        loss = loss.func
    return loss


def criterion_of(loss: Any) -> Criterion:
    """Return what a loss asks of its targets; a class that is made on one of torch's asks the same.

    Example:
        >>> criterion_of(nn.HuberLoss()).targets, criterion_of(nn.functional.nll_loss).targets
        ('numbers', 'indices')
    """
    plain = unwrapped(loss)
    if isinstance(plain, nn.Module):
        known = [_MODULES[kind.__name__] for kind in type(plain).__mro__ if _is_known(kind)]
        return known[0] if known else Criterion()
    return _FUNCTIONS.get(getattr(plain, "__name__", ""), Criterion())


def ignored_index(loss: Any) -> int | None:
    """Return the class index that a loss leaves out, None where it does not say."""
    if isinstance(loss, functools.partial) and "ignore_index" in loss.keywords:
        return int(loss.keywords["ignore_index"])
    index = getattr(unwrapped(loss), "ignore_index", None)
    return None if index is None else int(index)


def _is_known(kind: type) -> bool:
    return kind.__module__.startswith("torch.") and kind.__name__ in _MODULES
