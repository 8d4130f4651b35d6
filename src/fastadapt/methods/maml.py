"""MAML: learn an initialisation from which a few gradient steps suffice (Finn et al. 2017)."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from fastadapt.engine.engine import Route
from fastadapt.engine.execution import Execution
from fastadapt.inner.differentiation import Differentiation, MetaGradient
from fastadapt.layers.norm import Norm
from fastadapt.learner import MetaBatch, Outcome
from fastadapt.losses import Loss
from fastadapt.methods.meta_gradient import MetaGradientLearner
from fastadapt.rules.rules import Rule
from fastadapt.selection import Selection
from fastadapt.tasks import Task


class MAML(MetaGradientLearner):
    r"""Meta-learn an initialisation theta through the inner loop.

        theta_i^{j+1} = theta_i^j - alpha grad L(D_i^S; theta_i^j)      j = 0 .. k-1
        loss          = (1/T) sum_i L(D_i^Q; theta_i^k)

    The meta-gradient is *exact*, `prod_j (I - alpha H_j) grad L(D^Q; theta^k)`, or *first order* (FOMAML),
    `grad L(D^Q; theta^k)`. ANIL is `adapt="head"`, BOIL is `adapt="body"`.

    Args:
        model: the network; its trainable parameters are theta.
        loss: `loss(model, batch) -> scalar`; default mean squared error.
        rule: the inner update rule; default `SGD(0.01)`.
        steps: inner steps k in training, >= 0 (0 is joint training on the queries).
        meta_gradient: how the gradient passes through the inner loop: `Exact()` or "exact", `FirstOrder()` or
            "first_order", `Implicit()`.
        adapt: which parameters the inner loop adapts: "all", "head", "body", patterns, a function.
        norm: the batch-norm mode, see `fastadapt.layers.norm`.
        inner_loss: the loss on the support where its scale differs (`CrossEntropy("sum_over_classes")` is
            what the original code differentiates); default `loss`.
        test_steps: inner steps of `adapt` and evaluation; default `steps`.
        step_weights: `w_1 .. w_k`, the weights of the query losses after each inner step in the meta-objective
            `sum_j w_j L_Q(theta^j)` (the multi-step loss of MAML++); default: the last step alone.
        batch: samples of an inner minibatch in training, drawn as Reptile's are; None takes all at every step.
        route: "auto", "vmap" or "loop", or an `Execution`.

    Raises:
        ConfigError: for a setting outside its range.
        SelectionError: if `adapt` selects nothing.

    Example:
        >>> import torch
        >>> from fastadapt import SGD, Task
        >>> net = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.ones_(net.weight)
        >>> learner = MAML(net, rule=SGD(0.05), steps=1)
        >>> column = lambda *v: torch.tensor(v).unsqueeze(1)
        >>> task = Task((column(1.0, 2.0), column(2.0, 3.0)), (column(1.0, 3.0), column(1.0, 5.0)))
        >>> learner(task).loss.backward()
        >>> round(float(net.weight.grad), 4)     # FOMAML gives -4.5
        -3.375

    References:
        Finn, Abbeel, Levine 2017, Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks
        (arXiv:1703.03400).
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        rule: Rule | None = None,
        steps: int = 1,
        meta_gradient: MetaGradient | Differentiation = "exact",
        adapt: Selection = "all",
        norm: Norm = "transductive",
        inner_loss: Loss | None = None,
        test_steps: int | None = None,
        step_weights: Sequence[float] | None = None,
        batch: int | None = None,
        route: Route | Execution = "auto",
    ) -> None:
        super().__init__(
            model,
            loss,
            rule=rule,
            steps=steps,
            adapt=adapt,
            norm=norm,
            inner_loss=inner_loss,
            test_steps=test_steps,
            route=route,
            meta_gradient=meta_gradient,
            step_weights=step_weights,
            batch=batch,
        )

    def inner_objective(self, model: Any, support: Any) -> Any:
        """Return `L(D^S; theta)`: each inner step is `theta <- theta - alpha grad L(D^S; theta)`."""
        return self.inner_loss(model, support)

    def meta_objective(self, model: Any, task: Task) -> Any:
        """Return `L(D^Q; theta^k)`, with the parameters after the inner steps in `model`."""
        return self.loss(model, task.query)

    def forward(self, tasks: MetaBatch, inner_lr: Tensor | None = None) -> Outcome:
        """Return `(1/T) sum_i L(D_i^Q; theta_i^k)`; its `backward()` gives the meta-gradient.

        Args:
            tasks: a meta-batch of `T` tasks.
            inner_lr: `[T]`, an inner learning rate alpha_i for each task; None takes the rule's.

        Raises:
            TaskError: if the tasks have no usable form, or `inner_lr` is not `[T]`.
        """
        return self.differentiated(tasks, inner_lr)
