"""A sound at another rate, one channel of it, and the stretch that is worth fitting."""

import math

import numpy as np

EDGE = 1024
"""Samples of silence on each side, at least, while a sound is resampled: its end shall not ring at its beginning."""


def one_channel(samples: np.ndarray) -> np.ndarray:
    """Return the mean of the channels `[n, channels]`, or the loudest one where they cancel each other.

    Example:
        >>> one_channel(np.array([[0.5, -0.5], [1.0, -1.0]])).tolist()
        [0.5, 1.0]
    """
    mean = samples.mean(1)
    power = (samples**2).mean(0)
    return samples[:, power.argmax()] if (mean**2).mean() < 1e-3 * power.max() else mean


def resampled(sound: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Return a sound at another number of samples a second, free of frequencies which that can't hold.

    The spectrum is cut, or continued with zeros, at half the lower of the two rates.

    Args:
        sound: `[n]`.
        rate: its samples a second.
        wanted: those of the result, `[round(n wanted / rate)]`.

    Example:
        >>> slow = np.sin(2 * np.pi * 100 * np.arange(44_100) / 44_100)
        >>> fast = np.sin(2 * np.pi * 100 * np.arange(11_025) / 11_025)
        >>> bool(np.abs(resampled(slow, 44_100, 11_025) - fast)[100:-100].max() < 1e-3)
        True
    """
    if rate == wanted:
        return sound
    shared = math.gcd(rate, wanted)
    before, after = rate // shared, wanted // shared  # so many samples take exactly as long as so many
    edge = -(-EDGE // before)
    padded = np.pad(sound, (edge * before, edge * before + -len(sound) % before))
    count = len(padded) // before * after
    spectrum = np.fft.rfft(padded)
    kept = np.zeros(count // 2 + 1, complex)
    held = min(len(kept), len(spectrum))
    kept[:held] = spectrum[:held]
    there = np.fft.irfft(kept, count) * (count / len(padded))
    return there[edge * after : edge * after + max(1, round(len(sound) * wanted / rate))]


def loudest(sound: np.ndarray, length: int, hop: int) -> int:
    """Return where the stretch of `length` samples with the most power begins, a multiple of `hop`.

    Example:
        >>> loudest(np.array([0.0, 0, 1, 1, 0, 0]), 2, 1)
        2
    """
    if len(sound) <= length:
        return 0
    power = np.concatenate([[0.0], np.cumsum(sound**2)])
    begins = np.arange(0, len(sound) - length + 1, hop)
    return int(begins[(power[begins + length] - power[begins]).argmax()])
