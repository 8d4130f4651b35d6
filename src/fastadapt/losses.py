"""Losses of a task: `loss(model, batch) -> scalar`, with the metrics that go with them.

A loss is any function of a model with its parameters bound and a batch. The classes here unpack
`(x, y)` and also say what a person wants to read, which is optional for your own: `metrics(output, batch)`, a
dictionary of scalars of which the first is the headline, and `higher_is_better` for that one. How torch's own losses
are taken, and what a loss may return, stands in `fastadapt.torch_losses`.
"""

import functools
from dataclasses import dataclass, is_dataclass
from types import BuiltinFunctionType
from typing import Any, ClassVar, Literal, Protocol

import torch.nn.functional as F
from torch import Tensor

from fastadapt.errors import ConfigError, TaskError

Reduction = Literal["mean", "sum_over_classes", "sum"]


class Loss(Protocol):
    """Compute the scalar loss of a model on one batch of one task."""

    def __call__(self, model: Any, batch: Any, /) -> Any:
        """Return a scalar tensor; with metrics beside it a mapping with "loss", or a tuple that begins with it."""
        ...


@dataclass(frozen=True)
class MSE:
    """Compute the mean squared error over points and outputs, `mean (f(x) - y)^2`.

    Example:
        >>> import torch
        >>> MSE()(torch.nn.Identity(), (torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [3.0]])))
        tensor(0.5000)
    """

    def __call__(self, model: Any, batch: Any) -> Tensor:
        """Return the loss of `model` on `batch = (x: [K, ...], y: [K, ...])`.

        Raises:
            TaskError: if output and targets have different shapes, which would be broadcast in silence.
        """
        x, y = pair(batch, self)
        return self._error(model(x), y)

    higher_is_better: ClassVar[bool] = False

    def metrics(self, output: Tensor, batch: Any) -> dict[str, Tensor]:
        """Return `{"mse": ...}` of `output` against the targets."""
        return {"mse": self._error(output, batch[1])}

    @staticmethod
    def _error(output: Tensor, y: Tensor) -> Tensor:
        check_same_shape(output, y)
        return F.mse_loss(output, y)


@dataclass(frozen=True)
class ScaledMSE(MSE):
    """Compute the mean squared error of a standardised target; its metric is in the target's own units.

    Args:
        scale: the standard deviation that the target was divided by, > 0.

    Example:
        >>> import torch
        >>> y, output = torch.zeros(2, 1), torch.ones(2, 1)
        >>> ScaledMSE(10.0).metrics(output, (None, y))
        {'mse': tensor(100.)}
    """

    scale: float = 1.0

    def metrics(self, output: Tensor, batch: Any) -> dict[str, Tensor]:
        """Return `{"mse": ...}`, `scale^2` times the squared error of the standardised target."""
        return {"mse": self.scale**2 * self._error(output, batch[1])}


