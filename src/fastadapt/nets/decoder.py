"""A small language model: a transformer that reads symbols and says at each what comes next."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastadapt.errors import ConfigError


class Block(nn.Module):
    """Let each place look at those before it, then compute on its own; normalised first, added to what came in.

    Args:
        width: numbers at a place.
        heads: attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.gather = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, h: Tensor) -> Tensor:
        """Return `[n, length, width]` for the same."""
        parts = self.attend(self.before(h)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], is_causal=True)
        h = h + self.gather(seen.transpose(1, 2).flatten(2))
        return h + self.down(F.gelu(self.up(self.between(h))))


class Decoder(nn.Module):
    """Say at each place of a text which symbol comes next (a decoder-only transformer).

    Symbols and places have learned vectors of `width` numbers, which are added; `depth` blocks of causal attention and
    a network of one hidden layer (4 `width`, GELU) follow, each normalised first; then a layer norm and a linear head.
    There is no dropout and no batch norm.

    Args:
        symbols: of the alphabet, >= 2.
        context: places that it can read at once.
        width: numbers at a place, a multiple of `heads`.
        depth: blocks.
        heads: attention heads of a block.

    Raises:
        ConfigError: for a setting outside its range; when it runs, for texts that are longer than the context.

    Example:
        >>> net = Decoder(112, context=64)
        >>> net(torch.zeros(2, 64, dtype=torch.long)).shape, sum(p.numel() for p in net.parameters())
        (torch.Size([2, 112, 64]), 118640)

    References:
        Radford et al. 2019, Language Models are Unsupervised Multitask Learners, whose order of layers it has.
    """

    def __init__(self, symbols: int, *, context: int = 64, width: int = 64, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        if min(context, width, depth, heads) < 1 or symbols < 2 or width % heads:
            raise ConfigError(
                "Decoder needs at least 2 symbols, other numbers >= 1 and a width that is a multiple of the heads, got "
                f"symbols={symbols}, context={context}, width={width}, depth={depth} and heads={heads}"
            )
        self.symbols = nn.Embedding(symbols, width)
        self.places = nn.Parameter(torch.empty(context, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, symbols)
        for table in (self.symbols.weight, self.places):
            nn.init.normal_(table, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[n, symbols, length]`, classes being axis 1, for symbols `[n, length]` of whole numbers."""
        if x.shape[-1] > len(self.places):
            raise ConfigError(
                f"this Decoder reads {len(self.places)} symbols at once, and the text has {x.shape[-1]}; cut it into "
                "shorter ones, or give a larger context"
            )
        h = self.symbols(x) + self.places[: x.shape[-1]]
        return self.head(self.norm(self.blocks(h))).transpose(-1, -2)
