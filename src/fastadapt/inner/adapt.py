"""The inner loop in the user's hands: adapt a module, or a dictionary of tensors, by gradient steps."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fastadapt.errors import ConfigError
from fastadapt.inner.calculus import (
    Autograd,
    Calculus,
    Captured,
    Functional,
    Params,
    able_to_differentiate,
    differentiable,
)
from fastadapt.inner.differentiation import Differentiation, MetaGradient, as_differentiation
from fastadapt.inner.hooks import Hooks, hooks_of
from fastadapt.inner.loop import check_steps, descend
from fastadapt.inner.unchanged import unchanged
from fastadapt.judging.loss_values import value_of
from fastadapt.layers.bound import Bound, as_then, inside, outcome
from fastadapt.layers.kept import Kept
from fastadapt.layers.kernels import on_kernels_that_differentiate
from fastadapt.layers.layout import Layout
from fastadapt.layers.norm import Norm, NormPlan, batch_norm_layers, check_norm
from fastadapt.layers.scope import held
from fastadapt.layers.settled import inside_a_transform
from fastadapt.layers.turns import turn
from fastadapt.losses import as_loss
from fastadapt.rules.rules import Rule, as_rule
from fastadapt.selection import Selection, select


class Adapted(dict[str, Tensor]):
    """Hold adapted parameters by name; for a module also call it with them.

    Args:
        params: theta^k.
        state: the rule's state after the last step, to be given to another `adapt`.
        losses: the inner loss ahead of each step.
        aux: what else the loss returned at each step, a dictionary each.
        model: the module with theta^k in place, None where a dictionary was adapted.
    """

    def __init__(
        self, params: Params, state: Any = (), losses: Sequence[Tensor] = (), aux: Sequence[Any] = (), model: Any = None
    ) -> None:
        super().__init__(params)
        self.state = state
        self.losses = list(losses)
        self.aux = list(aux)
        self.model = model

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the module's output with theta^k, as ordinary autograd sees it.

        Raises:
            ConfigError: if a dictionary was adapted, which can't be called.
        """
        return self._run(lambda model, _: model(*args, **kwargs), None)

    def loss(self, loss: Any, batch: Any) -> Tensor:
        """Return `loss(model, batch)` with theta^k in `model`.

        Raises:
            ConfigError: if a dictionary was adapted.
        """
        return value_of(self._run(as_loss(loss), batch))[0]

    def _run(self, function: Callable[[Any, Any], Any], batch: Any) -> Any:
        if self.model is None:
            raise ConfigError(
                "a dictionary of tensors was adapted, and there is no module to call; give adapt a module, or use the "
                "parameters yourself"
            )
        with turn(inside(self.model).module), held():
            result = outcome(self.model, function, batch)[0]
            if torch.is_grad_enabled():
                Kept(as_then).by(result)
        return result


pytree.register_pytree_node(
    Adapted,
    lambda phi: ([dict(phi), phi.state, phi.losses, phi.aux], phi.model),
    lambda parts, model: Adapted(*parts, model=model),  # type: ignore[arg-type]
)


