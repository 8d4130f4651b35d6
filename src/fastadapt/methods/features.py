"""Features of a backbone that is left as it is: computed in evaluation mode, some hundreds of samples at a time."""

import logging
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from fastadapt.errors import ConfigError, TaskError
from fastadapt.layers.norm import Norm, batch_norm_layers
from fastadapt.layers.turns import turn
from fastadapt.methods.gradient import evaluating

ROWS = 512
"""Samples that go through a backbone at once: bounds memory."""
logger = logging.getLogger("fastadapt")


def features_of(model: nn.Module, x: Tensor) -> Tensor:
    """Return the features `[n, d]` of samples `[n, ...]`, some hundreds at a time, in evaluation mode.

    Raises:
        TaskError: if the backbone gives something else than a row of numbers for each sample.
    """
    with evaluating(model):
        return torch.cat([_flat(model(some), len(some), model) for some in x.split(ROWS)])


@torch.no_grad()
def mean_feature(model: nn.Module, images: Tensor | Iterable[Tensor]) -> Tensor:
    """Return the mean of a backbone's features over samples: the `centre` of a head, as SimpleShot takes it.

    Args:
        model: the backbone, run in evaluation mode and left as it is.
        images: samples of the training classes, `[n, ...]`, or batches of them.

    Returns:
        `[d]`.

    Raises:
        TaskError: if there is no sample, or the backbone gives no features.

    Example:
        >>> mean_feature(nn.Identity(), torch.tensor([[1.0, 0.0], [3.0, 4.0]]))
        tensor([2., 2.])

    References:
        Wang, Chao, Weinberger, van der Maaten 2019 (arXiv:1911.04623).
    """
    total, count = None, 0
    with turn(model):
        for batch in [images] if isinstance(images, Tensor) else images:
            if len(batch):
                found = features_of(model, batch).double().sum(0)
                total = found if total is None else total + found
                count += len(batch)
    if total is None:
        raise TaskError("there are no samples to take the mean feature of; give images of the training classes")
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())
    return (total / count).to(dtype)


def _flat(features: Any, samples: int, model: nn.Module) -> Tensor:
    if not isinstance(features, Tensor) or features.dim() < 2 or len(features) != samples:
        got = f"shape {tuple(features.shape)}" if isinstance(features, Tensor) else f"a {type(features).__name__}"
        raise TaskError(
            f"a backbone gives features [n, ...] of n samples, and {type(model).__name__} returned {got} for {samples}"
            "; wrap it in a module that returns one row of numbers for each sample"
        )
    if not features.is_floating_point():
        raise TaskError(f"a backbone gives features in floating point, and {type(model).__name__} {features.dtype}")
    return features.flatten(1)


def check_averages(model: nn.Module) -> None:
    """Refuse batch norm that has no averages, and say so where those it has were never fed.

    Raises:
        ConfigError: for a layer that would normalise the queries of a task together.
    """
    layers = batch_norm_layers(model)
    for name, layer in layers.items():
        if layer.running_mean is None or layer.running_var is None:
            raise ConfigError(
                f"the backbone's layer {name!r} has track_running_stats=False, so that it would normalise each batch "
                "by itself and a query's answer depend on the others; build it with True and feed its averages"
            )
    fed = [bool(layer.running_mean.any() or (layer.running_var != 1).any()) for layer in layers.values()]  # type: ignore[union-attr]
    if layers and not any(fed):
        logger.warning(
            "the backbone's batch norm has the averages it was built with (mean 0, variance 1), and a frozen backbone "
            "answers by them; if it was trained, feed them with torch.optim.swa_utils.update_bn(batches, model)"
        )


def check_norm(norm: Norm | None, method: str) -> None:
    """Refuse a batch-norm mode in which a backbone that is left as it is can't answer.

    Raises:
        ConfigError: for any but "running" and None.
    """
    if norm not in (None, "running"):
        raise ConfigError(
            f"norm={norm!r} was asked of {method}, whose backbone is left as it is: its batch norm answers by its "
            "averages; choose norm='running', or None"
        )
