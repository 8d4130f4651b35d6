"""Move the weights on the device, where all is finite, and say which it was without asking the host."""

from typing import Any

import torch
from torch import Tensor, nn

from fastadapt.training.blame import gradient_norm
from fastadapt.training.settings import Training


def updated(
    loss: Tensor,
    params: list[nn.Parameter],
    buffers: list[Tensor],
    before: list[Tensor],
    optimizer: torch.optim.Optimizer,
    training: Training,
) -> tuple[Tensor, Tensor]:
    """Move the weights where all is finite, else put the buffers back; return which, and the gradient's norm."""
    gradient = gradient_norm([p.grad for p in params if p.grad is not None])
    finite = torch.isfinite(loss) & torch.isfinite(gradient)
    with torch.no_grad():
        for buffer, earlier in zip(buffers, before, strict=True):
            buffer.copy_(torch.where(finite, buffer, earlier))
    training.clip(params)
    flagged: Any = optimizer
    flagged.found_inf = (~finite).float()
    try:
        optimizer.step()
    finally:
        del flagged.found_inf
    return finite, gradient


def fixed(
    optimizer: torch.optim.Optimizer,
    params: list[nn.Parameter],
    buffers: list[Tensor],
    loss: Tensor,
    training: Training,
) -> Any:
    """Return what a recorded update has taken as fixed."""
    options = [
        {name: value.data_ptr() if isinstance(value, Tensor) else value for name, value in group.items()}
        for group in ({**group, "params": None} for group in optimizer.param_groups)
    ]
    states = [optimizer.state[p] for p in params if p in optimizer.state]
    moments = [value.data_ptr() for state in states for value in state.values() if isinstance(value, Tensor)]
    places = [tensor.data_ptr() for tensor in (*params, *buffers)]
    return options, places, moments, loss.dtype, training.clip_norm, training.clip_value
