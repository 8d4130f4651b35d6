"""One member of the zoo: what a person wrote, and its twin written out by hand."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def fitted(model, batch):
    return F.mse_loss(model(batch[0]), batch[1])


def squared(output, y):
    return ((output - y) * (output - y)).mean()


def rows(*shape):
    """Return a function that draws `n` tensors of a shape."""
    return lambda n: torch.randn(n, *shape)


@dataclass(frozen=True)
class Specimen:
    """Hold a module with its loss, the same written out, and what may be asked of it.

    Args:
        build: makes the module.
        twin: `twin(p, x)`, its output from a dictionary of its parameters and buffers in the order of
            `named_parameters()` and `named_buffers()`.
        inputs, targets: draw `n` of them.
        loss: the loss that the learner gets.
        loss_of: makes it from the module instead.
        error: `error(output, y)`, the loss of the twin's output, written out.
        objective: `objective(p, batch)`, written out, where the loss is no function of output and targets.
        judged: the same in evaluation, where it differs.
        extras: `extras(loss)`, tensors beside the module's that get a gradient, by the names that the twin reads.
        displaced: whether Reptile takes it: what is learned beside the network would get no displacement.
        after: is done to the module after the learner was built.
        settings: further settings of the learner.
        moves: says by its name whether a trainable parameter is adapted.
        answers: whether the predictor's answer is compared with the twin's output; else it isn't a tensor.
        exact, first_order: "right"; "refused" by a `FastadaptError`; or "either" of the two; None is not tried.
        says: what a refusal has to name.
        also: settings tried in the default suite, as `(steps, rule, order, route)`.
    """

    build: Callable[[], nn.Module]
    twin: Callable[[dict[str, Tensor], Any], Any] | None = None
    inputs: Callable[[int], Any] = lambda n: torch.randn(n, 3)
    targets: Callable[[int], Any] = lambda n: torch.randn(n, 2)
    loss: Any = fitted
    loss_of: Callable[[nn.Module], Any] | None = None
    error: Callable[[Any, Any], Tensor] = squared
    objective: Callable[[dict[str, Tensor], Any], Tensor] | None = None
    judged: Callable[[dict[str, Tensor], Any], Tensor] | None = None
    extras: Callable[[Any], dict[str, Tensor]] = lambda loss: {}
    displaced: bool = True
    after: Callable[[nn.Module], Any] = lambda model: None
    settings: dict[str, Any] = field(default_factory=dict)
    moves: Callable[[str], bool] = lambda name: True
    answers: bool = True
    exact: str | None = "right"
    first_order: str | None = "right"
    says: str = r"first.order|FirstOrder"
    also: tuple[tuple[int, str, str, str], ...] = ()

    def written_out(self, p, batch):
        if self.objective is not None:
            return self.objective(p, batch)
        return self.error(self.twin(p, batch[0]), batch[1])

    def written_out_in_evaluation(self, p, batch):
        return (self.judged or self.written_out)(p, batch)
