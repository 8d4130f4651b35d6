"""Scale and shift of batch norm for each inner step: learned by the outer loop, never adapted (MAML++)."""

from glob import escape
from typing import Any

import torch
from torch import Tensor, nn

from fastadapt.inner.calculus import Params
from fastadapt.layers.bound import Bound
from fastadapt.layers.norm import Statistics, batch_norm_layers
from fastadapt.methods.loop import InnerLoop
from fastadapt.selection import Selection, select

_OF = "steps:"  # before the name of a parameter; no module can have it in a name of its own


def norm_parameters(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the trainable scales and shifts of batch norm.

    Example:
        >>> norm_parameters(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
        ('1.weight', '1.bias')
    """
    own = {id(p) for layer in batch_norm_layers(model).values() for p in layer.parameters() if p.requires_grad}
    return tuple(name for name, p in model.named_parameters() if id(p) in own)


def but_norms(model: nn.Module, adapt: Selection) -> Selection:
    """Return a selection without the scales and shifts of batch norm, as patterns over the names of now.

    Raises:
        SelectionError: if it selects nothing.
    """
    norms = set(norm_parameters(model))
    return tuple(escape(name) for name in select(model, adapt) if name not in norms)


class StepAffine(nn.Module):
    """Hold scale and shift of every batch-norm layer after 1, 2, ..., k inner steps, each beginning as the model's own.

    Before any step the model's own serve; after more than k steps those of the last.

    Args:
        model: the network.
        steps: inner steps k.
    """

    def __init__(self, model: nn.Module, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.names = norm_parameters(model)
        own = dict(model.named_parameters())
        self.values = nn.ParameterList(own[name].detach().repeat(steps, *[1] * own[name].dim()) for name in self.names)

    def tensors(self) -> Params:
        """Return the parameters by name, `{"steps:1.weight": [k, C], ...}`."""
        return {_OF + name: value for name, value in zip(self.names, self.values, strict=True)}

    def slot(self, step: int) -> Tensor:
        """Return which of the `k + 1` values serves after `step` inner steps, as a row with a 1."""
        rows = torch.zeros(self.steps + 1, dtype=self.values[0].dtype, device=self.values[0].device)
        rows[min(step, self.steps)] = 1.0
        return rows

    def at(self, params: Params, slot: Tensor) -> Params:
        """Return the parameters of the model alone, with those of batch norm that belong to `slot`."""
        out = {name: p for name, p in params.items() if not name.startswith(_OF)}
        for name in self.names:
            every = torch.cat((params[name].unsqueeze(0), params[_OF + name]))
            out[name] = torch.tensordot(slot, every, 1)
        return out


class StepAffineLoop(InnerLoop):
    """Run the model with the scales and shifts of the step under way; the arguments are those of `InnerLoop`."""

    learner: Any

    def constants(self, j: int) -> dict[str, Any]:
        """Return what `InnerLoop.constants` does, and which scales and shifts serve after `j` steps."""
        return {**super().constants(j), "slot": self.learner.step_affine.slot(j)}

    def bound(self, fixed: Any, constants: Any, theta: Params, statistics: Statistics, **options: Any) -> Bound:
        """Return the model with these parameters."""
        params = self.learner.step_affine.at({**constants["params"], **fixed["params"]}, constants["slot"])
        return super().bound({**fixed, "params": params}, {**constants, "params": {}}, theta, statistics, **options)
