"""A memory of keys and values that learns by being written to, and forgets what it has not used for longest."""

import torch
import torch.nn.functional as F
from torch import Tensor

AGE_NOISE = 8.0
"""Steps by which ages are blurred, in training, where the oldest slot is looked for."""


class Slots:
    r"""Hold keys of length 1, the value of each, and how many writes ago it was used.

    Writing `(q, v)` looks for the key nearest to q, `n = argmax_i q . K_i`. If its value is v, it moves towards q and
    is young again; otherwise the pair replaces the oldest slot. All others grow older.

        V_n = v:   K_n <- (q + K_n) / |q + K_n|,  A_n <- 0
        else:      K_o <- q,  V_o <- v,  A_o <- 0,      o = argmax_i A_i

    Args:
        size: slots, >= 1.
        like: a key, for length, type and device; nothing here is differentiated.

    Example:
        >>> slots = Slots(2, torch.zeros(2))
        >>> slots.write(torch.tensor([1.0, 0.0]), 7)
        >>> slots.look(torch.tensor([1.0, 0.0]), 7)     # the nearest slot with that value, and with another
        (0, None)

    References:
        Kaiser, Nachum, Roy, Bengio 2017 (arXiv:1703.03129).
    """

    def __init__(self, size: int, like: Tensor) -> None:
        self.keys = torch.zeros(size, len(like), dtype=like.dtype, device=like.device)
        self.values = torch.full((size,), -1, dtype=torch.long, device=like.device)
        self.ages = torch.zeros(size, dtype=torch.float64, device=like.device)
        self.used = 0

    @torch.no_grad()
    def look(self, q: Tensor, v: int) -> tuple[int | None, int | None]:
        """Return the slot nearest to `q` whose value is `v`, and the nearest with another; None where there is none."""
        if not self.used:
            return None, None
        near, right = self.keys[: self.used] @ q, self.values[: self.used] == v
        sides = torch.stack((near.masked_fill(~right, -2), near.masked_fill(right, -2)))  # below every cosine
        (a, b), (i, j) = (found.tolist() for found in sides.max(1))
        return (i if a > -2 else None), (j if b > -2 else None)

    @torch.no_grad()
    def write(self, q: Tensor, v: int, noise: float = 0.0, seen: tuple[int | None, int | None] | None = None) -> None:
        """Write a pair.

        Args:
            q: a key of length 1.
            v: its value, >= 0.
            noise: how far an age may seem to be off, in writes, where the oldest is looked for.
            seen: what `look(q, v)` returned, if that is known.
        """
        right, wrong = self.look(q, v) if seen is None else seen
        if right is not None and (wrong is None or self.keys[right] @ q >= self.keys[wrong] @ q):
            slot, key = right, F.normalize(q + self.keys[right], dim=0)
        else:
            slot, key = self._oldest(noise), q
        self.ages[: self.used] += 1
        self.keys[slot], self.values[slot], self.ages[slot] = key, v, 0

    def _oldest(self, noise: float) -> int:
        """Return a slot that was never written to, or the oldest."""
        if self.used < len(self.keys):
            self.used += 1
            return self.used - 1
        blur = torch.rand(len(self.ages), dtype=torch.float64, device=self.ages.device) if noise else 0.5
        return int((self.ages + noise * (2 * blur - 1)).argmax())
