"""Sound from the bytes of a WAV file: plain samples of any depth, rate and number of channels."""

from dataclasses import dataclass, field

import numpy as np

from fastadapt.errors import DataError

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
FORMATS = {2: "Microsoft ADPCM", 6: "A-law", 7: "mu-law", 17: "IMA ADPCM", 49: "GSM", 80: "MPEG", 85: "MP3"}
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
ADVICE = "save it as WAV with plain samples (PCM), for example by ffmpeg -i FILE -c:a pcm_s16le sound.wav"


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
    return content[:4] in (b"RIFF", b"RF64") and content[8:12] == b"WAVE"


def other_sound(content: bytes) -> str | None:
    """Return what other kind of sound a file is by its first bytes, with its article; None if none is known.

    Example:
        >>> other_sound(b"fLaC...")
        'a FLAC'
    """
    return next((what for begin, at, what in OTHERS if content[at : at + len(begin)] == begin), None)


def read_wave(content: bytes, name: str) -> Wave:
    """Return the sound in the bytes of a WAV file.

    Whole numbers of 8 (unsigned), 16, 24 and 32 bits and floats of 32 and 64 are read, the extensible form as well. A
    length that a stream could not know, or that goes beyond the end, is taken as "to the end".

    Args:
        content: the file.
        name: what to call it in a message.

    Raises:
        DataError: if it is no WAV file, compressed, damaged or empty.
    """
    if not is_wave(content):
        other = other_sound(content)
        raise DataError(f"{name} is {f'{other} file' if other else 'no WAV file'}; {ADVICE}")
    form, data = _chunks(content)
    if form is None or len(form) < 16:
        raise DataError(f"{name} is damaged: its format is missing; save it again")
    kind, channels, bits = (int.from_bytes(form[at : at + 2], "little") for at in (0, 2, 14))
    rate = int.from_bytes(form[4:8], "little")
    if kind == EXTENSIBLE and len(form) >= 26:
        kind = int.from_bytes(form[24:26], "little")
    if kind not in (PCM, FLOAT):
        raise DataError(f"{name} is compressed ({FORMATS.get(kind, f'format {kind}')}); {ADVICE}")
    if (kind, bits) not in ((PCM, 8), (PCM, 16), (PCM, 24), (PCM, 32), (FLOAT, 32), (FLOAT, 64)):
        what = "floats" if kind == FLOAT else "whole numbers"
        raise DataError(f"{name} has {what} of {bits} bits; {ADVICE}")
    if not 1 <= channels <= 64 or not 100 <= rate <= 1_000_000:
        raise DataError(
            f"{name} says that it has {channels} channels and {rate:,} samples a second, which can't be; save it again"
        )
    if data is None:
        raise DataError(f"{name} is damaged: it holds no samples; save it again")
    each = channels * bits // 8
    samples = _numbers(data[: len(data) // each * each], kind, bits).reshape(-1, channels)
    if not len(samples):
        raise DataError(f"{name} has no samples; give a sound")
    if not np.isfinite(samples).all():
        raise DataError(f"{name} has samples that are not finite; mend or export it again")
    return Wave(samples, rate)


def _chunks(content: bytes) -> tuple[bytes | None, bytes | None]:
    """Return the format and the samples of a RIFF file."""
    form: bytes | None = None
    at = 12
    while at + 8 <= len(content):
        name, size = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        begin = at + 8
        if name == b"data":
            # a stream says 0 or the largest number; what follows is sound then
            unknown = size in (0, 0xFFFFFFFF, 0x7FFFFFFF) or begin + size > len(content)
            return form, content[begin:] if unknown else content[begin : begin + size]
        if name == b"fmt ":
            form = content[begin : begin + size]
        at = begin + size + size % 2
    return form, None


def _numbers(data: bytes, kind: int, bits: int) -> np.ndarray:
    if kind == FLOAT:
        return np.frombuffer(data, "<f4" if bits == 32 else "<f8").astype(np.float64)
    if bits == 8:
        return (np.frombuffer(data, np.uint8).astype(np.float64) - 128) / 128
    if bits == 24:
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return wide.reshape(-1).view("<i4") / 2.0**31
    return np.frombuffer(data, f"<i{bits // 8}") / 2.0 ** (bits - 1)
