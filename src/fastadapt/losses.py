"""Losses of a task: `loss(model, batch) -> scalar`, with the metrics that go with them.

A loss is any function of a model with its parameters bound and a batch. The classes here unpack
`(x, y)` and also say what a person wants to read, which is optional for your own: `metrics(output, batch)`, a
dictionary of scalars of which the first is the headline, and `higher_is_better` for that one. `as_loss` takes a loss of
two tensors, as torch has them (`nn.CrossEntropyLoss()`, `F.mse_loss`), as one of `(model(x), y)`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from fastadapt.errors import ConfigError, TaskError
from fastadapt.judging.criteria import criterion_of, ignored_index, unwrapped
from fastadapt.judging.labels import (
    IGNORED,
    Fault,
    accuracy,
    as_labels,
    class_axis,
    fault_in_classes,
    fault_in_range,
    told,
)
from fastadapt.judging.loss_values import as_numbers, called, check_same_shape, check_tensors, pair
from fastadapt.judging.loss_values import value_of as value_of
from fastadapt.judging.signatures import is_of_torch, needed_arguments

FIRST = {
    *("input", "inputs", "pred", "preds", "prediction", "predictions", "predicted", "output", "outputs", "logits"),
    *("log_probs", "log_input", "y_pred", "y_hat", "yhat", "y_preds"),
}
SECOND = {
    *("target", "targets", "label", "labels", "y", "y_true", "true", "truth", "ground_truth", "gt", "expected"),
}
"""What the two tensors of a loss in the manner of torch are called; a loss of ours has (model, batch)."""
RANKS = (nn.CrossEntropyLoss, nn.NLLLoss)
"""Of which the largest output is the answer."""
WRITE = "write a function loss(model, batch) -> scalar"
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
        output = model(x)
        check_tensors(output, y, self)
        return self._error(output, y)

    higher_is_better: ClassVar[bool] = False

    def metrics(self, output: Tensor, batch: Any) -> dict[str, Tensor]:
        """Return `{"mse": ...}` of `output` against the targets."""
        return {"mse": self._error(output, batch[1])}

    @staticmethod
    def _error(output: Tensor, y: Tensor) -> Tensor:
        check_same_shape(output, y)
        return F.mse_loss(output, as_numbers(output, y))


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
class PSNR(MSE):
    """Compute the mean squared error of values 0..peak; its metric is the peak signal-to-noise ratio in decibels.

        PSNR = 10 log10(peak^2 / mse)

    A mean over tasks is the mean of their ratios, which is higher than the ratio of the mean error.

    Args:
        peak: the largest value that there can be, > 0.

    Raises:
        ConfigError: for another peak.

    Example:
        >>> import torch
        >>> y = torch.zeros(4, 3)
        >>> round(float(PSNR().metrics(y + 0.1, (None, y))["psnr"]), 3)
        20.0
    """

    peak: float = 1.0
    higher_is_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.peak < float("inf"):
            raise ConfigError(f"peak is the largest value of a signal and must be finite and > 0, got {self.peak}")

    def metrics(self, output: Tensor, batch: Any) -> dict[str, Tensor]:
        """Return `{"psnr": ...}` in dB of `output` against the targets; infinite where they are equal."""
        return {"psnr": 10 * (self.peak**2 / self._error(output, batch[1])).log10()}


@dataclass(frozen=True)
class SNR(MSE):
    """Compute the mean squared error; its metric is the signal-to-noise ratio in decibels.

        SNR = 10 log10(sum y^2 / sum (f(x) - y)^2)

    0 dB is what silence reaches. A target that is silent has none: the ratio is -infinity, or not a number.

    Example:
        >>> import torch
        >>> y = torch.ones(4, 1)
        >>> round(float(SNR().metrics(y + 0.1, (None, y))["snr"]), 3)
        20.0
    """

    higher_is_better: ClassVar[bool] = True

    def metrics(self, output: Tensor, batch: Any) -> dict[str, Tensor]:
        """Return `{"snr": ...}` in dB of `output` against the targets."""
        error = self._error(output, batch[1])
        return {"snr": 10 * (as_numbers(output, batch[1]).square().mean() / error).log10()}


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
        `[n, N, ...]` of class probabilities, and the index -100 is left out. Whole numbers of any type will do.

        Raises:
            TaskError: for labels of another shape, or outside the classes of the output.
        """
        x, y = pair(batch, self)
        logits = model(x)
        check_tensors(logits, y, self)
        y = as_labels(logits, y)
        with told(logits, y):
            mean = F.cross_entropy(logits, y)
        classes = logits.shape[class_axis(logits)]
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

    def fault(self, shape: Sequence[int], y: Tensor) -> Fault | None:
        """Return what is wrong with the values of labels for an output of `shape`, see `OnOutput.fault`."""
        return fault_in_classes(shape, y)


@dataclass(frozen=True)
class SymbolErrors(CrossEntropy):
    """Compute the cross-entropy of symbols; its metric is the share of those that are told wrong.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
        >>> SymbolErrors().metrics(logits, (None, torch.tensor([0, 1])))
        {'symbol error rate': tensor(0.5000)}
    """

    higher_is_better: ClassVar[bool] = False

    def metrics(self, output: Tensor, batch: Any) -> dict[str, Tensor]:
        """Return `{"symbol error rate": ...}`, the share of labels that are not the largest logit, in [0, 1]."""
        return {"symbol error rate": 1 - accuracy(output, batch[1])}


