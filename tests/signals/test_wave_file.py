"""Plain samples of every depth and form are read as they were written; what is no such file is told in a sentence."""

import io
import struct
import wave

import numpy as np
import pytest

from fastadapt.errors import DataError
from fastadapt.signals.wave_file import read_wave
from signals.waves import chunk, form, tone, wav


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize("bits, floating", [(8, False), (16, False), (24, False), (32, False), (32, True), (64, True)])
def test_every_depth(bits, floating, extensible):
    samples = np.stack([tone(0.01), -0.5 * tone(0.01)], 1)
    found = read_wave(wav(samples, 22_050, bits, floating, extensible), "a.wav")
    assert found.rate == 22_050 and found.samples.shape == samples.shape
    np.testing.assert_allclose(found.samples, samples, atol=1.1 * 2.0 ** (1 - min(bits, 30)))


def test_what_the_standard_library_writes():
    content = io.BytesIO()
    with wave.open(content, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(np.array([0, 16384, -32768], "<i2").tobytes())
    found = read_wave(content.getvalue(), "a.wav")
    assert found.rate == 8000 and found.samples.ravel().tolist() == [0, 0.5, -1]


def test_other_chunks_are_passed_over_and_odd_ones_are_padded():
    found = read_wave(wav(tone(0.01), before=chunk(b"LIST", b"odd")), "a.wav")
    np.testing.assert_allclose(found.samples[:, 0], tone(0.01), atol=1e-4)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 10**6])
def test_a_length_that_a_stream_did_not_know_is_to_the_end(size):
    assert len(read_wave(wav(tone(0.01), size=size), "a.wav").samples) == len(tone(0.01))


def test_a_file_that_was_cut_off_gives_what_is_there():
    assert len(read_wave(wav(np.stack([tone(0.01)] * 2, 1))[:-3], "a.wav").samples) == len(tone(0.01)) - 1


