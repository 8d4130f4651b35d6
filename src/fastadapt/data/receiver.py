"""Receivers that hear a few known symbols: the demodulation tasks of Park et al. (2021), simulated exactly."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fastadapt.errors import ConfigError
from fastadapt.tasks import Task, Tasks

SYMBOLS = torch.cartesian_prod(*(torch.tensor([-3.0, -1.0, 1.0, 3.0]),) * 2)
"""The 16 points of 16-QAM, `[16, 2]`, in-phase and quadrature; a label is a row number."""
PILOTS = tuple(7 * k % 16 for k in range(16))
"""The order in which pilots are sent, over and over: the first two tell a matrix, being no multiples."""
ENERGY = 10.0
"""Mean energy of a symbol."""


@dataclass(frozen=True)
class Receiver:
    r"""Draw demodulation tasks: a device sends 16-QAM symbols through its own distortion, channel and noise.

        s_I' = c (1 + eps) (cos d s_I - sin d s_Q)        eps = 0.15 b,        b ~ Beta(5, 2)
        s_Q' = c (1 - eps) (cos d s_Q - sin d s_I)        d = 15 degrees b',   b' ~ Beta(5, 2)
        y = h s' + n,      h ~ CN(0, 1),      n ~ N(0, 10 / snr / 2) in each of two dimensions

    where `c` makes the mean energy of `s'` again 10, and the product with `h` is that of complex numbers. All of it is
    one real matrix for each device, `y = M s + n`. The support are the first `pilots` symbols of a fixed order that
    sends each of the 16 once in 16 (`PILOTS`), so that fewer pilots are the beginning of more; the query are symbols
    drawn at random. One generator gives the same device and pilots whatever the number of either.

    Args:
        pilots: known symbols of a device, at least 1.
        symbols: symbols to be told, at least 0.
        snr: signal-to-noise ratio in dB.
        known: whether inputs are the symbols that were sent, `[n, 2]`, and targets what was received, `[n, 2]`: the
            regression of the matrix. Otherwise inputs are what was received and targets the symbols' numbers, `[n]`.

    Raises:
        ConfigError: if a setting is outside its range.

    Example:
        >>> task = Receiver(pilots=4).sample(np.random.default_rng(0))
        >>> task.support[0].shape, task.support[1]
        (torch.Size([4, 2]), tensor([ 0,  7, 14,  5]))

    References:
        Park, Jang, Simeone, Kang 2021, Learning to Demodulate from Few Pilots via Offline and Online Meta-Learning
        (arXiv:1908.09049), and its public code for the constants. The order of the pilots is ours.
    """

    pilots: int = 4
    symbols: int = 64
    snr: float = 20.0
    known: bool = False

    def __post_init__(self) -> None:
        """Check the settings."""
        for name, least in (("pilots", 1), ("symbols", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigError(f"{name} must be a whole number of at least {least}, got {value!r}")
        if not math.isfinite(self.snr):
            raise ConfigError(f"snr must be a finite number of dB, got {self.snr!r}")

    @property
    def one_meaning(self) -> bool:
        """Whether labels mean the same in every task: a symbol that no pilot has sent can be told all the same."""
        return True

    @property
    def noise(self) -> float:
        """The variance of the noise in each of the two dimensions."""
        return ENERGY / 10 ** (self.snr / 10) / 2

    def sample(self, rng: np.random.Generator) -> Task:
        """Return one task: support and query `(x, y)`, see the class."""
        tasks = self.sample_batch((rng,))
        (x, y), (xq, yq) = tasks.support, tasks.query
        return Task((x[0], y[0]), (xq[0], yq[0]))

    def sample_batch(self, rngs: Sequence[np.random.Generator]) -> Tasks:
        """Return one task per generator; task `i` is `sample(rngs[i])`."""
        _, sent, heard = self.heard(rngs)
        x, y = (SYMBOLS[sent], heard) if self.known else (heard, sent)
        p = self.pilots
        support, query = ((x[:, part].contiguous(), y[:, part].contiguous()) for part in (slice(p), slice(p, None)))
        return Tasks(support, query)

    def heard(self, rngs: Sequence[np.random.Generator]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the devices' matrices `M: [T, 2, 2]`, the symbols' numbers `[T, n]` and what was heard, `[T, n, 2]`.

        The first `pilots` of `n` are the pilots. A device is drawn first, then the noise of its pilots, so that one
        generator gives the same whatever follows.
        """
        matrices = np.empty((len(rngs), 2, 2), np.float32)
        sent = np.empty((len(rngs), self.pilots + self.symbols), np.int64)
        noise = np.empty((*sent.shape, 2), np.float32)
        sent[:, : self.pilots] = np.resize(PILOTS, self.pilots)
        for i, rng in enumerate(rngs):
            matrices[i] = device(rng)
            noise[i, : self.pilots] = rng.standard_normal((self.pilots, 2), np.float32)
            sent[i, self.pilots :] = rng.integers(0, 16, self.symbols)
            noise[i, self.pilots :] = rng.standard_normal((self.symbols, 2), np.float32)
        m, s = torch.from_numpy(matrices), torch.from_numpy(sent)
        return m, s, SYMBOLS[s] @ m.mT + math.sqrt(self.noise) * torch.from_numpy(noise)


def device(rng: np.random.Generator) -> np.ndarray:
    """Return the matrix `M: [2, 2]` of a device, its distortion and its channel; see `Receiver`."""
    distortion = imbalance(*rng.beta(5.0, 2.0, 2))
    real, imaginary = rng.standard_normal(2) * math.sqrt(0.5)
    return np.array([[real, -imaginary], [imaginary, real]]) @ distortion


def imbalance(amplitude: float, phase: float) -> np.ndarray:
    """Return the distortion `[2, 2]` of a device, given its shares in [0, 1] of the largest, 0.15 and 15 degrees.

    Example:
        >>> bool(np.allclose(imbalance(0.0, 0.0), np.eye(2)))
        True
    """
    eps, d = 0.15 * amplitude, math.radians(15.0) * phase
    raw = np.array(
        [
            [(1 + eps) * math.cos(d), -(1 + eps) * math.sin(d)],
            [-(1 - eps) * math.sin(d), (1 - eps) * math.cos(d)],
        ]
    )
    # both dimensions of a symbol have the energy ENERGY / 2 and are independent
    return raw * math.sqrt(2.0) / np.linalg.norm(raw)
