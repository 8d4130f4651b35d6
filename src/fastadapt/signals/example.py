"""A picture and a sound that are made here, so that something can be fitted which belongs to nobody."""

import numpy as np

from fastadapt.showcases.scene import scene
from fastadapt.showcases.voices import RATE
from fastadapt.signals.picture import SIDE, check_side
from fastadapt.signals.signal import SECONDS, Photo, Signal, cut
from fastadapt.signals.starts import Kind

VOWELS = (
    ((730, 1090, 2440), 0.42),
    ((530, 1840, 2480), 0.36),
    ((270, 2290, 3010), 0.36),
    ((570, 840, 2410), 0.42),
    ((300, 870, 2240), 0.44),
)
"""Three formants in Hz of a man's a, e, i, o and u (Peterson and Barney 1952), and how many seconds each lasts."""
WIDTHS = (80.0, 110.0, 160.0)
"""Hz by which a formant is wide."""


def example(kind: Kind, side: int = SIDE, seconds: float = SECONDS) -> Signal:
    """Return a house by a lake as a photograph, or a voice that says a, e, i, o, u as a sound.

    Args:
        kind: "photo" or "sound".
        side: pixels a side.
        seconds: of the sound.

    Example:
        >>> example("photo").target.shape, example("sound").facts()["seconds"]
        ((64, 64, 3), 2.0)
    """
    if kind == "photo":
        check_side(side)
        return Photo(scene(side))
    return cut(voice(), RATE, "the example", seconds)


def voice() -> np.ndarray:
    r"""Return two seconds of vowels, values -1..1 at 11,025 samples a second.

        y(t) = sum_k a_k(t) sin(2 pi k int f),      a_k(t) = (1/k) sum_j g_j / (1 + ((k f - F_j(t)) / (B_j / 2))^2)

    with a pitch f that falls from 135 to 105 Hz, and the formants F_j gliding from vowel to vowel.
    """
    lengths = [round(seconds * RATE) for _, seconds in VOWELS]
    centres = np.cumsum([0, *lengths[:-1]]) + np.array(lengths) / 2
    t = np.arange(sum(lengths))
    pitch = np.linspace(135, 105, len(t)) * (1 + 0.01 * np.sin(2 * np.pi * 5 * t / RATE))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    formants = [_glide(t, centres, [freqs[j] for freqs, _ in VOWELS]) for j in range(len(WIDTHS))]
    sound = np.zeros(len(t))
    for k in range(1, int(0.45 * RATE / pitch.max())):
        gain = sum(
            strength / (1 + ((k * pitch - formant) / (width / 2)) ** 2)
            for formant, width, strength in zip(formants, WIDTHS, (1.0, 0.6, 0.3), strict=True)
        )
        sound += gain / k**0.5 * np.sin(k * phase)
    bounds = np.cumsum(lengths)[:-1]
    dips = 1 - 0.7 * sum(np.exp(-(((t - bound) / (0.025 * RATE)) ** 2)) for bound in bounds)
    fade = np.minimum(1, np.minimum(t, len(t) - 1 - t) / (0.03 * RATE))
    sound *= dips * fade
    return sound / np.abs(sound).max()


def _glide(t: np.ndarray, centres: np.ndarray, values: list[int]) -> np.ndarray:
    """Return a value that stays at each vowel and moves within 40 ms between two."""
    bounds = (centres[1:] + centres[:-1]) / 2
    made = np.full(len(t), float(values[0]))
    for bound, before, after in zip(bounds, values, values[1:], strict=False):
        made += (after - before) / (1 + np.exp(-np.clip((t - bound) / (0.012 * RATE), -60, 60)))
    return made
