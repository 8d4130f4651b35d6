"""What a small language model writes, and how surprised it is by what others wrote."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def written(net: nn.Module, begun: Tensor, count: int, context: int, temperature: float, seed: int = 0) -> Tensor:
    """Return symbols that a model writes after those that were begun, `[count]`.

    Args:
        net: gives logits `[1, symbols, length]` for symbols `[1, length]`.
        begun: symbols to go on from, `[n]`, n >= 1.
        count: how many.
        context: symbols that it reads at most.
        temperature: > 0; the lower, the more often the likeliest.
        seed: of what is drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    text = begun.cpu()
    device = next(net.parameters()).device
    for _ in range(count):
        with torch.no_grad():
            logits = net(text[-context:].unsqueeze(0).to(device))[0, :, -1]
        chances = (logits / temperature).softmax(0).cpu()
        text = torch.cat([text, torch.multinomial(chances, 1, generator=generator)])
    return text[len(begun) :]


def surprise(net: nn.Module, text: Tensor, start: int, end: int, context: int) -> Tensor:
    """Return the bits of each symbol `start .. end-1` of a text, given up to `context` before it, `[end - start]`."""
    device = next(net.parameters()).device
    bits = []
    for i in range(start, end):
        with torch.no_grad():
            logits = net(text[max(0, i - context) : i].unsqueeze(0).to(device))[0, :, -1]
        bits.append(F.cross_entropy(logits, text[i].to(device)).cpu() / math.log(2))
    return torch.stack(bits)
