"""WAV files of every kind, written byte by byte: none of it is the reader's own code."""

import struct

import numpy as np


def tone(seconds=0.4, rate=22_050, hertz=300.0, loud=0.5):
    return loud * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def packed(samples, bits, floating=False):
    """Return samples `[n, channels]` as bytes, little end first."""
    flat = np.asarray(samples, float).reshape(-1)
    if floating:
        return struct.pack(f"<{len(flat)}{'f' if bits == 32 else 'd'}", *flat)
    if bits == 8:
        return bytes(round(127 * v) + 128 for v in flat)
    most = 2 ** (bits - 1) - 1
    return b"".join(round(most * v).to_bytes(bits // 8, "little", signed=True) for v in flat)


def chunk(name, content, size=None):
    padding = b"\0" * (len(content) % 2)
    return name + struct.pack("<I", len(content) if size is None else size) + content + padding


def form(rate, channels, bits, kind, align=None):
    each = channels * bits // 8 if align is None else align
    return struct.pack("<HHIIHH", kind, channels, rate, rate * each, each, bits)


def wav(samples, rate=22_050, bits=16, floating=False, extensible=False, size=None, before=b"", kind=None):
    """Return a WAV file of samples `[n]` or `[n, channels]`."""
    rows = np.atleast_2d(np.asarray(samples, float).T).T
    plain = 3 if floating else 1
    said = form(rate, rows.shape[1], bits, kind if kind is not None else 0xFFFE if extensible else plain)
    if extensible:
        said += struct.pack("<HHI", 22, bits, 0) + struct.pack("<H", plain) + bytes(14)
    body = b"WAVE" + chunk(b"fmt ", said) + before + chunk(b"data", packed(rows, bits, floating), size)
    return b"RIFF" + struct.pack("<I", len(body)) + body
