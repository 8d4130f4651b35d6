"""A small transformer that classifies sequences, with attention as torch has it."""

import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Attention and a feed-forward layer, each on the normalised sum so far."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Return the sequences `[n, length, width]` one layer on."""
        parts = self.mix(self.norms[0](x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(parts[0], parts[1], parts[2])
        x = x + self.out(mixed.transpose(1, 2).flatten(-2))
        return x + self.feed(self.norms[1](x))


class Transformer(nn.Module):
    """Classify `[n, length, features]` into `ways` classes."""

    def __init__(self, features: int = 16, width: int = 128, heads: int = 4, depth: int = 4, ways: int = 5) -> None:
        super().__init__()
        self.enter, self.head = nn.Linear(features, width), nn.Linear(width, ways)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits `[n, ways]`."""
        return self.head(self.blocks(self.enter(x)).mean(1))
