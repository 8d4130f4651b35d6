"""Batch normalisation inside a task, made explicit: whose mean and variance normalise what.

MAML's published numbers normalise all queries of a task together (*transductive*), Reptile's put one
query beside the support set, and a model that serves single requests can do neither. So the choice is a
named mode, recorded with every result:

* "transductive": support and query are each normalised by their own batch. A query's answer depends on
  the other queries.
* "support": queries are normalised by the statistics of the support set, computed with the adapted weights.
* "support+query": each query is forwarded alone, beside the whole support set.
* "running": batch statistics in training, which also feed one running average that is used in evaluation.
* "per_step": as running, with one running average for each inner step (MAML++).

References:
    Finn et al. 2017 (arXiv:1703.03400); Nichol et al. 2018 (arXiv:1803.02999); Antoniou et al. 2019
    (arXiv:1810.09502); Bronskill et al. 2020 (arXiv:2003.03284) on transductive normalisation.
"""

import copy
import logging
from collections.abc import Callable
from functools import cache
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fastadapt.errors import ConfigError, TaskError
from fastadapt.layers import slopes
from fastadapt.layers.forms import few_kernels
from fastadapt.layers.standardise import per_channel, standardise
from fastadapt.layers.tracing import is_for

Norm = Literal["transductive", "support", "support+query", "running", "per_step"]
Moments = tuple[Tensor, Tensor]
logger = logging.getLogger("fastadapt")


def check_norm(norm: str) -> None:
    """Raise `ConfigError` unless `norm` is a mode that exists."""
    if norm not in get_args(Norm):
        raise ConfigError(f"norm must be one of {', '.join(map(repr, get_args(Norm)))}; got {norm!r}")


def batch_norm_layers(model: nn.Module) -> dict[str, _BatchNorm]:
    """Return the batch-norm layers of `model` by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, _BatchNorm)}


def check_batch(x: Tensor) -> None:
    """Raise `TaskError` unless `x: [n, C, ...]` has more than one value per channel."""
    if x.numel() == x.shape[1]:
        raise TaskError(
            "batch statistics of a single value per channel are meaningless (its variance is 0): "
            "pass more than one sample, or choose norm='support' or norm='running'"
        )


def batch_moments(x: Tensor) -> Moments:
    """Return mean and biased variance of each channel of `x: [n, C, ...]`."""
    variance, mean = torch.var_mean(x, [d for d in range(x.dim()) if d != 1], correction=0)
    return mean, variance


def normalise(x: Tensor, moments: Moments, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Return `(x - mean) / sqrt(var + eps) * weight + bias`, written out in elementary operations.

    Written out because the library's fused form gives a wrong gradient for weight and bias when a
    gradient is taken from outside of a vmap (3e-3 relative in torch 2.13), and has the slower second derivative.
    """
    shape = [1, -1] + [1] * (x.dim() - 2)
    mean, variance = moments
    scale = torch.rsqrt(variance + eps)
    if weight is not None:
        scale = scale * weight
    y = (x - mean.view(shape)) * scale.view(shape)
    return y if bias is None else y + bias.view(shape)


