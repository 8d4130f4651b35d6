"""An adapted model: an ordinary module, saved as safetensors and JSON, loadable without training code."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastadapt.layers.bound import Bound
from fastadapt.layers.copied import copied
from fastadapt.layers.norm import Moments, Norm, Statistics, batch_norm_layers
from fastadapt.layers.turns import turn


class Predictor(nn.Module):
    """Answer for one task: a copy of the network with the adapted parameters.

    Args:
        model: the adapted network; its batch-norm layers hold the running moments where `norm` needs them.
        norm: the batch-norm mode with which it answers. Under "transductive" the rows of one call share
            statistics, so an answer depends on the other rows; under every other mode it does not.
        moments: the support set's moments, one pair per batch-norm call ("support").
        beside: the support inputs ("support+query").
        details: what a person wants to know of it: labels, preprocessing, where it came from (JSON values).
    """

    def __init__(
        self,
        model: nn.Module,
        norm: Norm = "transductive",
        moments: Sequence[Moments] = (),
        beside: Tensor | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.norm: Norm = norm
        self.details = dict(details or {})
        self.layered = bool(batch_norm_layers(model))
        self.beside: Tensor | None
        self.register_buffer("beside", beside if norm == "support+query" and self.layered else None)
        self.calls = len(moments)
        for i, (mean, variance) in enumerate(moments):
            self.register_buffer(f"support_mean_{i}", mean)
            self.register_buffer(f"support_var_{i}", variance)

    @property
    def labels(self) -> list[str] | None:
        """The class names in the order of the outputs, None where they are not known."""
        return self.details.get("labels")

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the adapted network's output, `[n, ...]` for an input `[n, ...]`."""
        given = [(getattr(self, f"support_mean_{i}"), getattr(self, f"support_var_{i}")) for i in range(self.calls)]
        statistics = Statistics(given=given or None, running=self.norm in ("running", "per_step"))
        buffers = dict(self.model.named_buffers())
        rows = not torch.is_grad_enabled()
        with turn(self.model):
            bound = Bound(self.model, dict(self.model.named_parameters()), buffers, statistics, self.beside, rows)
            return bound(*args, **kwargs)


def frozen_copy(model: nn.Module, params: dict[str, Tensor], buffers: dict[str, Tensor]) -> nn.Module:
    """Return a copy of `model`, in evaluation mode, with other values of its parameters and buffers."""
    twin = copied(model)
    own_params, own_buffers = dict(twin.named_parameters()), dict(twin.named_buffers())
    with torch.no_grad():
        for name, value in params.items():
            own_params[name].copy_(value)
        for name, value in buffers.items():
            own_buffers[name].copy_(value)
    return twin.eval()
