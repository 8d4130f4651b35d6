"""A trained network adapted to a domain: by a few labelled samples, or by inputs without labels.

Each function leaves the network as it was and returns an adapted copy in evaluation mode. Batch norm normalises by the
network's own running moments: those that a learner gathered with norm="running" lie in the learner.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastadapt.errors import ConfigError, DivergenceError
from fastadapt.inner.adapt import adapt
from fastadapt.layers.norm import batch_norm_layers
from fastadapt.losses import Loss
from fastadapt.methods.unlabelled import Entropy
from fastadapt.rules.rules import SGD, Rule
from fastadapt.selection import Selection

NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.modules.instancenorm._InstanceNorm)


def fine_tuned(
    model: nn.Module,
    loss: Loss,
    batches: Sequence[Any] | Callable[[int], Any],
    *,
    steps: int,
    rule: Rule | None = None,
    select: Selection = "all",
) -> nn.Module:
    """Return the network after gradient steps on a few samples of a domain.

    It is the inner loop of MAML, first order, from the weights that are there: `theta <- theta - alpha grad L`.

    Args:
        model: the network.
        loss: `loss(model, batch)`, with labels or without.
        batches: a batch for each step, or a function of the step.
        steps: how many.
        rule: the update rule; default `SGD(0.05)`.
        select: which parameters move: "all", "head", patterns; `norm_parameters(model)` moves scales and shifts alone.

    Raises:
        DivergenceError: if the weights are not finite afterwards.

    Example:
        >>> net, x = nn.Linear(2, 1, bias=False), torch.eye(2)
        >>> tuned = fine_tuned(net, nn.MSELoss(), lambda j: (x, torch.ones(2, 1)), steps=200, rule=SGD(0.5))
        >>> tuned.weight.data.round(decimals=3)
        tensor([[1., 1.]])
    """
    rule = SGD(0.05) if rule is None else rule
    settings: dict[str, Any] = {"batches": batches, "norm": "running", "select_params": select}
    made = adapt(loss, model.eval(), None, rule, steps, meta_gradient="first_order", **settings)
    tuned = copy.deepcopy(model)
    own = dict(tuned.named_parameters())
    with torch.no_grad():
        for name, value in made.items():
            if not bool(torch.isfinite(value).all()):
                raise DivergenceError(f"{steps} steps led to weights {name!r} that are not finite; lower the rate")
            own[name].copy_(value)
    return tuned.eval()


def with_statistics(model: nn.Module, x: Tensor | Sequence[Tensor]) -> nn.Module:
    """Return the network with the batch-norm moments of a domain, from its inputs alone.

    Args:
        model: a network with batch norm that keeps running moments.
        x: inputs `[n, ...]`, or batches of them, which count alike.

    Raises:
        ConfigError: if there is no such layer: other norms keep no moments of a domain.

    Example:
        >>> net = nn.BatchNorm1d(1)
        >>> with_statistics(net, torch.tensor([[1.0], [3.0]])).running_mean
        tensor([2.])

    References:
        Li et al. 2017, Revisiting Batch Normalization for Practical Domain Adaptation (arXiv:1603.04779).
    """
    tuned = copy.deepcopy(model)
    layers: list[Any] = [m for m in tuned.modules() if isinstance(m, NORMS[0]) and m.track_running_stats]
    if not layers or not batch_norm_layers(tuned):
        raise ConfigError(
            f"{type(model).__name__} has no batch norm with running moments, so that there are none of a domain to put "
            "in; take fine_tuned, or a network with nn.BatchNorm2d"
        )
    tuned.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain average over batches
        layer.train()
    with torch.no_grad():
        for batch in [x] if isinstance(x, Tensor) else x:
            tuned(batch)
    for layer, old in zip(layers, [m for m in model.modules() if isinstance(m, NORMS[0]) and m.track_running_stats],
                          strict=True):  # fmt: skip
        layer.momentum = old.momentum
    return tuned.eval()


def with_entropy(
    model: nn.Module, x: Tensor, *, steps: int = 10, rule: Rule | None = None, loss: Loss | None = None
) -> nn.Module:
    """Return the network with scales and shifts of its norms moved so that its answers on a domain are surer.

    Args:
        model: a classifier with batch, group or layer norm.
        x: inputs of the domain, `[n, ...]`.
        steps: gradient steps.
        rule: the update rule; default `SGD(0.05)`.
        loss: without labels; default `Entropy()`.

    Raises:
        ConfigError: if the network has no norm with scale and shift.

    References:
        Wang et al. 2021, Tent (arXiv:2006.10726).
    """
    chosen = norm_parameters(model)
    return fine_tuned(model, Entropy() if loss is None else loss, lambda j: x, steps=steps, rule=rule, select=chosen)


def norm_parameters(model: nn.Module) -> list[str]:
    """Return the names of the scales and shifts of a network's norms.

    Raises:
        ConfigError: if there are none.

    Example:
        >>> norm_parameters(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))
        ['1.weight', '1.bias']
    """
    found = [
        f"{name}.{own}" if name else own
        for name, module in model.named_modules()
        if isinstance(module, NORMS)
        for own, _ in module.named_parameters(recurse=False)
    ]
    if not found:
        raise ConfigError(
            f"{type(model).__name__} has no norm with scale and shift, which this adapts; take fine_tuned with another "
            "selection"
        )
    return found