def scale_and_shift(z: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Return `z * weight + bias` for each channel of `z: [n, C, ...]`."""
    if few_kernels(z) and weight is not None and bias is not None:
        shape = [1, -1] + [1] * (z.dim() - 2)
        return torch.addcmul(bias.view(shape), z, weight.view(shape))
    y = z if weight is None else z * per_channel(weight, z)
    return y if bias is None else y + per_channel(bias, z)


def normalise_by_batch(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Return `x: [n, C, ...]` normalised by its own moments, scaled and shifted."""
    if slopes.wanted():
        return normalise(x, batch_moments(x), weight, bias, eps)
    if is_for("autograd"):
        # the library's kernel is the fastest here, but without a scale it has no second derivative
        scale = weight if weight is not None else x.new_ones(x.shape[1])
        return F.batch_norm(x, None, None, scale, bias, True, 0.0, eps)
    return scale_and_shift(standardise(x, eps), weight, bias)


def check_held(model: nn.Module) -> None:
    """Refuse a network in training mode of which a batch-norm layer is kept in evaluation mode.

    What a layer normalises with is said by `norm`; its running moments, which torch would take, are not used.

    Raises:
        TaskError: names the layer.
    """
    for name, layer in batch_norm_layers(model).items() if model.training else ():
        if not layer.training and layer.running_mean is not None:
            raise _held_in_eval(name)


def _held_in_eval(name: str) -> TaskError:
    return TaskError(
        f"batch-norm layer {name!r} is kept in evaluation mode in a network that trains, so torch would normalise with "
        "its running moments, and a learner with what norm= says; to keep the moments fixed write a module whose "
        "forward is F.batch_norm(x, self.mean, self.var, self.weight, self.bias, training=False), with mean and var as "
        "buffers (or torchvision.ops.FrozenBatchNorm2d); else leave the layer in training mode"
    )


@cache
def _tell_untracked() -> None:
    logger.warning(
        "F.batch_norm is called with training=True and running moments by something that is no nn.BatchNorm layer: it "
        "normalises with the batch, and what it would write to the moments is dropped, so don't use them later "
        "(training=False); derive the layer from nn.BatchNorm1d or 2d, and norm= says what it does"
    )


class Statistics:
    """Decide with which moments each batch-norm call of one forward pass normalises, and keep them.

    Args:
        given: moments to use, one pair for each batch-norm call in order; None takes the batch's own.
        running: use the running moments that the layer holds.
        feeds: keep the batch's moments in `fed`, for the running averages.
        to_give: keep the batch's own moments such that they can be differentiated, to give them to another pass.
    """

    written_out = False
    """Whether norms are written out, for a loss that differentiates the network, see `fastadapt.layers.slopes`."""

    def __init__(
        self, given: list[Moments] | None = None, running: bool = False, feeds: bool = False, to_give: bool = False
    ) -> None:
        self.given = given
        self.running = running
        self.feeds = feeds
        self.to_give = to_give
        self.restart({})

    def restart(self, names: dict[int, str], training: bool = False) -> None:
        """Begin another forward pass.

        Args:
            names: maps the id of a running mean to the name of the layer that owns it.
            training: whether the network is in training mode.
        """
        self.names, self.training = names, training
        self.moments: list[Moments] = []
        self.fed: dict[str, Moments] = {}
        self.places: dict[Any, list[int]] = {}

    def again(self) -> "Statistics":
        """Return statistics for parts of that pass that a backward pass runs once more, in any order."""
        return _Again(self)

    def _layer(self, running_mean: Tensor | None, weight: Tensor | None) -> Any:
        """Return what tells the layer of a call: its name, or else the tensor that scales it."""
        return self.names.get(id(running_mean), id(weight) if weight is not None else None)

    def _given(self, layer: Any) -> Moments:
        """Return the given moments of the next call."""
        assert self.given is not None
        return self.given[len(self.moments) % len(self.given)]

    def batch_norm(
        self,
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        """Replace `torch.nn.functional.batch_norm` for one call.

        A call that is no layer's and gives moments to normalise with (`training=False`) is what torch computes.

        Raises:
            TaskError: if the layer is in evaluation mode in a network that is in training mode.
        """
        if running_mean is not None and running_var is not None:
            if id(running_mean) not in self.names:
                if not training:
                    return normalise(x, (running_mean, running_var), weight, bias, eps)
                _tell_untracked()
            elif self.training and not training and not self.running:
                raise _held_in_eval(self.names[id(running_mean)])
        layer = self._layer(running_mean, weight)
        if self.given is not None:
            moments = self._given(layer)
            y = normalise(x, moments, weight, bias, eps)
        elif self.running and running_mean is not None and running_var is not None:
            moments = (running_mean, running_var)
            y = normalise(x, moments, weight, bias, eps)
        else:
            check_batch(x)
            if self.to_give:
                moments = batch_moments(x)
                y = normalise(x, moments, weight, bias, eps)
            else:
                moments = batch_moments(x.detach()) if self.feeds else (x, x)  # nobody looks at the latter
                y = normalise_by_batch(x, weight, bias, eps)
            if self.feeds and id(running_mean) in self.names:
                count = x.numel() // x.shape[1]
                unbiased = moments[1].detach() * (count / (count - 1))
                self.fed[self.names[id(running_mean)]] = (moments[0].detach(), unbiased)
        self._keep(layer, moments)
        return y

    def _keep(self, layer: Any, moments: Moments) -> None:
        self.places.setdefault(layer, []).append(len(self.moments))
        self.moments.append(moments)


class _Again(Statistics):
    """Normalise as in an earlier pass, of which this runs a part again; nothing is kept of it."""

    def __init__(self, first: Statistics) -> None:
        super().__init__(first.given, first.running, False, first.to_give)
        self.first, self.names = first, first.names
        self.training, self.written_out = first.training, first.written_out

    def _given(self, layer: Any) -> Moments:
        assert self.given is not None
        places = self.first.places.get(layer, [])
        if layer is None or len(places) != 1:
            raise TaskError(
                "a part of the model that is run again in the backward pass (checkpointed?) has a batch norm whose "
                "statistics can't be told from another's; give it affine parameters, call it once in a pass, or "
                "choose norm='transductive'"
            )
        return self.given[places[0] % len(self.given)]

    def _keep(self, layer: Any, moments: Moments) -> None:
        pass


class RunningMoments(nn.Module):
    """Hold the running mean and variance of every batch-norm layer, for one or several inner steps.

    They belong to the learner, so the user's module is never changed.

    Args:
        model: the module whose layers are followed; it supplies the first values and the momenta.
        slots: 1 for "running"; inner steps + 1 for "per_step" (slot `j` follows the weights after `j` steps).

    Raises:
        ConfigError: if a layer tracks no running statistics.
    """

    def __init__(self, model: nn.Module, slots: int) -> None:
        super().__init__()
        self.slots = slots
        self.names = tuple(batch_norm_layers(model))
        self.momenta: dict[str, float | None] = {}
        for i, (name, layer) in enumerate(batch_norm_layers(model).items()):
            if layer.running_mean is None or layer.running_var is None:
                raise ConfigError(
                    f"norm='running' and 'per_step' need layers that track statistics, but {name!r} has "
                    "track_running_stats=False; build it with True or choose another norm"
                )
            self.momenta[name] = layer.momentum
            self.register_buffer(f"mean_{i}", layer.running_mean.detach().repeat(slots, 1))
            self.register_buffer(f"var_{i}", layer.running_var.detach().repeat(slots, 1))
        self.updates: Tensor
        self.register_buffer("updates", torch.zeros(slots, dtype=torch.long))

    def tensors(self) -> dict[str, Tensor]:
        """Return the buffers as `{layer.running_mean: [slots, C], ...}`."""
        out = {}
        for i, name in enumerate(self.names):
            out[f"{name}.running_mean"] = getattr(self, f"mean_{i}")
            out[f"{name}.running_var"] = getattr(self, f"var_{i}")
        return out

    @torch.no_grad()
    def absorb(self, slot: int, seen: dict[str, Moments]) -> None:
        """Move slot `slot` towards the moments of `{layer: (mean, unbiased variance)}` of one batch."""
        slot = min(slot, self.slots - 1)
        self.updates[slot] += 1
        for i, name in enumerate(self.names):
            if name not in seen:
                continue
            momentum = self.momenta[name]
            rate = 1.0 / float(self.updates[slot]) if momentum is None else momentum
            for kind, new in zip(("mean", "var"), seen[name], strict=True):
                buffer = getattr(self, f"{kind}_{i}")
                buffer[slot] = torch.lerp(buffer[slot], new.to(buffer.dtype), rate)


class NormPlan:
    """Say which `Statistics` serve the support and the query of one task, for one mode.

    Args:
        mode: the batch-norm mode.
        training: whether running averages are fed (true) or used (false).
        running: the learner's running moments, as `RunningMoments.tensors()`; empty for other modes.
        slots: how many slots they have.
        layered: whether the model has batch-norm layers at all; without them nothing extra is computed.
    """

    def __init__(self, mode: Norm, training: bool, running: dict[str, Tensor], slots: int, layered: bool) -> None:
        self.mode: Norm = mode
        self.uses_running = mode in ("running", "per_step") and not training
        self.feeds_running = mode in ("running", "per_step") and training
        self.running = running
        self.slots = slots
        self.layered = layered

    def of(self, running: dict[str, Tensor]) -> "NormPlan":
        """Return the same plan with the running moments of the state that a computation is given."""
        plan = copy.copy(self)
        plan.running = {name: running[name] for name in self.running}
        return plan

    def buffers(self, buffers: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """Return `buffers` with the running moments that belong to inner step `step`."""
        slot = min(step, self.slots - 1)
        return {**buffers, **{name: value[slot] for name, value in self.running.items()}}

    def support(self) -> Statistics:
        """Return the statistics for a forward pass of the support set."""
        return Statistics(running=self.uses_running, feeds=self.feeds_running)

    def query(self, forward_support: Callable[[Statistics], Any]) -> Statistics:
        """Return the statistics for the query; `forward_support` is run where they come from the support."""
        if self.mode == "support" and self.layered:
            own = Statistics(to_give=True)
            forward_support(own)
            return Statistics(given=own.moments)
        return Statistics(running=self.uses_running, feeds=self.feeds_running)

    @property
    def beside_support(self) -> bool:
        """Whether each query is forwarded alone beside the support set."""
        return self.mode == "support+query" and self.layered
