"""The bytes of plain samples as numbers: how many each takes, which of its bits hold the sound, and where these lie."""

from dataclasses import dataclass

import numpy as np

from fastadapt.errors import DataError

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
FORMATS = {2: "Microsoft ADPCM", 6: "A-law", 7: "mu-law", 17: "IMA ADPCM", 49: "GSM", 80: "MPEG", 85: "MP3"}
_WIDTHS = {PCM: (1, 2, 3, 4), FLOAT: (4, 8)}
"""Bytes of a number that is read."""
ADVICE = "save it as WAV with plain samples (PCM), for example by ffmpeg -i FILE -c:a pcm_s16le sound.wav"


@dataclass(frozen=True)
class Form:
    """Hold what a WAV file says of its samples.

    Args:
        kind: `PCM` or `FLOAT`.
        channels: numbers of one moment.
        rate: moments a second.
        width: bytes of one number.
        bits: of these that hold the sound.
        upper: whether the file says that these are the upper ones.
    """

    kind: int
    channels: int
    rate: int
    width: int
    bits: int
    upper: bool


def form_of(said: bytes, name: str) -> Form:
    """Return the format in a chunk `fmt `.

    Args:
        said: the chunk, 16 bytes or more.
        name: of the file, for a message.

    Raises:
        DataError: if the samples are compressed, of a depth that is not read, or the chunk contradicts itself.
    """
    kind, channels, align, bits = (int.from_bytes(said[at : at + 2], "little") for at in (0, 2, 12, 14))
    rate = int.from_bytes(said[4:8], "little")
    upper = kind == EXTENSIBLE and len(said) >= 26
    valid = int.from_bytes(said[18:20], "little") if upper else 0
    if upper:
        kind = int.from_bytes(said[24:26], "little")
    if kind not in (PCM, FLOAT):
        raise DataError(f"{name} is compressed ({FORMATS.get(kind, f'format {kind}')}); {ADVICE}")
    if not 1 <= channels <= 64 or not 100 <= rate <= 1_000_000:
        raise DataError(
            f"{name} says that it has {channels} channels and {rate:,} samples a second, which can't be; save it again"
        )
    width = align // channels
    depth = valid if valid and kind == PCM else bits
    told = f"{'floats' if kind == FLOAT else 'whole numbers'} of {depth} bits"
    if width * channels != align or not depth <= bits <= 8 * width or (upper and bits != 8 * width):
        told = f"{channels} {told}" + f" in {bits}" * (depth != bits)
        raise DataError(
            f"{name} contradicts itself: a moment of all channels takes {align} bytes, its block align, and holds "
            f"{told}; {ADVICE}"
        )
    # 8 bits are without a sign where they are a byte, and nothing says so where they lie in more
    odd = bits != 8 * width if kind == FLOAT else depth == 0 or depth <= 8 < 8 * width
    if odd or width not in _WIDTHS[kind]:
        raise DataError(f"{name} has {told} in {width} bytes; {ADVICE}")
    return Form(kind, channels, rate, width, depth, upper)


def samples_of(data: bytes, form: Form, name: str) -> np.ndarray:
    """Return the samples in -1..1, `[n, channels]`, float64; what is left of an unfinished moment is dropped.

    A whole number of `bits` in more bytes lies in their upper bits, as the format wants it: the lower ones are 0 then.
    Where it lies in the lower ones, and nothing says otherwise, it is read there.

    Args:
        data: the content of the chunk `data`.
        form: what the file says of it.
        name: of the file, for a message.

    Raises:
        DataError: if the samples use other bits than the file says, so that either reading may be wrong.
    """
    each = form.channels * form.width
    data = data[: len(data) // each * each]
    if form.kind == FLOAT:
        return np.frombuffer(data, f"<f{form.width}").astype(np.float64).reshape(-1, form.channels)
    numbers = _whole(data, form.width)
    lower = form.bits < 8 * form.width and _in_lower_bits(numbers, form, name)
    return (numbers / 2.0 ** ((form.bits if lower else 8 * form.width) - 1)).reshape(-1, form.channels)


def _in_lower_bits(numbers: np.ndarray, form: Form, name: str) -> bool:
    """Return whether whole numbers lie in the lower bits of their bytes rather than in the upper ones.

    Raises:
        DataError: if the bits that are used leave it open, or are none of those that the file says.
    """
    unused = 8 * form.width - form.bits
    upper = not (numbers & ((1 << unused) - 1)).any()  # as the lower ones are 0
    lower = bool((np.abs(numbers + 0.5) < 2 ** (form.bits - 1)).all())  # as two's complement reaches from -n to n - 1
    if form.upper and lower and not upper:
        raise _unclear(form, name, "the upper ones, and it lies in the lower ones")
    if form.upper or not numbers.any() or (upper and (not lower or unused < 8)):
        return False
    if upper:
        raise _unclear(form, name, "and it may lie in the upper ones or in the lower ones")
    if not lower:
        raise _unclear(form, name, "and others are used too")
    return True


def _unclear(form: Form, name: str, told: str) -> DataError:
    return DataError(
        f"{name} says that {form.bits} of the {8 * form.width} bits of a sample hold the sound, {told}; {ADVICE}"
    )


def _whole(data: bytes, width: int) -> np.ndarray:
    """Return whole numbers of 1 (unsigned), 2, 3 or 4 bytes as int64."""
    if width == 1:
        return np.frombuffer(data, np.uint8).astype(np.int64) - 128
    if width == 3:
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return wide.reshape(-1).view("<i4").astype(np.int64) >> 8
    return np.frombuffer(data, f"<i{width}").astype(np.int64)