@dataclass(frozen=True)
class BitsPerCharacter(CrossEntropy):
    """Compute the cross-entropy of the next character; its metric is the same in bits.

        bits per character = cross-entropy / ln 2

    A model that takes all characters for equally likely has log2 of their number: 6.81 for 112.

    Example:
        >>> import torch
        >>> BitsPerCharacter().metrics(torch.zeros(2, 8, 5), (None, torch.zeros(2, 5, dtype=torch.long)))
        {'bits per character': tensor(3.0000)}
    """

    higher_is_better: ClassVar[bool] = False

    def metrics(self, output: Tensor, batch: Any) -> dict[str, Tensor]:
        """Return `{"bits per character": ...}`, the mean over all of them."""
        return {"bits per character": F.cross_entropy(output, as_labels(output, batch[1])) / math.log(2)}


class OnOutput(nn.Module):
    """Apply a loss of two tensors to `(model(x), y)`, for batches `(x, y)`.

    It is a module, so that the weights and parameters of the loss move and learn with the learner.

    Args:
        criterion: `criterion(output, y) -> scalar`: a module, or a function of torch.

    Example:
        >>> import torch
        >>> loss = OnOutput(nn.MSELoss())
        >>> loss(nn.Identity(), (torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [3.0]])))
        tensor(0.5000)
        >>> loss.called
        "MSELoss(reduction='mean')"
    """

    def __init__(self, criterion: Callable[..., Tensor]) -> None:
        super().__init__()
        self.criterion = criterion
        name = getattr(unwrapped(criterion), "__name__", "")
        self._takes = criterion_of(criterion)
        self._squared = isinstance(unwrapped(criterion), nn.MSELoss) or name == "mse_loss"
        self._classes = isinstance(unwrapped(criterion), RANKS) or name in ("cross_entropy", "nll_loss")
        self.higher_is_better = self._classes

    @property
    def called(self) -> str:
        """The name of the criterion, with its settings."""
        if not isinstance(self.criterion, nn.Module):
            return called(self.criterion)
        names = sorted(getattr(self.criterion, "__constants__", ()))
        return f"{type(self.criterion).__name__}({', '.join(f'{n}={getattr(self.criterion, n)!r}' for n in names)})"

    def forward(self, model: Any, batch: Any) -> Tensor:
        """Return the criterion of `model(x)` and `y`.

        Raises:
            TaskError: if the batch is no pair, the model returns no tensor, or the two would be broadcast.
        """
        x, y = pair(batch, self)
        output = model(x)
        if not isinstance(output, Tensor):
            raise TaskError(
                f"the loss {self.called} is applied to (model(x), y), and the model returned a {type(output).__name__} "
                f"instead of a tensor; {WRITE} that takes what it needs from it"
            )
        if self._takes.targets != "any":
            check_tensors(output, y, self)
        if self._takes.targets == "numbers":
            check_same_shape(output, y)
            y = as_numbers(output, y)
        elif self._takes.targets != "any":
            y = as_labels(output, y, probabilities=self._takes.targets == "classes")
            with told(output, y, self._ignored):
                return self.criterion(output, y)
        return self.criterion(output, y)

    def metrics(self, output: Tensor, batch: Any) -> dict[str, Tensor]:
        """Return the accuracy of a cross-entropy, the mean squared error of a squared error, and nothing otherwise."""
        if self._classes:
            return {"accuracy": accuracy(output, batch[1], self._ignored)}
        return {"mse": F.mse_loss(output, as_numbers(output, batch[1]))} if self._squared else {}

    def fault(self, shape: Sequence[int], y: Tensor) -> Fault | None:
        """Return what is wrong with the values of targets, whose shape fits.

        Args:
            shape: of the output, `(n, ...)`.
            y: the targets `[n, ...]`, outside of any transform of torch, as values are looked at.
        """
        takes = self._takes
        if takes.targets in ("classes", "indices"):
            return fault_in_classes(shape, y, self._ignored)
        if takes.least is None or takes.most is None:
            return None
        return fault_in_range(y, takes.least, takes.most, takes.why)

    @property
    def _ignored(self) -> int:
        index = ignored_index(self.criterion)
        return IGNORED if index is None else index


def as_loss(loss: Any) -> Loss:
    """Return a loss `loss(model, batch) -> scalar` of what a user gave as one.

    Args:
        loss: None for the mean squared error; a loss of ours or any `loss(model, batch)`, which stay as they are; or a
            loss of two tensors, which is applied to `(model(x), y)`: the modules and functions of torch, and those
            whose two arguments have the names that torch gives them (`input`, `target` and the like).

    Raises:
        ConfigError: if it is a class, a text or anything else that can't be called, or takes more than two tensors.

    Example:
        >>> as_loss(None), as_loss(F.cross_entropy).called
        (MSE(), 'cross_entropy')
    """
    if loss is None:
        return MSE()
    if isinstance(loss, type):
        raise ConfigError(f"loss={loss.__name__} is a class, and a loss is one of its objects; write {loss.__name__}()")
    if not callable(loss):
        raise ConfigError(
            f"loss={loss!r} is a {type(loss).__name__} and can't be called; "
            f"{WRITE}, or give one of torch's such as nn.MSELoss()"
        )
    usable: Any = loss
    if isinstance(loss, OnOutput):
        return usable
    needed = needed_arguments(loss)
    named = needed is not None and len(needed) == 2 and needed[0].lower() in FIRST and needed[1].lower() in SECOND
    if needed == ["embeddings"] and isinstance(loss, nn.Module):  # the losses of metric learning, labels behind it
        return OnOutput(usable)
    if not (named or is_of_torch(loss)) or (needed and needed[0] in ("model", "learner", "net", "network")):
        return usable
    if needed is not None and len(needed) != 2:
        raise ConfigError(
            f"loss={called(loss)} takes {len(needed)} arguments ({', '.join(needed)}), and a loss of torch is applied "
            f"to the two tensors (model(x), y); {WRITE} that calls it"
        )
    return OnOutput(usable)


mse = MSE()
cross_entropy = CrossEntropy()
