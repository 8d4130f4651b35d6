"""The contract that every method meets: one trainer, one evaluator and one server serve them all."""

import difflib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fastadapt.errors import ConfigError, TaskError
from fastadapt.layers.norm import Norm
from fastadapt.predictor import Predictor
from fastadapt.rules.rules import Params
from fastadapt.tasks import Task, Tasks

MetaBatch = Tasks | Task | Sequence[Task] | Sequence[Tasks]


@dataclass(eq=False)  # not frozen: Fabric sets the fields of a copy
class Outcome:
    """Hold what a learner made of a meta-batch of `T` tasks.

    Args:
        loss: the scalar meta-objective, the mean over tasks. `loss.backward()` gives the learner's
            parameters their meta-gradient (for Reptile `phi - mean(phi_i)`).
        losses: `[T]`, the loss of each task in the order the tasks were given. They can be differentiated as well, for
            example weighted, `(w * losses).sum().backward()`; the tasks are then run a second time.
        metrics: what the loss reports, after adaptation, each `[T]`; empty where it reports nothing.
        outputs: the model's output on each task's query after adaptation, `T` tensors; empty where
            there is none.
    """

    loss: Tensor
    losses: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)
    outputs: list[Tensor] = field(default_factory=list)


@dataclass(eq=False)  # not frozen: Fabric sets the fields of a copy
class Trace:
    """Hold how `T` tasks fared on their queries after each of 0..k inner steps, or after those that were asked for.

    Args:
        losses: `[T, k+1]`, a column for each number of steps.
        metrics: each `[T, k+1]`.
        outputs: for each task the outputs on its query, `[k+1, Q, ...]`.
    """

    losses: Tensor
    metrics: dict[str, Tensor]
    outputs: list[Tensor]


_RATE = "the inner rate belongs to the rule: write rule=fa.SGD(lr=...)"
_MEANT = {
    **dict.fromkeys(("lr", "inner_lr", "alpha", "fast_lr", "learning_rate"), _RATE),
    **dict.fromkeys(("k", "num_steps", "inner_steps", "adaptation_steps", "n_steps"), "write steps=..."),
    **dict.fromkeys(("first_order", "fomaml"), "write meta_gradient=fa.FirstOrder()"),
    **dict.fromkeys(
        ("optimizer", "inner_optimizer", "optim"), "write rule=fa.SGD(...), fa.Momentum(...) or fa.Adam(...)"
    ),
    **dict.fromkeys(("loss_fn", "criterion", "loss_function"), "write loss=..."),
}
"""What other libraries call it, and what to write here."""


