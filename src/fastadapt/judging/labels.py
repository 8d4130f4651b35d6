"""Labels of classes: in which forms they fit an output, how often it is right, and what is wrong with the others.

Two questions are asked apart. Whether the shapes fit is known wherever a loss is computed, also inside
`torch.func.vmap` and in a compiled program. Whether the values do can only be read from the tasks themselves, so
that is looked at outside.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from fastadapt.errors import TaskError

IGNORED = -100
"""The class index that torch leaves out."""
_TOLERANCE = 0.02
"""How far class probabilities may sum beside 1: those of bfloat16 have three digits."""


@dataclass(frozen=True)
class Fault:
    """Hold what is wrong with labels, and in which row.

    Args:
        row: the first row that is wrong.
        text: what is wrong and what to do, to be put behind "the label of row 3".
    """

    row: int
    text: str


def class_axis(output: Tensor) -> int:
    """Return which axis of an output the classes are, as torch has it."""
    return 1 if output.dim() > 1 else 0


def as_labels(output: Tensor, y: Tensor, probabilities: bool = True) -> Tensor:
    """Return labels in the form in which torch takes them: class indices of `torch.long`, or class probabilities.

    Args:
        output: `[n, N, ...]`, or `[N]` for one example; classes are axis 1, as torch has them, and at least two.
        y: `[n, ...]` class indices of any whole type or bool, or `[n, N, ...]` class probabilities, one-hot whole
            numbers included.
        probabilities: whether the loss takes these.

    Returns:
        `y` itself, or converted without a loss.

    Raises:
        TaskError: for labels of another shape, which would be broadcast in silence or are taken for something else.

    Example:
        >>> as_labels(torch.zeros(2, 3), torch.tensor([2, 0], dtype=torch.int32))
        tensor([2, 0])
        >>> as_labels(torch.zeros(2, 3), torch.tensor([[0, 0, 1], [1, 0, 0]]))
        tensor([[0., 0., 1.],
                [1., 0., 0.]])
    """
    whole = not (y.is_floating_point() or y.is_complex())
    axis = class_axis(output)
    indices = (*output.shape[:axis], *output.shape[axis + 1 :])
    one = output.dim() == 1 and y.dim() == 1  # one number for each sample, of which torch makes one sample of n classes
    if output.dim() and output.shape[axis] > 1 and not one:
        if tuple(y.shape) == indices and whole:
            return y.long()
        if y.shape == output.shape and probabilities and not y.is_complex():
            return y.to(output.dtype) if whole else y
    raise TaskError(
        f"the model's output has shape {tuple(output.shape)}, classes being axis {axis}, and the labels have "
        f"{tuple(y.shape)} of {y.dtype}{_range(y)}; {_cure(output, y, axis, indices, whole, probabilities)}"
    )


def _range(y: Tensor) -> str:
    """Return from where to where labels go, where that can be seen."""
    if _wrapped(y) or y.is_complex() or not y.numel() or y.device.type != "cpu":
        return ""
    low, high = (float(value) for value in torch.aminmax(y.double()))
    return f" from {low:g} to {high:g}"


def _cure(output: Tensor, y: Tensor, axis: int, indices: tuple[int, ...], whole: bool, probabilities: bool) -> str:
    """Return what to do about labels that don't fit."""
    if output.dim() == 0 or output.shape[axis] == 1 or (output.dim() == 1 and y.dim() == 1):
        return (
            "a cross-entropy needs a number for each class, at least 2; give the network as many outputs, or take "
            "nn.BCEWithLogitsLoss() for one number that says yes or no"
        )
    if output.dim() > 1 and y.dim() and len(output) != len(y):
        return f"give a label for each of the {len(output)} samples, and not {len(y)}"
    if tuple(y.shape) == indices:
        return f"class indices are whole numbers; write y.long() if these are 0..{output.shape[axis] - 1}"
    if tuple(y.shape) == (*indices, 1) and indices:
        return f"class indices {indices} have no axis of their own; write y.squeeze(-1){'' if whole else '.long()'}"
    if tuple(y.shape) == (*output.shape[:axis], 1, *output.shape[axis + 1 :]):
        return f"class indices {indices} have no axis of classes; write y.squeeze({axis}){'' if whole else '.long()'}"
    if output.dim() > 2 and y.shape == output.shape[:-1]:
        return "the classes of this output seem to be its last axis; return output.movedim(-1, 1) from the network"
    if y.dim() == output.dim() and y.shape[:axis] == output.shape[:axis] and y.shape[axis] > 1:
        return (
            f"labels of {y.shape[axis]} classes need an output of {y.shape[axis]}, and this one has "
            f"{output.shape[axis]}; give the network as many outputs as there are classes"
        )
    or_else = ", or class probabilities of the output's shape" if probabilities else ""
    return f"give class indices {indices} of torch.long{or_else}"


