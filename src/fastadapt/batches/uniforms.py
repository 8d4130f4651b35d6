r"""Uniform random numbers of many tasks at once, bit for bit those of the generators in `fastadapt.batches.streams`.

Philox is a function of a counter c and a key, so that blocks of all tasks can be computed side by side. On four words
`x0 y0 x1 y1` of 64 bits, ten times, with constants M and W:

    (h0, l0), (h1, l1) = M_0 x0, M_1 x1             products of 128 bits, as high and low words
    x0, y0, x1, y1     = h1 ^ y0 ^ key_0, l1, h0 ^ y1 ^ key_1, l0
    key                = key + W

A number is `(word >> 11) 2^-53`. Making a generator of numpy's for each task takes several times as long.

References:
    Salmon, Moraes, Dror, Shaw 2011, Parallel random numbers: as easy as 1, 2, 3.
"""

from collections.abc import Sequence

import numpy as np

from fastadapt.batches.streams import key_of

_U = np.uint64
_M = np.array([[0xD2E7470EE14C6C93], [0xCA5A826395121157]], _U)
_W = np.array([[0x9E3779B97F4A7C15], [0xBB67AE8584CAA73B]], _U)
_BITS, _LOW = _U(32), _U(0xFFFFFFFF)
_M_LOW, _M_HIGH = _M & _LOW, _M >> _BITS
_AT_ONCE = 8192
"""Blocks of four numbers that are computed together: their words stay in the cache."""


def uniforms(seed: int, split: str, indices: Sequence[int], count: int) -> np.ndarray:
    """Return the first numbers of several tasks, `[T, count]` in [0, 1).

    Args:
        seed: the run's seed, `0..2^63-1`.
        split: the name of the stream.
        indices: the numbers of the tasks in their stream, from 0.
        count: numbers of each task.

    Returns:
        In row t what `task_rng(seed, split, indices[t]).random(count)` gives.

    Example:
        >>> from fastadapt.batches.streams import task_rng
        >>> row = uniforms(0, "train", [7], 5)
        >>> bool((row[0] == task_rng(0, "train", 7).random(5)).all())
        True
    """
    numbers, blocks = np.asarray(indices, _U), -(-count // 4)
    found = np.empty((len(numbers), blocks, 2, 2))
    some = max(1, _AT_ONCE // max(blocks, 1))
    for a in range(0, len(numbers), some):
        few = numbers[a : a + some, None]
        x, y = np.zeros((2, 2, len(few), blocks), _U)
        x[0] = np.arange(1, blocks + 1, dtype=_U)  # numpy counts on before it draws
        y[1] = few
        for i, words in enumerate(_mixed(x.reshape(2, -1), y.reshape(2, -1), key_of(seed, split)[:, None])):
            words = (words >> _U(11)).reshape(x.shape)
            np.multiply(words.transpose(1, 2, 0), 2.0**-53, out=found[a : a + some, :, :, i])
    return found.reshape(len(numbers), 4 * blocks)[:, :count]


def _mixed(x: np.ndarray, y: np.ndarray, key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the words after ten rounds; `x` and `y` are written to."""
    low, high, carry, middle, product = (np.empty_like(x) for _ in range(5))
    for _ in range(10):
        np.bitwise_and(x, _LOW, out=low)
        np.right_shift(x, _BITS, out=high)
        np.multiply(low, _M_LOW, out=carry)
        np.right_shift(carry, _BITS, out=carry)
        np.multiply(high, _M_LOW, out=middle)
        np.add(middle, carry, out=middle)
        np.bitwise_and(middle, _LOW, out=carry)
        np.multiply(low, _M_HIGH, out=low)
        np.add(low, carry, out=low)
        np.right_shift(low, _BITS, out=low)
        np.right_shift(middle, _BITS, out=middle)
        np.multiply(high, _M_HIGH, out=high)
        np.add(high, middle, out=high)
        np.add(high, low, out=high)
        np.multiply(x, _M, out=product)
        np.bitwise_xor(y, key, out=y)
        np.bitwise_xor(high[::-1], y, out=x)
        y, product = product[::-1], y
        key = key + _W
    return x, y
