"""What is fitted: a photograph as one task, a sound as one task for each window of it."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fastadapt.data.fields.positions import positions
from fastadapt.data.files import read_file, shown
from fastadapt.errors import ConfigError, DataError
from fastadapt.showcases.voices import LOUDNESS, RATE, WINDOW
from fastadapt.signals.picture import SIDE, square
from fastadapt.signals.resampled import loudest, one_channel, resampled
from fastadapt.signals.starts import Kind
from fastadapt.signals.wave_file import is_wave, other_sound, read_wave

LARGEST = 200_000_000
"""Bytes of a file."""
SECONDS = 2.0
SHORTEST, LONGEST = 0.1, 30.0
PEAK = 0.9
QUIET = 1e-3  # root mean square below which a window stays silent, where the loudest sample is 0.9
HOP = WINDOW // 4
SILENCE = 1e-6  # of a sample; the last of 16 bits is 3e-5


@dataclass(frozen=True, eq=False)
class Photo:
    """Hold a photograph `[n, n, 3]`, uint8: one network, position -> colour."""

    target: np.ndarray = field(repr=False)
    kind: Kind = "photo"

    def tasks(self) -> list[tuple[Tensor, Tensor]]:
        """Return one support: all pixels."""
        values = torch.from_numpy(self.target.reshape(-1, 3).astype(np.float32)) / 255
        return [(positions(self.target.shape[:2]), values)]

    def joined(self, outputs: list[Tensor]) -> np.ndarray:
        """Return the picture, `[n, n, 3]`; values may lie outside of 0..1."""
        return outputs[0].reshape(self.target.shape).double().numpy()

    def decibels(self, values: np.ndarray) -> float:
        """Return the peak signal-to-noise ratio, 10 log10(1 / mse), of values as they come."""
        return _ratio(1.0, float(np.mean((values - self.target / 255) ** 2)))

    def facts(self) -> dict[str, object]:
        """Return what is told of it."""
        return {"kind": self.kind, "side": len(self.target)}


@dataclass(frozen=True, eq=False)
class Sound:
    """Hold a stretch of a sound, `[n]` at 11,025 samples a second: one network, time -> air pressure, a window.

    Args:
        target: samples, the loudest at 0.9.
        whole: seconds of the sound that it was cut out of.
        begins: seconds into that.
    """

    target: np.ndarray = field(repr=False)
    whole: float
    begins: float
    kind: Kind = "sound"

    def _pieces(self) -> tuple[np.ndarray, np.ndarray]:
        """Return windows `[w, 1024]` of which none is silent, equally loud, and what each was multiplied by, `[w]`."""
        padded = np.pad(self.target, (0, -len(self.target) % WINDOW)).reshape(-1, WINDOW)
        power = np.sqrt(np.mean(padded**2, axis=1))
        scale = np.where(power > QUIET, LOUDNESS / np.maximum(power, QUIET), 0.0)
        return padded * scale[:, None], scale

    def tasks(self) -> list[tuple[Tensor, Tensor]]:
        """Return a support for each window of 1,024 samples that is not silent."""
        pieces, scale = self._pieces()
        where = positions((WINDOW,))
        return [(where, torch.from_numpy(piece.astype(np.float32))[:, None]) for piece in pieces[scale > 0]]

    def joined(self, outputs: list[Tensor]) -> np.ndarray:
        """Return the sound, `[n]`; silent windows are silent."""
        pieces, scale = self._pieces()
        made = np.zeros_like(pieces)
        for row, output in zip(np.flatnonzero(scale), outputs, strict=True):
            made[row] = output.flatten().double().numpy() / scale[row]
        return made.reshape(-1)[: len(self.target)]

    def decibels(self, values: np.ndarray) -> float:
        """Return the signal-to-noise ratio of the whole stretch, 10 log10(sum y^2 / sum (f - y)^2)."""
        return _ratio(float(np.sum(self.target**2)), float(np.sum((values - self.target) ** 2)))

    def facts(self) -> dict[str, object]:
        """Return what is told of it."""
        seconds = round(len(self.target) / RATE, 3)
        return {
            "kind": self.kind,
            "seconds": seconds,
            "whole": round(self.whole, 3),
            "begins": round(self.begins, 3),
            "rate": RATE,
        }


Signal = Photo | Sound
"""What can be fitted."""


def _ratio(signal: float, noise: float) -> float:
    return float(10 * np.log10(signal / max(noise, 1e-30)))


def photo_of(content: bytes, name: str, side: int = SIDE, **limits: int) -> Photo:
    """Return the photograph in the bytes of a picture.

    Raises:
        ConfigError: see `square`.
        DataError: see `square`.
    """
    return Photo(square(content, name, side, **limits))


def sound_of(content: bytes, name: str, seconds: float = SECONDS) -> Sound:
    """Return the loudest stretch of the sound in the bytes of a WAV file.

    Args:
        content: the file.
        name: what to call it in a message.
        seconds: of the stretch; a shorter sound is taken as it is.

    Raises:
        ConfigError: for a length that is not offered.
        DataError: if it can't be read, or is silent.
    """
    check_seconds(seconds)
    wave = read_wave(content, name)
    return cut(one_channel(wave.samples), wave.rate, name, seconds)


def check_seconds(seconds: float) -> None:
    """Raise `ConfigError` unless a stretch of so many seconds can be fitted."""
    if not SHORTEST <= seconds <= LONGEST:
        raise ConfigError(f"a stretch of {SHORTEST:g} to {LONGEST:g} seconds of a sound is fitted, got {seconds:g}")


def cut(sound: np.ndarray, rate: int, name: str, seconds: float = SECONDS) -> Sound:
    """Return the loudest stretch of a sound `[n]`, which is then made one of 11,025 samples a second.

    Raises:
        ConfigError: for a length that is not offered.
        DataError: if it is silent, or too high for that rate.
    """
    check_seconds(seconds)
    length = max(1, round(seconds * rate))
    sound = sound / max(1.0, float(np.abs(sound).max()))  # squares of floats of any size stay finite
    begin = loudest(sound - sound.mean(), length, max(1, round(HOP * rate / RATE)))
    stretch = sound[begin : begin + length]
    stretch = stretch - stretch.mean()
    if np.abs(stretch).max() < SILENCE:
        raise DataError(f"{name} is silent; there is nothing to fit")
    there = resampled(stretch, rate, RATE)[: round(seconds * RATE)]
    if np.mean(there**2) < 1e-4 * np.mean(stretch**2):
        raise DataError(f"{name} has hardly anything below {RATE // 2:,} Hz, which is what is fitted; give another")
    return Sound(there * (PEAK / float(np.abs(there).max())), len(sound) / rate, begin / rate)


def read_signal(path: Path, side: int = SIDE, seconds: float = SECONDS) -> Signal:
    """Return what a file holds: a picture or a sound, told apart by its first bytes whatever it is called.

    Raises:
        ConfigError: for a side or length that is not offered.
        DataError: if it is neither, or can't be read.
    """
    content = read_file(path, limit=LARGEST, kind="a picture or a sound")
    name = shown(path)
    if is_wave(content) or other_sound(content):
        return sound_of(content, name, seconds)
    return photo_of(content, name, side)
