"""Pickles as Python 2 wrote them, protocol 2: its `str` is what Python 3 calls bytes, and its numpy is old."""

import struct

import numpy as np

MARK, TUPLE, REDUCE, BUILD = b"(", b"t", b"R", b"b"


def python2_pickle(value: object) -> bytes:
    return b"\x80\x02" + _written(value) + b"."


def _written(value: object) -> bytes:
    if isinstance(value, str):
        raw = value.encode("latin1")
        return b"U" + bytes([len(raw)]) + raw
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(_written, value)) + b"e"
    if isinstance(value, tuple):
        return MARK + b"".join(map(_written, value)) + TUPLE
    if isinstance(value, dict):
        return b"}(" + b"".join(_written(key) + _written(item) for key, item in value.items()) + b"u"
    assert isinstance(value, np.ndarray)
    name, order = value.dtype.str[1:], value.dtype.str[0]
    kind = b"cnumpy\ndtype\n" + _written((name, 0, 1)) + REDUCE
    kind += MARK + _written(3) + _written(order) + b"NNN" + _written(-1) + _written(-1) + _written(0) + TUPLE + BUILD
    raw = np.ascontiguousarray(value).tobytes()
    empty = b"cnumpy.core.multiarray\n_reconstruct\n" + MARK + b"cnumpy\nndarray\n" + _written((0,)) + b"U\x01b" + TUPLE
    content = b"T" + struct.pack("<i", len(raw)) + raw
    state = MARK + _written(1) + _written(value.shape) + kind + b"\x89" + content + TUPLE
    return empty + REDUCE + state + BUILD
