"""A network of sines, which is one picture, sound or volume: position -> value."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from fastadapt.errors import ConfigError


class Sine(nn.Module):
    r"""Return `sin(w0 h)`.

    Args:
        w0: the frequency, omega_0.
    """

    def __init__(self, w0: float) -> None:
        super().__init__()
        self.w0 = w0

    def forward(self, h: Tensor) -> Tensor:
        """Return the sine of `w0 h`, in the shape of `h`."""
        return torch.sin(self.w0 * h)

    def extra_repr(self) -> str:
        """Return what is shown of it."""
        return f"w0={self.w0:g}"


class Siren(nn.Module):
    r"""Stack linear layers, each but the last followed by a sine (SIREN).

        h_1 = sin(w_1 (W_1 x + b_1)),      h_l = sin(w_0 (W_l h_{l-1} + b_l)),      f(x) = W h + b + shift

    Weights and biases begin uniform, `U(-1/n, 1/n)` in the first layer of n inputs and
    `U(-sqrt(6/n)/w_0, sqrt(6/n)/w_0)` in the others. So for x in [-1, 1] what enters each further sine has deviation 1,
    whatever the depth, and w_1 alone says how fine a detail the network begins with. It belongs to the coordinates:
    `w_1` on [0, 1] is `w_1 / 2` on [-1, 1]. 30 is right for pictures of 64 pixels a side; a sound of 1,000 samples
    needs hundreds.

    Args:
        inputs: coordinates of a point, d.
        width: units of a hidden layer.
        depth: hidden layers, >= 1.
        outputs: numbers at a point.
        w0: `w_0`, of the hidden layers behind the first, > 0.
        first_w0: `w_1`, of the first; None takes `w0`.
        output_shift: added to the output: 0.5 for values 0..1, 0 for sound.

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> net = Siren(2, 128, 4, 3)
        >>> net(torch.zeros(10, 2)).shape, sum(p.numel() for p in net.parameters())
        (torch.Size([10, 3]), 50307)

    References:
        Sitzmann, Martel, Bergman, Lindell, Wetzstein 2020, Implicit Neural Representations with Periodic Activation
        Functions (arXiv:2006.09661); with biases as Tancik et al. 2021 (arXiv:2012.02189) begin them.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        depth: int,
        outputs: int,
        *,
        w0: float = 30.0,
        first_w0: float | None = None,
        output_shift: float = 0.5,
    ) -> None:
        super().__init__()
        if min(inputs, width, depth, outputs) < 1:
            raise ConfigError(
                f"Siren needs inputs, width, depth and outputs of at least 1, got {inputs}, {width}, {depth}, {outputs}"
            )
        first = w0 if first_w0 is None else first_w0
        if not (0 < w0 < float("inf") and 0 < first < float("inf")):
            raise ConfigError(f"the frequencies of Siren must be finite and > 0, got w0={w0}, first_w0={first_w0}")
        self.body = nn.Sequential()
        self.output_shift = output_shift
        for n, m in pairwise((inputs, *[width] * depth)):
            known = len(self.body) > 0
            self.body.append(_uniform(nn.Linear(n, m), (6 / n) ** 0.5 / w0 if known else 1 / n))
            self.body.append(Sine(w0 if known else first))
        self.head = _uniform(nn.Linear(width, outputs), (6 / width) ** 0.5 / w0)

    def features(self, x: Tensor) -> Tensor:
        """Return the last hidden layer, `[n, width]`, at positions `[n, inputs]`."""
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        """Return values `[n, outputs]` at positions `[n, inputs]`."""
        return self.head(self.body(x)) + self.output_shift


def _uniform(layer: nn.Linear, bound: float) -> nn.Linear:
    nn.init.uniform_(layer.weight, -bound, bound)
    nn.init.uniform_(layer.bias, -bound, bound)
    return layer