HEAD = b"RIFF\0\0\0\0WAVE"
BROKEN = {
    "an MP3": (b"ID3\x04rest", "is an MP3 file; save it as WAV"),
    "a FLAC": (b"fLaC\0\0\0\x22", "is a FLAC file"),
    "text": (b"hello", "is no WAV file"),
    "a big-endian one": (b"RIFX\0\0\0\0WAVE", "RIFX"),
    "no format": (HEAD + chunk(b"data", b"\0" * 8), "its format is missing"),
    "half a format": (HEAD + b"fmt \x10\0\0\0\x01\0", "its format is missing"),
    "no samples": (HEAD + chunk(b"fmt ", form(8000, 1, 16, 1)), "it holds no samples"),
    "an empty one": (wav(np.zeros(0)), "has no samples"),
    "ADPCM": (wav(tone(0.01), kind=2), r"is compressed \(Microsoft ADPCM\)"),
    "mu-law": (wav(tone(0.01), bits=8, kind=7), r"is compressed \(mu-law\)"),
    "some format": (wav(tone(0.01), kind=999), r"is compressed \(format 999\)"),
    "12 bits": (HEAD + chunk(b"fmt ", form(8000, 1, 12, 1)) + chunk(b"data", b"\0" * 8), "whole numbers of 12 bits"),
    "no channel": (HEAD + chunk(b"fmt ", form(8000, 0, 16, 1)) + chunk(b"data", b"\0" * 8), "0 channels"),
    "no rate": (wav(tone(0.01), rate=0), "0 samples a second"),
    "not finite": (wav([0.0, float("nan")], bits=32, floating=True), "not finite"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_can_not_be_read_is_told(name):
    content, said = BROKEN[name]
    with pytest.raises(DataError, match=f"a.wav .*{said}"):
        read_wave(content, "a.wav")


def file_of(data, bits, channels=1, align=None, valid=None, magic=b"RIFF", before=b"", size=None, after=b""):
    """Return a file whose samples are these bytes, whatever it says of them."""
    said = form(8000, channels, bits, 1 if valid is None else 0xFFFE, align)
    if valid is not None:
        said += struct.pack("<HHI", 22, valid, 0) + struct.pack("<H", 1) + bytes(14)
    body = b"WAVE" + before + chunk(b"fmt ", said) + chunk(b"data", data, size) + after
    return magic + struct.pack("<I", len(body)) + body


def whole(samples, bits, width, lower=False):
    """Return samples as whole numbers of `bits`, in the upper or lower bits of `width` bytes."""
    most, shift = 2 ** (bits - 1) - 1, 0 if lower else 8 * width - bits
    offset = 128 if width == 1 else 0
    return b"".join(
        ((round(most * v) << shift) + offset).to_bytes(width, "little", signed=not offset) for v in samples.ravel()
    )


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("bits, width", [(24, 4), (20, 4), (20, 3), (16, 4), (16, 3), (12, 2), (10, 2), (6, 1)])
def test_samples_in_more_bytes_than_they_need(bits, width, channels, lower):
    samples = np.stack([tone(0.01) * (-1) ** i / (1 + i) for i in range(channels)], 1)
    data = whole(samples, bits, width, lower)
    found = read_wave(file_of(data, bits, channels, channels * width), "a.wav").samples
    np.testing.assert_allclose(found, samples, atol=2.0 ** (2 - bits))
    if not lower:
        told = read_wave(file_of(data, 8 * width, channels, channels * width, valid=bits), "a.wav").samples
        np.testing.assert_array_equal(told, found)


def test_bits_beyond_those_that_are_valid_do_no_harm():
    data = whole(tone(0.01), 32, 4)
    found = read_wave(file_of(data, 32, valid=24), "a.wav").samples
    np.testing.assert_allclose(found[:, 0], tone(0.01), atol=1e-9)


def test_silence_is_silence_in_any_bits():
    assert not read_wave(file_of(bytes(400), 24, align=4), "a.wav").samples.any()


LOUD = tone(0.01)
CONTRADICTIONS = {
    "two channels said to be one": (file_of(whole(np.stack([LOUD, 0 * LOUD], 1), 16, 2), 16, 1, 4), "others are used"),
    "one said to be two": (file_of(whole(LOUD, 16, 2), 16, 2, 2), "takes 2 bytes.* holds 2 whole numbers of 16 bits"),
    "no block": (file_of(whole(LOUD, 16, 2), 16, 1, 0), "takes 0 bytes"),
    "a part of a number": (file_of(whole(LOUD, 16, 2), 16, 2, 5), "takes 5 bytes"),
    "upper or lower": (file_of(whole(LOUD / 600, 24, 4)[: 4 * len(LOUD)], 24, 1, 4), "may lie in the upper ones or"),
    "a byte in two": (file_of(whole(LOUD, 8, 2), 8, 1, 2), "whole numbers of 8 bits in 2 bytes"),
    "a byte of two": (file_of(whole(LOUD, 8, 2), 16, valid=8), "whole numbers of 8 bits in 2 bytes"),
    "more valid than there are": (file_of(whole(LOUD, 16, 2), 16, valid=20), "20 bits in 16"),
    "valid ones in the wrong place": (file_of(whole(LOUD, 24, 4, True), 32, valid=24), "it lies in the lower ones"),
    "long floats in short": (
        wav(LOUD, bits=32, floating=True).replace(struct.pack("<HH", 4, 32), struct.pack("<HH", 8, 32)),
        "floats of 32 bits in 8 bytes",
    ),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_file_that_contradicts_itself_is_refused(name):
    content, said = CONTRADICTIONS[name]
    with pytest.raises(DataError, match=f"a.wav .*{said}.*; save it as WAV"):
        read_wave(content, "a.wav")


NOISE = np.random.default_rng(0).bytes(4000)


@pytest.mark.parametrize("magic", [b"RF64", b"BW64"])
def test_of_a_long_form_the_sound_ends_where_it_says(magic):
    data = whole(LOUD, 16, 2)
    sizes = chunk(b"ds64", struct.pack("<QQQI", 0, len(data), len(LOUD), 0))
    found = read_wave(
        file_of(data, 16, magic=magic, before=sizes, size=2**32 - 1, after=chunk(b"id3 ", NOISE)), "a.wav"
    )
    np.testing.assert_allclose(found.samples[:, 0], LOUD, atol=1e-4)


def test_a_long_form_that_does_not_say_its_length_is_refused():
    content = file_of(whole(LOUD, 16, 2), 16, magic=b"RF64", size=2**32 - 1, after=chunk(b"id3 ", NOISE))
    with pytest.raises(DataError, match="does not say how long its sound is"):
        read_wave(content, "a.wav")


def test_chunks_behind_an_empty_sound_are_none():
    with pytest.raises(DataError, match="has no samples"):
        read_wave(file_of(b"", 16, after=chunk(b"LIST", NOISE) + chunk(b"id3 ", b"odd")), "a.wav")


def test_any_bytes_give_a_sound_or_a_sentence():
    rng = np.random.default_rng(0)
    whole = bytearray(wav(tone(0.01), bits=24, extensible=True))
    for _ in range(400):
        content = bytearray(whole)
        for at in rng.integers(0, 80, 3):
            content[at] = rng.integers(256)
        content = content[: rng.integers(8, len(content))]
        try:
            found = read_wave(bytes(content), "a.wav")
        except DataError:
            continue
        assert np.isfinite(found.samples).all() and found.samples.ndim == 2
    assert struct.calcsize("<I") == 4