class Learner(nn.Module, ABC):
    """Learn to learn: its parameters are the meta-parameters, its forward holds the inner adaptation.

    So the outer loop is ordinary PyTorch, and whatever works with a module works here: optimizers,
    schedulers, DDP (around the learner, never around the inner network), `state_dict`.

        loss = learner(tasks).loss
        loss.backward()
        optimizer.step()
    """

    norm: Norm
    test_steps: int

    def __new__(cls, *args: Any, **settings: Any) -> "Learner":
        """Refuse a setting that the method does not have, with what to write in its place."""
        known, open_ended = set(), True
        for kind in cls.__mro__:
            if open_ended and "__init__" in vars(kind):
                parameters = inspect.signature(kind.__init__).parameters
                known |= set(parameters)
                open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        unknown = [name for name in settings if name not in known]
        if unknown and not open_ended:
            near = difflib.get_close_matches(unknown[0], sorted(known), n=1)
            hint = _MEANT.get(unknown[0]) or (f"perhaps {near[0]}= is meant" if near else "see its documentation")
            raise ConfigError(f"{cls.__name__} has no argument {unknown[0]!r}; {hint}")
        return super().__new__(cls)

    def signature(self) -> dict[str, Any]:
        """Return, as JSON values, what makes this another learner than one with the same weights.

        A resumed training compares it. Override it to add what a method's result depends on.
        """
        return {"learner": type(self).__name__, "norm": self.norm}

    def at_step(self, step: int) -> None:
        """Take notice that outer step `step` comes next, counted from 0: most methods do the same at every step.

        `meta_train` says it before each. Whatever a method anneals follows from this number alone, so that a training
        that is resumed goes on as one that never stopped.
        """

    @abstractmethod
    def forward(self, tasks: MetaBatch) -> Outcome:
        """Return the meta-objective of a meta-batch."""

    @abstractmethod
    def adapt(self, support: Any, steps: int | None = None, norm: Norm | None = None) -> Predictor:
        """Return a module adapted to a new task.

        Args:
            support: the labelled samples, by default `(x, y)`.
            steps: inner steps; None takes the learner's `test_steps`.
            norm: batch-norm mode of the predictor; None takes the learner's own.
        """

    def adapting(
        self, support: Any, steps: int | None = None, norm: Norm | None = None, rate: float | None = None
    ) -> Iterator[Predictor]:
        """Yield the adapted module after 0, 1, ..., `steps` inner steps, each as soon as it is computed.

        A method without inner steps yields the one it has. The last one equals what `adapt` returns.

        Args:
            support: the labelled samples, as in `adapt`.
            steps: inner steps; None takes the learner's `test_steps`.
            norm: batch-norm mode of the predictors; None takes the learner's own.
            rate: inner learning rate; None takes the rule's own. Methods without one ignore it.
        """
        yield self.adapt(support, steps, norm)

    @abstractmethod
    def trace(
        self,
        tasks: MetaBatch,
        steps: int | None = None,
        norm: Norm | None = None,
        after: Sequence[int] | None = None,
    ) -> Trace:
        """Return losses, metrics and outputs on the queries after 0, 1, ..., `steps` inner steps.

        A method without inner steps returns the one column it has.

        Args:
            tasks: the tasks, with queries.
            steps: inner steps; None takes the learner's `test_steps`.
            norm: batch-norm mode of the forward passes; None takes the learner's own.
            after: the numbers of steps after which the queries are judged, ascending; None judges them after
                each of 0..steps, which costs a forward pass of the queries each.
        """


class _HandOut(torch.autograd.Function):
    """Carry a loss forward, and hand out gradients that were computed with it on the way back."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, count: int, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors[count:])
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> Any:  # type: ignore[override]
        grads = ctx.saved_tensors
        return None, None, *(scale * g for g in grads), *(None for _ in grads)


def with_gradient(loss: Tensor, params: dict[str, Tensor], grads: dict[str, Tensor]) -> Tensor:
    """Return `loss` such that its `backward()` adds `grads` to the `.grad` of `params`.

    The meta-gradient is computed together with the loss, task by task or vmapped with the gradient inside, so
    no graph of the inner loops outlives `forward`. It is a first derivative: to differentiate it again use
    `fastadapt.adapt` and ordinary autograd.
    """
    names = [name for name in params if name in grads]
    if not torch.is_grad_enabled() or not names:
        return loss
    return _HandOut.apply(loss, len(names), *(params[n] for n in names), *(grads[n] for n in names))


class _RunAgain(torch.autograd.Function):
    """Carry the losses of tasks forward, and compute the gradient of their weighted sum on the way back."""

    @staticmethod
    def forward(ctx: Any, losses: Tensor, again: Any, names: tuple[str, ...], *tensors: Tensor) -> Tensor:
        ctx.again, ctx.names, ctx.tensors = again, names, tensors
        ctx.versions = [tensor._version for tensor in tensors]
        return losses.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weights: Tensor) -> Any:  # type: ignore[override]
        if [tensor._version for tensor in ctx.tensors] != ctx.versions:
            raise TaskError(
                "outcome.losses is differentiated after a parameter was changed in place (by an optimizer step?); take "
                "the gradient first"
            )
        grads = ctx.again(weights)
        return None, None, None, *(grads.get(name) for name in ctx.names)


def with_task_gradients(losses: Tensor, params: dict[str, Tensor], again: Callable[[Tensor], Params]) -> Tensor:
    """Return `losses: [T]` such that the gradient of their weighted sum, `again(weights)`, reaches `params`."""
    if not torch.is_grad_enabled() or not params:
        return losses
    return _RunAgain.apply(losses, again, tuple(params), *params.values())
