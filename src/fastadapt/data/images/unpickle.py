"""Pickles of arrays from people one doesn't know, read without running anything they hold.

A pickle is a program: what it names, the ordinary reader imports and calls. This reader knows seven names and none of
them leads to numpy, codecs or any other code but the few functions below, which check what they are given:

* a name that is not in the table is refused before anything is imported;
* what stands in the table can't be changed, subclassed or given attributes by the pickle (`_Maker`, `_Inert`);
* arrays and types are made here from plain bytes and checked numbers, so numpy never sees a state that a stranger
  wrote, and an array of objects, records or text can't be made at all.
"""

import copyreg
import math
import operator
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fastadapt.data.files import reason, shown
from fastadapt.errors import DataError

_DTYPES = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248])")
_MOST_DIMENSIONS = 8
_ATOMS = (str, bytes, bytearray, int, float, type(None))
_OPEN = object()  # marks a container that is being converted


class _RefusedError(Exception):
    """The pickle asks for what data don't need."""


class _Inert:
    """Stand for a name that pickles mention and that nothing is to be done with."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise _RefusedError("it writes to what is not its own")


class _Maker(_Inert):
    """Wrap a function that a pickle may call.

    It is no class and has no attributes, so the instructions of a pickle that make instances or write attributes
    fail on it.
    """

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)


class _Type:
    """Hold a plain numerical dtype; a pickle names it first and its byte order afterwards."""

    __slots__ = ("dtype",)

    def __init__(self, name: Any, *_: Any) -> None:
        text = _text(name)
        if not _DTYPES.fullmatch(text):
            raise _RefusedError(f"it holds an array of {shown(text)!r}, and only plain numbers are read")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or state[2:5] != (None, None, None):
            raise _RefusedError("it holds an array of records, and only plain numbers are read")
        order = _text(state[1])
        if order not in ("<", ">", "|", "="):
            raise _RefusedError(f"it names the byte order {shown(order)!r}, which does not exist")
        if order in "<>":
            self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """Hold an array; a pickle makes it first and fills it afterwards."""

    __slots__ = ("content",)

    def __init__(self) -> None:
        self.content: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise _RefusedError("it holds an array in an unknown form")
        _, shape, kind, fortran, raw = state
        self.content = _filled(raw, kind, shape, "F" if fortran else "C")


def read_pickle(path: Path) -> Any:
    """Return what a pickle holds, if that is numbers, text, bytes and arrays of numbers in lists, tuples and dicts.

    Pickles of Python 2 and 3, protocols 0 to 5, with arrays of numpy 1 or 2. Text of Python 2 comes as bytes, but the
    keys of dicts are text always. Arrays may be read-only. The file's size is the memory it takes, twice that for a
    moment if Python 2 wrote it.

    Args:
        path: a regular file.

    Raises:
        DataError: if it can't be read, is damaged, or asks for anything else; nothing of it was run then.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "rows.pkl")
        >>> _ = path.write_bytes(pickle.dumps({"rows": np.arange(3)}))
        >>> read_pickle(path)
        {'rows': array([0, 1, 2])}
    """
    # A program may have registered short codes for objects of its own; known ones are looked up past find_class.
    copyreg.clear_extension_cache()
    try:
        with path.open("rb") as file:
            return _plain(_Reader(file, encoding="bytes").load(), {})
    except _RefusedError as error:
        raise DataError(
            f"can't use {shown(path)}: {error}; nothing of it was run; get the file from someone you trust"
        ) from None
    except OSError as error:
        raise DataError(f"can't read {shown(path)}: {reason(error)}") from error
    except Exception as error:  # on broken bytes the reader raises anything, from EOFError to MemoryError
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"can't read {shown(path)}: it is damaged or no pickle ({problem}); get it again") from error


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name in here; it is never imported."""
        known = _KNOWN.get((module, name))
        if known is None:
            raise _RefusedError(f"it asks for {shown(f'{module}.{name}')}, which arrays don't need")
        return known


def _filled(raw: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    """Return the array over `raw`, after everything about it was found to fit."""
    if not isinstance(kind, _Type) or not isinstance(shape, tuple) or len(shape) > _MOST_DIMENSIONS:
        raise _RefusedError("it holds an array in an unknown form")
    if not isinstance(raw, bytes | bytearray) or order not in ("C", "F"):
        raise _RefusedError("it holds an array whose content is no bytes")
    sides = [operator.index(side) for side in shape]
    need = math.prod(sides) * kind.dtype.itemsize
    if min(sides, default=0) < 0 or need != len(raw):
        raise _RefusedError(f"it holds an array of {len(raw)} bytes where its shape {sides} needs {need}")
    return np.ndarray(sides, kind.dtype, buffer=raw, order=order)


def _reconstruct(base: Any, *_: Any) -> _Array:
    if base is not _NDARRAY:
        raise _RefusedError("it holds an array in an unknown form")
    return _Array()


def _from_buffer(raw: Any, kind: Any, shape: Any, order: Any = "C", *more: Any) -> _Array:
    if any(value is not None for value in more):
        raise _RefusedError("it holds an array in an unknown form")
    array = _Array()
    array.content = _filled(raw, kind, shape, order)
    return array


def _scalar(kind: Any, raw: Any) -> Any:
    return _filled(raw, kind, (), "C").item()


def _encode(text: Any, encoding: Any = None) -> bytes:
    """Return bytes that were written as text, which is how the protocols before 3 keep them."""
    if not isinstance(text, str) or encoding != "latin1":
        raise _RefusedError("it asks for an encoding that arrays don't need")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Return empty bytes, which the same protocols write as a call of their type."""
    return b""


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin1")
    if not isinstance(value, str):
        raise _RefusedError(f"it has a {type(value).__name__} where a name is expected")
    return value


def _plain(value: Any, done: dict[int, Any]) -> Any:
    """Return `value` with arrays in place of their stand-ins; whatever is shared is converted once."""
    if isinstance(value, _Array) and value.content is not None:
        return value.content
    if isinstance(value, _Array | _Type | _Inert):
        raise _RefusedError("it holds the name of a function or type where data are expected")
    if not isinstance(value, dict | list | tuple):
        if not isinstance(value, _ATOMS):
            raise _RefusedError(f"it holds a {type(value).__name__}")
        return value
    if id(value) not in done:
        done[id(value)] = _OPEN
        if isinstance(value, dict):
            made: Any = {_key(key): _plain(item, done) for key, item in value.items()}
        else:
            made = type(value)(_plain(item, done) for item in value)
        done[id(value)] = made
    if done[id(value)] is _OPEN:
        raise _RefusedError("it holds a list that contains itself")
    return done[id(value)]


def _key(key: Any) -> Any:
    if isinstance(key, bytes):
        return key.decode("latin1")
    if not isinstance(key, str | int | float | None):
        raise _RefusedError(f"it has a {type(key).__name__} as a key")
    return key


_NDARRAY = _Inert()
_CORES = ("numpy.core", "numpy._core")  # the name before numpy 2, and since
_KNOWN: dict[tuple[str, str], _Inert] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Maker(_Type),
    ("_codecs", "encode"): _Maker(_encode),
    ("__builtin__", "bytes"): _Maker(_no_bytes),
    **{(f"{core}.multiarray", "_reconstruct"): _Maker(_reconstruct) for core in _CORES},
    **{(f"{core}.multiarray", "scalar"): _Maker(_scalar) for core in _CORES},
    **{(f"{core}.numeric", "_frombuffer"): _Maker(_from_buffer) for core in _CORES},
}
