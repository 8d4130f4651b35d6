"""Ordinary classification of all training classes: what the transfer baselines train before they see a task."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fastadapt.engine.engine import Route
from fastadapt.engine.execution import Execution
from fastadapt.errors import ConfigError, TaskError
from fastadapt.inner.calculus import Params
from fastadapt.layers.norm import Norm
from fastadapt.learner import MetaBatch, Outcome
from fastadapt.losses import CrossEntropy, Loss
from fastadapt.methods.loop import State
from fastadapt.methods.pretrain import Pretrain
from fastadapt.methods.results import Ran
from fastadapt.rules.rules import Rule
from fastadapt.selection import Selection, linear_head
from fastadapt.tasks import as_groups

_FRESH = "fresh "


class Transfer(Pretrain):
    r"""Train a body and a head over all training classes; a subclass says what becomes of them in a new task.

        loss = (1/T) sum_i CE(C(b(x_i)), c_i)

    with the body `b` of the network, a linear classifier `C` over all training classes, and batches of images with
    the numbers `c` of their classes (`fastadapt.data.images.flat.AllClasses` draws them, as tasks without queries).

    The network is the one of a new task: it has as many outputs as a test task has classes. Its own head is left as
    it was built, which makes it the one fresh head that every task starts from; `classifier` stands in for it in
    training. Batch norm learns running moments there ("running").

    Args:
        model: the network of a new task; the last layer that owns parameters must be an `nn.Linear`.
        loss: on logits; default cross-entropy.
        classes: how many training classes there are; None builds no classifier, for a body that was trained elsewhere.
        rule: the rule of the inner steps, if there are any.
        test_steps: their number.
        adapt: which parameters they adapt.
        norm: the batch-norm mode.
        route: "auto", "vmap" or "loop", or an `Execution`.

    Raises:
        ConfigError: for a setting outside its range.
        SelectionError: if the network does not end with a linear layer.

    References:
        Ravi, Larochelle 2017, Optimization as a Model for Few-Shot Learning (ICLR), section 5.1.
    """

    unchecked: ClassVar[tuple[str, ...]] = ("train",)  # where labels are numbers of training classes, see forward

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        classes: int | None = None,
        rule: Rule | None = None,
        test_steps: int = 0,
        adapt: Selection = "all",
        norm: Norm = "running",
        route: Route | Execution = "auto",
    ) -> None:
        if norm == "per_step":
            raise ConfigError(
                "norm='per_step' follows the inner steps of training, and a classifier is trained without any; "
                "choose norm='running'"
            )
        super().__init__(
            model,
            loss if loss is not None else CrossEntropy(),
            rule=rule,
            test_steps=test_steps,
            adapt=adapt,
            norm=norm,
            route=route,
        )
        name, head = linear_head(model)
        self.head = tuple(f"{name}.{part}".removeprefix(".") for part, _ in head.named_parameters())
        self.classes = classes
        self.classifier: nn.Linear | None = None
        if classes is not None:
            if classes < 1:
                raise ConfigError(f"classes must be at least 1, or None, got {classes}")
            bias, like = head.bias is not None, head.weight
            self.classifier = nn.Linear(head.in_features, classes, bias=bias, dtype=like.dtype, device=like.device)

    def signature(self) -> dict[str, Any]:
        """Return the facts of `Pretrain.signature`, with the number of training classes."""
        return {**super().signature(), "classes": self.classes}

    def forward(self, tasks: MetaBatch) -> Outcome:
        """Return the mean loss of the classifier on the supports, whose labels are the numbers of training classes.

        Raises:
            ConfigError: if the learner was built without `classes`.
            TaskError: if a label is not the number of a training class.
        """
        if self.classes is None:
            raise ConfigError(f"{type(self).__name__} was built without classes=..., so there is nothing to train")
        groups = as_groups(tasks)
        for group in groups:
            labels = group.support[1]
            if int(labels.max()) >= self.classes or int(labels.min()) < 0:
                raise TaskError(
                    f"a batch has labels {int(labels.min())}..{int(labels.max())}, and the classifier knows classes "
                    f"0..{self.classes - 1}; draw batches of the training classes, or build it with more classes"
                )
        return super().forward(groups)

    def _trained_head(self) -> dict[str, nn.Parameter]:
        """Return the classifier's parameters by the names of those they stand in for."""
        return {} if self.classifier is None else dict(zip(self.head, self.classifier.parameters(), strict=True))

    def _joint_state(self) -> State:
        state = self.state()
        trained = {name: p.detach() for name, p in self._trained_head().items()}
        return {**state, "params": {**state["params"], **trained}}

    def learned(self) -> dict[str, Tensor]:
        """Return the meta-parameters: those of the network, and the classifier's."""
        own = super().learned()
        fresh = {f"{_FRESH}{name}": own[name] for name in self.head if name in own}
        return {**own, **self._trained_head(), **fresh}

    def _outcome(self, ran: Ran, pick: Callable[[Any], Params]) -> Outcome:
        # no loss depends on the fresh head: zeros, so that DDP finds a gradient for each parameter
        zeros = {name: torch.zeros_like(p) for name, p in self.learned().items() if name.startswith(_FRESH)}
        return super()._outcome(ran, lambda mean: {**pick(mean), **zeros})
