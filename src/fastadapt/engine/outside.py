"""What Python code can read that no guard sees: files, other processes, settings of torch, attributes by any name.

Code of libraries is not looked into. What a library may do with what the user's code hands to it is said by tables:
modules of the standard library whose results are not a function of their arguments, and those that read only what is
named. In doubt a library may read every attribute of what it is given.
"""

import pathlib
import sys
import types
from collections.abc import Set
from typing import Any

import torch

from fastadapt.engine.reading import installed

LOOKED_UP = frozenset(
    {"getattr", "hasattr", "vars", "__dict__", "attrgetter", "methodcaller", "__getattribute__", "dir", "__getstate__"}
    | {"astuple", "asdict", "fields", "format", "format_map", "__format__", "__match_args__", "getmembers"}
    | {"__reduce__", "__reduce_ex__", "deepcopy", "__slots__", "get_object_vars"}
)
"""Names of what finds attributes that are not spelled out in the code."""
BUILTINS = frozenset({"open", "input", "eval", "exec", "globals", "locals", "__import__", "breakpoint"})
"""Builtins whose result can't be known beforehand."""
_ELSEWHERE = frozenset(
    {"io", "_io", "tempfile", "shutil", "glob", "fileinput", "pickle", "_pickle", "shelve", "sqlite3", "dbm"}
    | {"csv", "_csv", "configparser", "subprocess", "socket", "urllib", "http", "ssl", "select"}
    | {"multiprocessing", "queue", "mmap", "zipfile", "tarfile", "gzip", "bz2", "lzma", "platform", "resource"}
    | {"gc", "importlib", "runpy", "asyncio", "signal", "linecache", "tomllib", "locale", "getpass", "pwd"}
    | {"ftplib", "smtplib", "tracemalloc", "ctypes"}
)
"""Modules of the standard library that read files, other processes or the interpreter."""
_NAMED_ALONE = frozenset(
    {"builtins", "math", "cmath", "operator", "_operator", "functools", "_functools", "itertools"}
    | {"collections", "_collections", "typing", "types", "enum", "abc", "_abc", "contextlib", "warnings"}
    | {"_warnings", "logging", "string", "re", "numbers", "statistics", "fractions", "decimal", "weakref"}
    | {"_weakref", "threading", "_thread", "contextvars", "_contextvars", "json", "random", "time", "datetime"}
    | {"os", "posix", "pathlib", "sys", "bisect", "heapq", "torch", "numpy", "einops", "scipy", "fastadapt"}
    | {"__future__", "collections.abc", "secrets", "uuid", "posixpath", "struct", "hashlib", "array"}
)
"""Libraries that read no attribute of a user's object but those that all code reads."""
_FILES = frozenset(
    {"read_text", "read_bytes", "open", "listdir", "scandir", "stat", "lstat", "exists", "is_file", "is_dir", "iterdir"}
    | {"glob", "rglob", "walk", "getcwd", "cwd", "getmtime", "getsize", "isfile", "isdir", "popen", "system", "touch"}
    | {"getloadavg", "getpid", "readlink", "samefile", "owner", "home", "expanduser", "resolve", "absolute"}
)
_ARRAYS = frozenset({"load", "loadtxt", "genfromtxt", "fromfile", "memmap", "from_file", "DataSource"})
_OF_ARGUMENTS = frozenset(
    {"is_tensor", "is_complex", "is_floating_point", "is_nonzero", "is_storage", "is_same_size"}
    | {"is_inference", "is_conj", "is_neg", "is_signed", "is_distributed", "get_device", "is_vulkan_available"}
    | {"is_grad_enabled", "is_autocast_enabled", "get_autocast_dtype", "get_default_dtype"}
    | {"are_deterministic_algorithms_enabled", "is_deterministic_algorithms_warn_only_enabled"}
    | {"get_float32_matmul_precision"}
)
"""Functions of torch that sound like a setting and are a function of their arguments, or of what is watched."""


def settings() -> Any:
    """Return settings of torch that code may ask for."""
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.get_float32_matmul_precision(),
    )


def _package(value: Any) -> str:
    name = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
    if name is None and isinstance(value, types.BuiltinFunctionType):
        name = type(value.__self__).__module__
    return name.partition(".")[0] if isinstance(name, str) else ""


def read_by(value: Any, names: Set[str]) -> str | None:
    """Return what code reads from outside by a value that it loads, if it names one by which it would.

    Args:
        value: a module, a function, a class or a path.
        names: the attributes that the code names.

    Example:
        >>> import numpy as np
        >>> read_by(np, {"load"}), read_by(np, {"exp"})
        ('numpy.load, which reads a file', None)
    """
    if isinstance(value, (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, type)):
        package, name = _package(value), getattr(value, "__name__", "")
        if package in _ELSEWHERE and package in sys.stdlib_module_names:
            return f"{name}, which reads what lies outside of the program"
        module = isinstance(value, types.ModuleType)
        asked = names if module else {name, *(names if value in (pathlib.Path, pathlib.PosixPath) else ())}
        if package in ("os", "posix", "pathlib", "posixpath") and asked & _FILES:
            return f"{package}.{min(asked & _FILES)}, which asks for files"
        if package in ("numpy", "torch") and asked & _ARRAYS:
            return f"{package}.{min(asked & _ARRAYS)}, which reads a file"
        if value is torch or (package == "torch" and not module):
            return _setting(asked)
        if package == "torch" and module and (name == "torch.backends" or name.startswith("torch.backends.")):
            return f"{name}, settings of torch"
    return None


def _setting(names: Set[str]) -> str | None:
    found = [n for n in names if n.startswith(("get_", "is_", "are_")) and n not in _OF_ARGUMENTS and hasattr(torch, n)]
    found += ["backends"] if "backends" in names else []
    return f"torch.{min(found)}, a setting of torch" if found else None


def files_named(names: Set[str]) -> str | None:
    """Return the name by which a path that is met would be read, if code has one."""
    return min(names & _FILES, default=None)


def opaque(value: Any) -> bool:
    """Return whether what is loaded is a library's that may read any attribute of what it is given.

    Example:
        >>> import copy, math
        >>> opaque(copy.copy), opaque(math.exp), opaque("{0.beta}".format)
        (True, False, True)
    """
    if not isinstance(value, (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, type)):
        return type(value).__name__ in LOOKED_UP
    if isinstance(value, types.BuiltinFunctionType) and value.__name__ in LOOKED_UP:
        return True
    return _package(value) not in _NAMED_ALONE and (isinstance(value, types.BuiltinFunctionType) or installed(value))