@dataclass(frozen=True)
class CrossEntropy:
    """Compute the softmax cross-entropy of class indices, with the reduction spelled out.

    Codes differ in the scale of this loss, and with a fixed inner learning rate the scale matters.
    For `n` examples of `N` classes:

    * "mean": `(1/n) sum CE` (what most PyTorch code uses);
    * "sum_over_classes": `(N/n) sum CE`, which is what the original MAML code differentiates in the
      inner loop (per-example losses summed, divided by the shots `K = n/N`);
    * "sum": `sum CE` (the original Reptile code).

    `("sum_over_classes", alpha)` and `("mean", N * alpha)` give identical adapted weights.

    Raises:
        ConfigError: for an unknown reduction.

    Example:
        >>> import torch
        >>> logits, y = torch.zeros(4, 2), torch.tensor([0, 1, 0, 1])
        >>> [round(float(CrossEntropy(r)(torch.nn.Identity(), (logits, y))), 4)
        ...  for r in ("mean", "sum_over_classes", "sum")]
        [0.6931, 1.3863, 2.7726]

    References:
        Finn, Abbeel, Levine 2017 (arXiv:1703.03400) and its public code.
    """

    reduction: Reduction = "mean"
    higher_is_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.reduction not in ("mean", "sum_over_classes", "sum"):
            raise ConfigError(f"reduction must be 'mean', 'sum_over_classes' or 'sum', got {self.reduction!r}")

    def __call__(self, model: Any, batch: Any) -> Tensor:
        """Return the loss of `model` on `batch = (x: [n, ...], y: [n] of class indices)`.

        As in torch, classes are axis 1 of the output `[n, N, ...]`, the labels are `[n, ...]` of class indices or
        `[n, N, ...]` of class probabilities, and the index -100 is left out.
        """
        x, y = pair(batch, self)
        logits = model(x)
        mean = F.cross_entropy(logits, y)
        classes = logits.shape[_class_axis(logits)]
        if self.reduction == "sum_over_classes":
            return mean * classes
        if self.reduction == "sum":
            return mean * (y.numel() // classes if y.is_floating_point() else y.numel())
        return mean

    def metrics(self, output: Tensor, batch: Any) -> dict[str, Tensor]:
        """Return `{"accuracy": ...}`, the share of labels that are the largest logit, in [0, 1].

        Raises:
            TaskError: if the labels have neither the shape of class indices nor that of class probabilities.
        """
        return {"accuracy": accuracy(output, batch[1])}


def _class_axis(output: Tensor) -> int:
    return 1 if output.dim() > 1 else 0


def accuracy(output: Tensor, y: Tensor, ignored: int = -100) -> Tensor:
    """Return the share of labels that are the class with the largest output, in [0, 1].

    Args:
        output: `[n, N, ...]`, or `[N]` for one example; classes are axis 1, as torch has them.
        y: `[n, ...]` class indices, or `[n, N, ...]` class probabilities, of which the largest is the label.
        ignored: the index that does not count.

    Raises:
        TaskError: for labels of another shape, which would be broadcast in silence.

    Example:
        >>> import torch
        >>> output = torch.tensor([[2.0, 1.0], [0.0, 1.0]])
        >>> accuracy(output, torch.tensor([0, 0])), accuracy(output, torch.eye(2))
        (tensor(0.5000), tensor(1.))
    """
    axis = _class_axis(output)
    answer = output.argmax(axis)
    if y.is_floating_point() and y.shape == output.shape:
        return (answer == y.argmax(axis)).to(output.dtype).mean()
    if y.shape != answer.shape or y.is_floating_point():
        raise TaskError(
            f"the model's output has shape {tuple(output.shape)}, classes being axis {axis}, and the labels have "
            f"{tuple(y.shape)} of {y.dtype}; give class indices {tuple(answer.shape)} of torch.long, or class "
            f"probabilities of the output's shape"
        )
    counts = y != ignored
    return ((answer == y) & counts).to(output.dtype).sum() / counts.to(output.dtype).sum()


def check_same_shape(output: Tensor, y: Tensor) -> None:
    """Raise `TaskError` unless output and targets have one shape; torch would broadcast them in silence."""
    if output.shape != y.shape:
        raise TaskError(
            f"the model's output has shape {tuple(output.shape)} and the targets have {tuple(y.shape)}; "
            "give both the same shape, for example y.unsqueeze(1) for [K, 1]"
        )


def pair(batch: Any, loss: Any) -> tuple[Any, Any]:
    """Return `x` and `y` of a batch.

    Raises:
        TaskError: if it is no pair.
    """
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        return batch[0], batch[1]
    of = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
    raise TaskError(
        f"the loss {called(loss)} takes a batch (x, y), got {type(batch).__name__}{of}; write a function "
        "loss(model, batch) -> scalar for batches of another form"
    )


def called(loss: Any) -> str:
    """Return what a loss is called: a dataclass or a loss of torch with its settings, otherwise its name.

    Example:
        >>> from functools import partial
        >>> called(MSE()), called(F.mse_loss), called(partial(F.cross_entropy, label_smoothing=0.1))
        ('MSE()', 'mse_loss', 'cross_entropy(label_smoothing=0.1)')
    """
    if isinstance(loss, functools.partial):
        return f"{called(loss.func)}({', '.join(f'{k}={v!r}' for k, v in loss.keywords.items())})"
    told = getattr(loss, "called", None)
    if isinstance(told, str):
        return told
    if isinstance(loss, BuiltinFunctionType):  # torch's own, whose long name is of no use
        return loss.__name__
    return repr(loss) if is_dataclass(loss) else getattr(loss, "__qualname__", type(loss).__qualname__)


mse = MSE()
cross_entropy = CrossEntropy()
