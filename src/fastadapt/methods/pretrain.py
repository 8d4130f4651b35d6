"""Joint pretraining, then fine-tuning: the baseline that meta-learning is compared with."""

from typing import Any

import torch
from torch import Tensor

from fastadapt.inner.runner import Runner
from fastadapt.learner import MetaBatch, Outcome
from fastadapt.methods.gradient import GradientLearner
from fastadapt.methods.loop import InnerLoop, State
from fastadapt.tasks import is_collector


class Pretrain(GradientLearner):
    r"""Train one network on all tasks at once, and fine-tune it on a new one.

        loss = (1/T) sum_i L(D_i^S; theta)

    No inner step is taken in training; `adapt` and evaluation take `test_steps` steps of `rule`. With the
    task's hidden parameters as further inputs and `test_steps=0` this is the oracle of the MAML paper.

    Args:
        model: the network.
        loss: `loss(model, batch) -> scalar`; default mean squared error.
        rule: the fine-tuning rule, whose rate is to be tuned on separate tasks; default `SGD(0.01)`.
        test_steps: fine-tuning steps; default 1. The other arguments are those of `MAML`.

    Example:
        >>> from torch import nn
        >>> from fastadapt import SGD, Task
        >>> net = nn.Linear(1, 1, bias=False)
        >>> x = torch.ones(2, 1)
        >>> learner = Pretrain(net, rule=SGD(0.1), test_steps=5)
        >>> learner(Task((x, 2 * x), (x, 2 * x))).losses.shape
        torch.Size([1])

    References:
        Finn, Abbeel, Levine 2017 (arXiv:1703.03400), section 5.1.
    """

    def forward(self, tasks: MetaBatch) -> Outcome:
        """Return the mean support loss before any adaptation."""
        state, meta = self._joint_state(), self.learned()
        plan = self._plan(state)
        differentiate = torch.is_grad_enabled() and bool(meta)

        def f(state: State, support: Any, query: Any, extra: Any, run: Runner) -> tuple[Any, Any]:
            loop = InnerLoop(self, state, plan, 0, {"support": support, "query": query})
            theta = {name: p for name, p in state["params"].items() if name in meta}
            data = {name.removeprefix("data "): value for name, value in extra.items() if name.startswith("data ")}

            def joint(at: Any) -> tuple[Tensor, Any]:
                theta, data = at
                batch = loop.data(support, {"data": data}, "support")
                if is_collector(support):
                    batch = loop.collect(support, loop.fixed, loop.constants(0), theta)
                loss, fed = loop.support_loss(loop.fixed, loop.constants(0), theta, batch)
                return loss, {"fed": [fed]}

            if differentiate:
                (gradient, of_data), loss, report = run.calculus.outer(joint, (theta, data))
            else:
                gradient, of_data, (loss, report) = {}, {}, joint((theta, data))
            return gradient, {"loss": loss.detach(), "data": of_data, **report}

        return self._outcome(self._run(f, state, tasks, {}, ("train", differentiate)), lambda mean: mean)

    def _joint_state(self) -> State:
        """Return the tensors that the joint loss depends on; a method that trains another head puts it here."""
        return self.state()
