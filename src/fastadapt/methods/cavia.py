"""CAVIA: a few context parameters adapt, from 0 for every task, and all others are learned (Zintgraf et al. 2019)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from fastadapt.errors import ConfigError
from fastadapt.inner.calculus import Params
from fastadapt.learner import Outcome
from fastadapt.losses import Loss
from fastadapt.methods.loop import State
from fastadapt.methods.maml import MAML
from fastadapt.methods.results import Ran
from fastadapt.rules.rules import SGD, Rule
from fastadapt.selection import Selection


class CAVIA(MAML):
    r"""Meta-learn a network that a few numbers, its context, steer.

        phi_i^0     = 0
        phi_i^{j+1} = phi_i^j - alpha grad_phi L(D_i^S; theta, phi_i^j)      j = 0 .. k-1
        loss        = (1/T) sum_i L(D_i^Q; theta, phi_i^k)

    theta is never adapted, and phi never learned: the outer loop sees a gradient of 0 for it, so that the parameter in
    the network stays 0. The context may be `WithContext` in front of a network, `FiLM` behind a layer of it, or any
    parameter of a module of your own that is 0 and that `adapt` names.

    Args:
        model: the network, with its context.
        loss: `loss(model, batch) -> scalar`; default mean squared error.
        rule: the inner update rule; default `SGD(1.0)`.
        adapt: which parameters are the context; by default those whose names end with "context".
        settings: those of `MAML`.

    Raises:
        ConfigError: for a setting outside its range, or if a context parameter is not 0.
        SelectionError: if there is no such parameter.

    Example:
        >>> from fastadapt import MLP, Task
        >>> from fastadapt.nets import WithContext
        >>> learner = CAVIA(WithContext(MLP(1 + 5, (8,), 1), size=5))
        >>> x = torch.ones(2, 1)
        >>> learner(Task((x, x), (x, x))).loss.backward()
        >>> learner.adapted, learner.model.context.grad
        (('context',), tensor([0., 0., 0., 0., 0.]))

    References:
        Zintgraf, Shiarlis, Kurin, Hofmann, Whiteson 2019, Fast Context Adaptation via Meta-Learning
        (arXiv:1810.03642).
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        rule: Rule | None = None,
        adapt: Selection = "*context",
        **settings: Any,
    ) -> None:
        super().__init__(model, loss, rule=SGD(1.0) if rule is None else rule, adapt=adapt, **settings)
        own = dict(self.model.named_parameters())
        if moved := [name for name in self.adapted if own[name].detach().any()]:
            raise ConfigError(
                f"CAVIA adapts from 0, and the parameter {moved[0]!r} of {type(model).__name__} is not 0; name the "
                "context parameters in adapt and set them to 0, or take MAML, which learns their start"
            )

    def state(self) -> State:
        """Return the tensors of `MAML.state`, with a context of 0."""
        state = super().state()
        context = {name: torch.zeros_like(state["params"][name]) for name in self.adapted}
        return {**state, "params": {**state["params"], **context}}

    def _outcome(self, ran: Ran, pick: Callable[[Any], Params]) -> Outcome:
        def without_context(mean: Any) -> Params:
            grads = pick(mean)
            return {**grads, **{name: torch.zeros_like(grads[name]) for name in self.adapted if name in grads}}

        return super()._outcome(ran, without_context)
