"""Sound from the bytes of a WAV file: plain samples of any depth, rate and number of channels."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from fastadapt.errors import DataError
from fastadapt.signals.wave_samples import ADVICE, form_of, samples_of

_UNKNOWN = 0xFFFFFFFF

OTHERS = (
    (b"ID3", 0, "an MP3"),
    (b"\xff\xfb", 0, "an MP3"),
    (b"\xff\xf3", 0, "an MP3"),
    (b"fLaC", 0, "a FLAC"),
    (b"OggS", 0, "an Ogg"),
    (b"ftyp", 4, "an MP4 or M4A"),
    (b"FORM", 0, "an AIFF"),
    (b".snd", 0, "an AU"),
    (b"\x1aE\xdf\xa3", 0, "a WebM or Matroska"),
    (b"RIFX", 0, "a big-endian WAV (RIFX)"),
    (b"caff", 0, "a Core Audio"),
)
"""How the files of other sounds begin: bytes, where they stand, what they are."""


@dataclass(frozen=True, eq=False)
class Wave:
    """Hold a sound as it was recorded.

    Args:
        samples: `[n, channels]`, float64; whole numbers are divided by the largest, so that values lie in -1..1.
        rate: samples a second.
    """

    samples: np.ndarray = field(repr=False)
    rate: int


def is_wave(content: bytes) -> bool:
    """Return whether bytes begin as a WAV file does.

    Example:
        >>> is_wave(b"RIFF....WAVEfmt "), is_wave(b"RIFF....WEBPVP8 ")
        (True, False)
    """
    return content[:4] in (b"RIFF", b"RF64", b"BW64") and content[8:12] == b"WAVE"


def other_sound(content: bytes) -> str | None:
    """Return what other kind of sound a file is by its first bytes, with its article; None if none is known.

    Example:
        >>> other_sound(b"fLaC...")
        'a FLAC'
    """
    return next((what for begin, at, what in OTHERS if content[at : at + len(begin)] == begin), None)


def read_wave(content: bytes, name: str) -> Wave:
    """Return the sound in the bytes of a WAV file.

    Whole numbers of up to 32 bits in 1 (unsigned) to 4 bytes and floats of 32 and 64 bits are read, the extensible form
    and the long ones (RF64, BW64) as well. A length that a stream could not know, or that goes beyond the end, is taken
    as "to the end".

    Args:
        content: the file.
        name: what to call it in a message.

    Raises:
        DataError: if it is no WAV file, compressed, damaged or empty.
    """
    if not is_wave(content):
        other = other_sound(content)
        raise DataError(f"{name} is {f'{other} file' if other else 'no WAV file'}; {ADVICE}")
    said, data = _chunks(content, name)
    if said is None or len(said) < 16:
        raise DataError(f"{name} is damaged: its format is missing; save it again")
    form = form_of(said, name)
    if data is None:
        raise DataError(f"{name} is damaged: it holds no samples; save it again")
    samples = samples_of(data, form, name)
    if not len(samples):
        raise DataError(f"{name} has no samples; give a sound")
    if not np.isfinite(samples).all():
        raise DataError(f"{name} has samples that are not finite; mend or export it again")
    return Wave(samples, form.rate)


def _chunks(content: bytes, file: str) -> tuple[bytes | None, bytes | None]:
    """Return the format and the samples of a RIFF file.

    Raises:
        DataError: if a long one does not say how long its sound is.
    """
    form: bytes | None = None
    long: int | None = None
    for name, begin, size in _walk(content, 12):
        if name == b"ds64":  # a file that may be longer than 4 GB says here how long its sound is
            long = int.from_bytes(content[begin + 8 : begin + 16], "little")
        elif name == b"fmt ":
            form = content[begin : begin + size]
        elif name == b"data":
            if size == _UNKNOWN and long is None and content[:4] != b"RIFF":
                raise DataError(f"{file} is damaged: it does not say how long its sound is (ds64); save it again")
            if size == _UNKNOWN and long is not None:
                size = long
            # a stream says 0 or the largest number; what follows is sound then
            unknown = size in (0, _UNKNOWN, 0x7FFFFFFF) or begin + size > len(content)
            if size == 0 and _only_chunks(content, begin):
                return form, b""
            return form, content[begin:] if unknown else content[begin : begin + size]
    return form, None


def _walk(content: bytes, at: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, begin and length of each chunk."""
    while at + 8 <= len(content):
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        yield content[at : at + 4], at + 8, size
        at += 8 + size + size % 2


def _only_chunks(content: bytes, at: int) -> bool:
    """Return whether nothing but whole chunks follows, as behind a sound that is empty and no stream."""
    names, end = [], at
    for name, begin, size in _walk(content, at):
        names.append(name)
        end = begin + size
    words = all(name.isascii() and name.strip().isalnum() for name in names)
    return bool(names) and words and end in (len(content), len(content) - 1)
