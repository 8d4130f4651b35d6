"""The network of SNAIL: attention and dilated convolutions over a sequence, none of which looks ahead."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastadapt.errors import ConfigError

State = dict[str, Tensor]


class DenseBlock(nn.Module):
    r"""Put a gated convolution over this element and one `dilation` before it beside the input.

        z_t = W_0 x_{t - d} + W_1 x_t + b,      y_t = [x_t, tanh(z_t^a) * sigmoid(z_t^b)]      (x_t = 0 for t < 0)

    Args:
        inputs: numbers of an element, C.
        filters: numbers that are put beside them, F.
        dilation: elements between the two, d.

    Example:
        >>> DenseBlock(3, 4, 2)(torch.zeros(5, 3)).shape
        torch.Size([5, 7])
    """

    def __init__(self, inputs: int, filters: int, dilation: int) -> None:
        super().__init__()
        self.inputs, self.dilation = inputs, dilation
        self.taps = nn.Linear(2 * inputs, 2 * filters)

    def forward(self, x: Tensor) -> Tensor:
        """Return `[..., L, C + F]` for a sequence `[..., L, C]`."""
        return self.read(x)[0]

    def read(self, x: Tensor) -> tuple[Tensor, State]:
        """Return the output for a sequence `[..., L, C]`, and what `step` needs of it: one element."""
        padded = F.pad(x, (0, 0, self.dilation, 0))
        length = x.shape[-2]
        return self._joined(x, padded[..., :length, :]), {"past": padded[..., length : length + 1, :]}

    def step(self, x: Tensor, state: State) -> Tensor:
        """Return the outputs of `n` elements, each of which comes next, `[..., n, C] -> [..., n, C + F]`."""
        return self._joined(x, state["past"])

    def _joined(self, x: Tensor, before: Tensor) -> Tensor:
        first, second = self.taps.weight.split(self.inputs, 1)
        values, gates = (F.linear(x, second, self.taps.bias) + F.linear(before, first)).chunk(2, -1)
        return torch.cat((x, values.tanh() * gates.sigmoid()), -1)


class CausalAttention(nn.Module):
    r"""Put what an element finds in those before it, and in itself, beside the input.

        y_t = [x_t, sum_{s <= t} softmax_s(q_t . k_s / sqrt(K)) v_s],      q, k, v affine in x

    Args:
        inputs: numbers of an element, C.
        keys: numbers of a key, K.
        values: numbers of a value, V.

    Example:
        >>> CausalAttention(3, 4, 2)(torch.zeros(5, 3)).shape
        torch.Size([5, 5])
    """

    def __init__(self, inputs: int, keys: int, values: int) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(inputs, keys), nn.Linear(inputs, keys), nn.Linear(inputs, values)
        self.scale = 1 / math.sqrt(keys)

    def forward(self, x: Tensor) -> Tensor:
        """Return `[..., L, C + V]` for a sequence `[..., L, C]`."""
        return self.read(x)[0]

    def read(self, x: Tensor) -> tuple[Tensor, State]:
        """Return the output for a sequence `[..., L, C]`, and what `step` needs of it: keys and values."""
        keys, values = self.key(x), self.value(x)
        later = torch.ones(x.shape[-2], x.shape[-2], dtype=torch.bool, device=x.device).triu(1)
        fit = self.scale * self.query(x) @ keys.transpose(-1, -2)
        found = fit.masked_fill(later, -math.inf).softmax(-1) @ values
        return torch.cat((x, found), -1), {"keys": keys, "values": values}

    def step(self, x: Tensor, state: State) -> Tensor:
        """Return the outputs of `n` elements, each of which comes next, `[..., n, C] -> [..., n, C + V]`."""
        query = self.scale * self.query(x)
        own = (query * self.key(x)).sum(-1, keepdim=True)
        weights = torch.cat((query @ state["keys"].transpose(-1, -2), own), -1).softmax(-1)
        found = weights[..., :-1] @ state["values"] + weights[..., -1:] * self.value(x)
        return torch.cat((x, found), -1)


class Snail(nn.Module):
    r"""Read a sequence by attention and temporal convolutions in turn, `[..., L, C] -> [..., L, N]`.

    Attention, convolutions, attention, convolutions, attention, and a linear layer; each puts its output beside its
    input. The convolutions between two attentions are `DenseBlock`s of dilation 1, 2, 4, ..., `2^ceil(log2 T)`.

    Args:
        inputs: numbers of an element, C.
        outputs: numbers of an output, N.
        length: elements of the sequences that it is for, T: how far the convolutions reach. Others are read as well.
        filters: of each convolution.
        attention: numbers of a key and of a value of each attention.

    Raises:
        ConfigError: if a number is below 1.

    Example:
        >>> net = Snail(69, 5, 6)
        >>> net(torch.zeros(2, 6, 69)).shape
        torch.Size([2, 6, 5])

    References:
        Mishra, Rohaninejad, Chen, Abbeel 2018, A Simple Neural Attentive Meta-Learner (arXiv:1707.03141).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        length: int,
        *,
        filters: int = 128,
        attention: Sequence[tuple[int, int]] = ((64, 32), (256, 128), (512, 256)),
    ) -> None:
        super().__init__()
        if min([inputs, outputs, length, filters, *(size for sizes in attention for size in sizes)]) < 1:
            raise ConfigError(
                f"Snail needs inputs, outputs, length, filters and attention >= 1, got {inputs}, {outputs}, {length}, "
                f"{filters} and {tuple(attention)}"
            )
        blocks: list[DenseBlock | CausalAttention] = []
        width = inputs
        for place, (keys, values) in enumerate(attention):
            for dilation in dilations(length) if place else ():
                blocks.append(DenseBlock(width, filters, dilation))
                width += filters
            blocks.append(CausalAttention(width, keys, values))
            width += values
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output at each element of a sequence, which no later one changes, `[..., L, N]`."""
        for block in self.blocks:
            x = block(x)
        return self.head(x)

    def read(self, x: Tensor) -> State:
        """Return what `step` needs of a sequence `[..., L, C]`."""
        state: State = {}
        for place, block in enumerate(self.blocks):
            x, own = block.read(x)  # type: ignore[operator]
            state |= {f"{name}_{place}": value for name, value in own.items()}
        return state

    def step(self, x: Tensor, state: State) -> Tensor:
        """Return the output of `n` elements, each of which comes next by itself, `[..., n, C] -> [..., n, N]`."""
        for place, block in enumerate(self.blocks):
            names = ("past",) if isinstance(block, DenseBlock) else ("keys", "values")
            x = block.step(x, {name: state[f"{name}_{place}"] for name in names})  # type: ignore[operator]
        return self.head(x)


def dilations(length: int) -> list[int]:
    """Return 1, 2, 4, ... up to the first power of two that is no shorter than a sequence.

    Example:
        >>> dilations(6), dilations(1)
        ([1, 2, 4, 8], [1])
    """
    return [2**power for power in range((length - 1).bit_length() + 1)]
