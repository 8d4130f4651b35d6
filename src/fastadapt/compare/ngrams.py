"""Counts of what followed what: the rival of a small language model that costs no training."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fastadapt.errors import ConfigError


class WittenBell:
    r"""Predict the next symbol by counts of what followed the last few, shorter contexts standing in for rare ones.

        P_k(c | h_k) = (N(h_k c) + T(h_k) P_{k-1}(c | h_{k-1})) / (N(h_k) + T(h_k))         k = 0 .. order

    h_k are the last k symbols, N counts, and T(h) is how many different symbols followed h. Below k = 0 all symbols are
    equally likely, or `base` predicts: counts of a few pages then correct those of many other texts.

    Args:
        texts: of symbols, `[n]` of whole numbers; contexts don't reach from one into another.
        symbols: how many there are.
        order: symbols of the longest context, 0..8.
        base: what predicts where nothing was seen; None is uniform.

    Raises:
        ConfigError: for an order outside its range, or one whose contexts can't be numbered.

    Example:
        >>> model = WittenBell([torch.tensor([0, 1, 0, 1, 0])], symbols=2, order=1)
        >>> model.probabilities(torch.tensor([0, 1]), 1, 2)      # 1 after 0: 2 of 2 times
        tensor([0.8095], dtype=torch.float64)

    References:
        Witten, Bell 1991, The Zero-Frequency Problem; Chen, Goodman 1999, An Empirical Study of Smoothing Techniques.
    """

    def __init__(self, texts: Sequence[Tensor], symbols: int, order: int = 5, base: "WittenBell | None" = None) -> None:
        if not 0 <= order <= 8 or symbols < 2 or symbols ** (order + 1) >= 2**63:
            raise ConfigError(
                f"order must be 0..8, and contexts of {order} among {symbols} symbols have to be numbered by 63 bits; "
                "take a smaller order"
            )
        self.symbols, self.order, self.base = symbols, order, base
        read = [np.asarray(text, np.int64) for text in texts]
        self.levels = [self._counted([_keys(text, k, symbols, k) for text in read]) for k in range(order + 1)]

    def _counted(self, keys: list[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Return numbered pairs of context and symbol with their counts, and contexts with N and T."""
        every = np.concatenate(keys) if keys else np.empty(0, np.int64)
        pairs, counts = np.unique(every, return_counts=True)
        contexts, place = np.unique(pairs // self.symbols, return_inverse=True)
        totals = np.bincount(place, weights=counts, minlength=len(contexts))
        kinds = np.bincount(place, minlength=len(contexts)).astype(np.float64)
        return pairs, counts.astype(np.float64), contexts, totals, kinds

    def probabilities(self, text: Tensor, start: int, end: int) -> Tensor:
        """Return the probability of each symbol `start .. end-1` of a text, given those before it, `[end - start]`."""
        read = np.asarray(text, np.int64)
        if self.base is None:
            p = np.full(end - start, 1 / self.symbols)
        else:
            p = self.base.probabilities(text, start, end).numpy()
        for k, (pairs, counts, contexts, totals, kinds) in enumerate(self.levels):
            first = max(start, k)  # before that there is no context of k symbols
            if first >= end or not len(pairs):
                continue
            keys = _keys(read[:end], k, self.symbols, first)
            n = _looked_up(contexts, totals, keys // self.symbols)
            t = _looked_up(contexts, kinds, keys // self.symbols)
            seen = n > 0
            q = p[first - start :]
            q[seen] = ((_looked_up(pairs, counts, keys) + t * q) / np.where(seen, n + t, 1))[seen]
        return torch.from_numpy(p)

    def bits(self, text: Tensor, start: int, end: int) -> float:
        """Return the bits per character of symbols `start .. end-1` of a text, given those before each."""
        return float(-self.probabilities(text, start, end).log2().mean())


def _keys(text: np.ndarray, k: int, symbols: int, first: int) -> np.ndarray:
    """Return a number for each place from `first` on: its symbol, and the `k` before it."""
    keys = text[first:].copy()
    for j in range(1, k + 1):
        keys += text[first - j : len(text) - j] * symbols**j
    return keys


def _looked_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the value of each wanted key, 0 where it is not among the ascending keys."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0.0)