def adapt(
    loss: Any,
    params: nn.Module | Params,
    support: Any,
    rule: Rule,
    steps: int,
    *,
    meta_gradient: MetaGradient | Differentiation = "exact",
    state: Any = None,
    batches: Sequence[Any] | Callable[[int], Any] | None = None,
    losses: Sequence[Any] | Callable[[int], Any] | None = None,
    norm: Norm = "transductive",
    select_params: Selection = "all",
) -> Adapted:
    r"""Return the parameters after `steps` inner steps on `support`.

    `theta^{j+1} = rule(theta^j, grad L(theta^j; support))`, from `theta^0 = params`. The result can be differentiated
    by ordinary autograd, with respect to whatever entered it: theta^0, rates and other tensors of the rule, parameters
    of the loss, tensors of the batches. It composes with `torch.func.vmap` and `torch.func.grad`.

    Args:
        loss: `loss(params, support) -> scalar` for a dictionary; `loss(model, support) -> scalar` for a module, or a
            loss of torch. It may return `(scalar, aux)`, or a dictionary with "loss".
        params: theta^0: a dictionary of tensors, or a module, whose trainable parameters are adapted.
        support: what the loss takes at every step.
        rule: an update rule such as `SGD(0.01)`.
        steps: k >= 0.
        meta_gradient: "exact" (`Exact()`) keeps the graph of every update, "first_order" (`FirstOrder()`) takes
            gradients as constants.
        state: the rule's state before the first step, as an earlier result has it; None starts afresh.
        batches: in place of `support`, a batch for each step: k of them, or a function of the step.
        losses: in place of `loss`, a loss for each step: k of them, or a function of the step.
        norm: for a module, with which moments its batch-norm layers normalise: "transductive" or "running".
        select_params: for a module, which of its parameters are adapted, see `fastadapt.select`.

    Returns:
        theta^k, with the names and shapes of `params`, and what else there is to know, see `Adapted`. With a module it
        can be called, and `phi.loss(loss, query)` is a loss of the adapted module.

    Raises:
        ConfigError: if `steps` is negative, `meta_gradient` is unknown, `params` is neither a module nor tensors by
            name, or there are not as many batches as steps.
        TaskError: if no parameter receives a gradient from the loss.

    Example:
        >>> import torch
        >>> from fastadapt import SGD
        >>> theta = {"w": torch.tensor(1.0, requires_grad=True)}
        >>> phi = adapt(lambda p, c: 0.5 * (p["w"] - c) ** 2, theta, torch.tensor(0.0), SGD(0.1), steps=2)
        >>> phi["w"].backward()
        >>> round(float(phi["w"].detach()), 4), round(float(theta["w"].grad), 4)   # (1 - 0.1)^2, twice
        (0.81, 0.81)
        >>> net, x = torch.nn.Linear(1, 1), torch.ones(2, 1)
        >>> phi = adapt(torch.nn.MSELoss(), net, (x, 2 * x), SGD(0.1), steps=3)
        >>> phi(x).shape
        torch.Size([2, 1])

    References:
        Finn, Abbeel, Levine 2017 (arXiv:1703.03400), Algorithm 2.
    """
    check_steps(steps)
    differentiation = as_differentiation(meta_gradient)
    if hasattr(differentiation, "proximal"):
        raise ConfigError(f"adapt is differentiated by Exact() or FirstOrder(); give {differentiation} to a learner")
    if not isinstance(params, nn.Module) and not hasattr(params, "items"):
        order = (
            "; the loss comes first: adapt(loss, module, support, rule, steps)" if isinstance(loss, nn.Module) else ""
        )
        raise ConfigError(f"adapt takes a module or a mapping of tensors by name, got {type(params).__name__}{order}")
    through = differentiation.through
    rule = as_rule(rule)
    batch_at = _at_each_step(batches, support, steps, "batches")
    loss_at = _at_each_step(losses, loss, steps, "losses")
    captured = Captured()
    calculus: Calculus = Functional() if inside_a_transform() else Autograd(captured)

    def descended(objective: Callable[[Params, Any, int], tuple[Tensor, Any]], theta: Params, hooks: Hooks) -> Adapted:
        ahead = (rule, steps, state, through, calculus, hooks)
        return _descended(objective, theta, lambda j: differentiable(batch_at(j)), *ahead)

    if not isinstance(params, nn.Module):
        with able_to_differentiate():
            given: Params = differentiable(params)
            hooks = hooks_of(given)
            phi = descended(
                lambda theta, batch, j: _with_aux(loss_at(j)(theta, batch), loss_at(j)),
                # torch calls the hooks of a leaf itself, and here they are called at every step
                {name: p.view_as(p) if name in hooks else p for name, p in given.items()},
                hooks,
            )
        if torch.is_grad_enabled():
            captured.check_dropped({id(p): name for name, p in given.items()})
        return phi
    check_norm(norm)
    if norm not in ("transductive", "running"):
        raise ConfigError(
            f"adapt normalises by 'transductive' or 'running' moments, got {norm!r}; a learner has the rest"
        )
    # what a forward pass writes is dropped, as in a learner: so both are taken ahead of the first
    own, buffers = dict(params.named_parameters()), dict(params.named_buffers())
    module, plan = params, NormPlan(norm, False, {}, 1, bool(batch_norm_layers(params)))

    def bound(theta: Params) -> Bound:
        return Bound(module, {**own, **theta}, buffers, plan.support(), layout=layout)

    def objective(theta: Params, batch: Any, j: int) -> tuple[Tensor, Any]:
        loss = as_loss(loss_at(j))
        return _with_aux(outcome(bound(theta), loss, batch)[0], loss)

    watched = support if batches is None else None
    with turn(module), able_to_differentiate(), held(), unchanged(watched, module):
        layout = Layout(module)
        # views, so that a parameter that is reached in another way can be told from its adapted values
        theta = {name: own[name].view_as(own[name]) for name in select(module, select_params)}
        phi = on_kernels_that_differentiate(lambda: descended(objective, theta, hooks_of(own)))
        if torch.is_grad_enabled():
            captured.check_dropped({id(p): name for name, p in own.items()})
            Kept(as_then).by((dict(phi), phi.state, phi.losses, phi.aux))
    captured.check_bound(module, theta)
    phi.model = bound(dict(phi))
    return phi


def _with_aux(returned: Any, loss: Any) -> tuple[Tensor, Any]:
    """Return the scalar loss, and what else the loss returned."""
    value, metrics = value_of(returned, loss)
    if isinstance(returned, (tuple, list)):
        return value, returned[1] if len(returned) == 2 else tuple(returned[1:])
    return value, {name: item for name, item in returned.items() if name != "loss"} if isinstance(
        returned, Mapping
    ) else metrics


def _descended(
    objective: Callable[[Params, Any, int], tuple[Tensor, Any]],
    theta: Params,
    batch_at: Callable[[int], Any],
    rule: Rule,
    steps: int,
    state: Any,
    through: bool,
    calculus: Calculus,
    hooks: Hooks,
) -> Adapted:
    state = rule.init(theta) if state is None else state
    losses, aux = [], []
    for step in descend(
        objective,
        theta,
        lambda j, _: batch_at(j),
        rule,
        steps,
        state=state,
        through=through,
        calculus=calculus,
        hooks=hooks,
    ):
        theta, state = step.params, step.state
        losses.append(step.loss)
        aux.append(step.aux)
    return Adapted(theta, state, losses, aux)


def _at_each_step(given: Any, always: Any, steps: int, what: str) -> Callable[[int], Any]:
    """Return a function of the step, from one for all steps, a sequence, or a function."""
    if given is None:
        return lambda j: always
    if callable(given):
        return given
    each = list(given)
    if len(each) != steps:
        raise ConfigError(f"{what} needs one for each of the {steps} steps, got {len(each)}")
    return lambda j: each[j]