def fault_in_classes(shape: Sequence[int], y: Tensor, ignored: int = IGNORED) -> Fault | None:
    """Return what is wrong with the values of labels that have a shape that fits, None where nothing is.

    Args:
        shape: of the output, `(n, N, ...)`.
        y: class indices `[n, ...]`, in 0..N-1 or `ignored`; or class probabilities `[n, N, ...]`, which are >= 0 and
            sum to 1.
        ignored: the index that does not count.

    Example:
        >>> fault_in_classes((3, 5), torch.tensor([1, 5, 2])).text
        'is 5, and the classes of an output of shape (3, 5) are 0..4 (the labels are 1..5); count them from 0, y - 1'
    """
    count = shape[1]
    if y.dim() == len(shape):
        return _fault_in_probabilities(y)
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool or not y.numel():
        return None
    y = y.long()
    low, high = (int(value) for value in torch.aminmax(y))
    if low >= 0 and high < count:
        return None
    wrong = (y != ignored) & ((y < 0) | (y >= count))
    if not bool(wrong.any()):
        return None
    row = _first_row(wrong)
    counted = y[y != ignored]
    low, high = int(counted.min()), int(counted.max())
    if low == 1 and high == count:
        cure = "count them from 0, y - 1"
    elif low < 0:
        cure = f"number classes from 0; {ignored} marks a sample that does not count"
    else:
        cure = f"number classes from 0, or give the network {high + 1} outputs"
    value = int(y[row].flatten()[wrong[row].flatten()][0])
    return Fault(
        row,
        f"is {value}, and the classes of an output of shape {tuple(shape)} are 0..{count - 1} (the labels are "
        f"{low}..{high}); {cure}",
    )


def _fault_in_probabilities(y: Tensor) -> Fault | None:
    y = y.detach().to(torch.float64 if y.dtype == torch.float64 else torch.float32)
    sums, least = y.sum(1), y.amin(1)
    wrong = ((sums - 1).abs() > _TOLERANCE) | (least < 0)
    if not bool(wrong.any()):
        return None
    row = _first_row(wrong)
    place = wrong[row].flatten().nonzero()[0, 0]
    total, least = float(sums[row].flatten()[place]), float(least[row].flatten()[place])
    said = f"has {least:.4g} in it" if least < 0 else f"sums to {total:.4g}"
    return Fault(
        row,
        f"is a row of {y.shape[1]} numbers that {said}, and class probabilities are >= 0 and sum to 1; take "
        "nn.BCEWithLogitsLoss() where a sample has several classes, or a function loss(model, batch) of your own",
    )


def fault_in_range(y: Tensor, low: float, high: float, why: str) -> Fault | None:
    """Return the first row of targets `[n, ...]` that is outside `low..high`; what is no number is not judged here."""
    wrong = (y < low) | (y > high)
    if not bool(wrong.any()):
        return None
    row = _first_row(wrong)
    value = float(y[row].flatten()[wrong[row].flatten()][0])
    return Fault(row, f"is {value:.4g}, and {why}")


def _first_row(wrong: Tensor) -> int:
    return int(wrong.flatten(1).any(1).nonzero()[0, 0]) if wrong.dim() > 1 else int(wrong.nonzero()[0, 0])


@contextmanager
def told(output: Tensor, y: Tensor, ignored: int = IGNORED) -> Iterator[None]:
    """Say which label is outside the classes, where torch finds one and does not say whose it is."""
    try:
        yield
    except (IndexError, RuntimeError) as error:
        if "weight tensor" in str(error):  # of the loss, which has one for each class
            raise TaskError(f"{str(error).splitlines()[0]}; give the loss a weight for each output") from None
        if "out of bounds" not in str(error):
            raise
        fault = None
        if not (_wrapped(output) or _wrapped(y)):
            shape = tuple(output.shape) if output.dim() > 1 else (1, *output.shape)
            fault = fault_in_classes(shape, y if output.dim() > 1 else y.reshape(1), ignored)
        axis = class_axis(output)
        raise TaskError(
            f"the label of row {fault.row} {fault.text}"
            if fault is not None
            else f"a label is outside 0..{output.shape[axis] - 1}, the classes of an output of shape "
            f"{tuple(output.shape)}; number classes from 0"
        ) from None


def _wrapped(tensor: Tensor) -> bool:
    return torch._C._functorch.is_functorch_wrapped_tensor(tensor)  # type: ignore[attr-defined]


def accuracy(output: Tensor, y: Tensor, ignored: int = IGNORED) -> Tensor:
    """Return the share of labels that are the class with the largest output, in [0, 1].

    Args:
        output: `[n, N, ...]`, or `[N]` for one example; classes are axis 1, as torch has them.
        y: `[n, ...]` class indices, or `[n, N, ...]` class probabilities, of which the largest is the label.
        ignored: the index that does not count.

    Raises:
        TaskError: for labels of another shape, which would be broadcast in silence.

    Example:
        >>> output = torch.tensor([[2.0, 1.0], [0.0, 1.0]])
        >>> accuracy(output, torch.tensor([0, 0])), accuracy(output, torch.eye(2))
        (tensor(0.5000), tensor(1.))
    """
    axis = class_axis(output)
    y, answer = as_labels(output, y), output.argmax(axis)
    if y.is_floating_point():
        return (answer == y.argmax(axis)).to(output.dtype).mean()
    counts = y != ignored
    return ((answer == y) & counts).to(output.dtype).sum() / counts.to(output.dtype).sum()
