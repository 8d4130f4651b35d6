"""MAML: learn an initialisation from which a few gradient steps suffice (Finn et al. 2017)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastadapt.engine.engine import Route
from fastadapt.engine.execution import Execution
from fastadapt.errors import ConfigError, TaskError
from fastadapt.inner.exact import exact, first_order, walk
from fastadapt.inner.loop import MetaGradient, check_meta_gradient
from fastadapt.inner.runner import Runner
from fastadapt.layers.norm import Norm
from fastadapt.learner import MetaBatch, Outcome
from fastadapt.losses import Loss
from fastadapt.methods.gradient import GradientLearner
from fastadapt.methods.loop import InnerLoop, State
from fastadapt.rules import Rule
from fastadapt.selection import Selection
from fastadapt.tasks import as_groups


class MAML(GradientLearner):
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
        meta_gradient: "exact" or "first_order".
        adapt: which parameters the inner loop adapts: "all", "head", "body", patterns, a function.
        norm: the batch-norm mode, see `fastadapt.layers.norm`.
        inner_loss: the loss on the support where its scale differs (`CrossEntropy("sum_over_classes")` is
            what the original code differentiates); default `loss`.
        test_steps: inner steps of `adapt` and evaluation; default `steps`.
        step_weights: `w_1 .. w_k`, the weights of the query losses after each inner step in the meta-objective
            `sum_j w_j L_Q(theta^j)` (the multi-step loss of MAML++); default: the last step alone.
        route: "auto", "vmap" or "loop", or an `Execution`.

    Raises:
        ConfigError: for a setting outside its range.
        SelectionError: if `adapt` selects nothing.

    Example:
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
        meta_gradient: MetaGradient = "exact",
        adapt: Selection = "all",
        norm: Norm = "transductive",
        inner_loss: Loss | None = None,
        test_steps: int | None = None,
        step_weights: Sequence[float] | None = None,
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
        )
        check_meta_gradient(meta_gradient)
        self.meta_gradient = meta_gradient
        self.step_weights = None if step_weights is None else tuple(float(w) for w in step_weights)
        if self.step_weights is not None:
            _check_weights(self.step_weights, steps, meta_gradient)

    def signature(self) -> dict[str, Any]:
        """Return the facts of `GradientLearner.signature`, with the kind of meta-gradient."""
        return {**super().signature(), "meta_gradient": self.meta_gradient, "step_weights": self.step_weights}

    def forward(self, tasks: MetaBatch, inner_lr: Tensor | None = None) -> Outcome:
        """Return the mean query loss after adaptation; its `backward()` gives the meta-gradient.

        Args:
            tasks: a meta-batch of `T` tasks.
            inner_lr: `[T]`, an inner learning rate alpha_i for each task; None takes the rule's.

        Raises:
            TaskError: if the tasks have no usable form, or `inner_lr` is not `[T]`.
        """
        groups = as_groups(tasks)
        count = sum(len(group) for group in groups)
        if inner_lr is not None and inner_lr.shape != (count,):
            raise TaskError(f"inner_lr needs one rate for each of the {count} tasks, got shape {tuple(inner_lr.shape)}")
        if inner_lr is not None and inner_lr.requires_grad:
            raise TaskError("inner_lr is taken as a constant, but it requires a gradient; pass inner_lr.detach()")
        state, meta = self._state(), self._meta()
        plan = self._plan(state)
        differentiate = torch.is_grad_enabled() and bool(meta)

        def f(state: State, support: Any, query: Any, extra: Any, run: Runner) -> tuple[Any, Any]:
            loop = self._loop(state, plan, support, query, extra, self.steps)
            task = {"support": support, "query": query, **extra}
            start = loop.start()
            if not differentiate:
                return {}, evaluated(run, loop, start, task)
            if self.meta_gradient == "exact" or self.rate_names:
                swept = exact(run, loop, start, loop.fixed, task, weights=self.step_weights, through=through)
            else:
                swept = first_order(run, loop, start, loop.fixed, task)
            theta, fixed, loss, report = swept
            rates = {f"rates {name}": g for name, g in fixed["rates"].items()}
            fed = [seen["fed"] for seen in report["inner"]] + [report["query"]["fed"]]
            return {**theta, **fixed["params"], **rates}, {"loss": loss, **report["query"], "fed": fed}

        def evaluated(run: Runner, loop: InnerLoop, start: Any, task: Any) -> Any:
            *_, (carry, _) = [(start, None), *walk(run, loop, start, loop.fixed, task, self.steps)]
            loss, report = loop.judge(loop.fixed, loop.constants(self.steps), carry[0], task)
            return {"loss": loss.detach(), **report, "fed": []}

        through = self.meta_gradient == "exact"
        extra = {} if inner_lr is None else {"lr": inner_lr}
        key = ("train", differentiate, self.steps, self.meta_gradient, self.step_weights)
        mean, stacked = self._run(f, state, groups, extra, key, pieces=differentiate)
        return self._outcome(mean, stacked)


def _check_weights(weights: tuple[float, ...], steps: int, meta_gradient: MetaGradient) -> None:
    if len(weights) != steps or not all(0 <= w < float("inf") for w in weights) or not any(weights[-1:]):
        raise ConfigError(
            f"step_weights needs one finite weight >= 0 for each of the {steps} inner steps, the last above 0; "
            f"got {weights}"
        )
    if meta_gradient != "exact":
        raise ConfigError("step_weights are summed by the exact meta-gradient; leave them out for 'first_order'")
