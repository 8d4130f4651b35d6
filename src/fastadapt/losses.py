"""Losses of a task: `loss(model, batch) -> scalar`, with the metrics that go with them.

A loss is any function of a model with its parameters bound and a batch. The classes here unpack
`(x, y)` and also say what a person wants to read, which is optional for your own: `metrics(output, batch)`, a
dictionary of scalars of which the first is the headline, and `higher_is_better` for that one.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch.nn.functional as F
from torch import Tensor

from fastadapt.errors import ConfigError, TaskError

Reduction = Literal["mean", "sum_over_classes", "sum"]


class Loss(Protocol):
    """Compute the scalar loss of a model on one batch of one task."""

    def __call__(self, model: Any, batch: Any) -> Tensor:
        """Return a scalar tensor."""
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
        x, y = batch
        return self._error(model(x), y)

    higher_is_better: ClassVar[bool] = False

    def metrics(self, output: Tensor, batch: Any) -> dict[str, Tensor]:
        """Return `{"mse": ...}` of `output` against the targets."""
        return {"mse": self._error(output, batch[1])}

    @staticmethod
    def _error(output: Tensor, y: Tensor) -> Tensor:
        if output.shape != y.shape:
            raise TaskError(
                f"the model's output has shape {tuple(output.shape)} and the targets have {tuple(y.shape)}; "
                "give both the same shape, for example y.unsqueeze(1) for [K, 1]"
            )
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
        """Return the loss of `model` on `batch = (x: [n, ...], y: [n] of class indices)`."""
        x, y = batch
        logits = model(x)
        mean = F.cross_entropy(logits, y)
        if self.reduction == "sum_over_classes":
            return mean * logits.shape[-1]
        if self.reduction == "sum":
            return mean * y.numel()
        return mean

    def metrics(self, output: Tensor, batch: Any) -> dict[str, Tensor]:
        """Return `{"accuracy": ...}`, the share of rows whose largest logit is the label, in [0, 1]."""
        return {"accuracy": (output.argmax(-1) == batch[1]).to(output.dtype).mean()}


mse = MSE()
cross_entropy = CrossEntropy()


def as_loss(loss):
    return MSE() if loss is None else loss


def value_of(returned):
    if isinstance(returned, dict):
        rest = dict(returned)
        return rest.pop("loss"), rest
    if isinstance(returned, tuple):
        return returned[0], {}
    return returned, {}
