"""Fully connected networks of the papers."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from fastadapt.errors import ConfigError

Activation = Literal["relu", "tanh", "softplus"]
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "softplus": nn.Softplus}


class MLP(nn.Module):
    """Stack linear layers, each but the last followed by a batch norm (optional) and an activation.

    MAML's sinusoid network is `MLP(1, (40, 40), 1)`; its "no conv" Omniglot network is
    `MLP(784, (256, 128, 64, 64), ways, norm=True)`. Inputs are flattened from the second axis on.

    Args:
        inputs: features of one sample.
        hidden: widths of the hidden layers.
        outputs: outputs of one sample; None leaves the last layer out, and the output is the last hidden layer's.
        activation: what follows each hidden layer: "relu", "tanh" or "softplus".
        norm: put a batch norm with a learned shift and no scale before each activation, as MAML's code does.
        init_std: standard deviation of the weights' normal distribution, cut at two deviations, with zero
            biases (MAML: 0.01); None keeps PyTorch's own initialisation.

    Raises:
        ConfigError: for an unknown activation or a width below 1.

    Example:
        >>> import torch
        >>> MLP(1, (40, 40), 1)(torch.zeros(10, 1)).shape
        torch.Size([10, 1])

    References:
        Finn, Abbeel, Levine 2017 (arXiv:1703.03400), sections 5.1 and A.1.
    """

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        outputs: int | None,
        *,
        activation: Activation = "relu",
        norm: bool = False,
        init_std: float | None = 0.01,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ConfigError(f"activation must be one of {sorted(ACTIVATIONS)}, got {activation!r}")
        if min([inputs, 1 if outputs is None else outputs, *hidden]) < 1:
            raise ConfigError(f"every width must be at least 1, got {[inputs, *hidden, outputs]}")
        self.body = nn.Sequential()
        width = inputs
        for size in hidden:
            self.body.append(nn.Linear(width, size))
            if norm:
                self.body.append(shift_only(nn.BatchNorm1d(size, eps=1e-3)))
            self.body.append(ACTIVATIONS[activation]())
            width = size
        self.head = None if outputs is None else nn.Linear(width, outputs)
        if init_std is not None:
            for layer in self.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.trunc_normal_(layer.weight, std=init_std, a=-2 * init_std, b=2 * init_std)
                    nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return `[n, outputs]`, or the last hidden layer, for `x: [n, ...]` with `inputs` features in all."""
        features = self.body(x.flatten(1))
        return features if self.head is None else self.head(features)


def shift_only(layer: nn.Module) -> nn.Module:
    """Return a batch-norm layer without its learned scale, as TensorFlow's default (`center` without `scale`)."""
    layer.register_parameter("weight", None)
    return layer
