"""The reader of pickles: what it reads equals what was written, and what it refuses was never run."""

import copyreg
import os
import pickle
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastadapt.data.images.unpickle import read_pickle
from fastadapt.errors import DataError
from python2_pickle import python2_pickle

PROTOCOLS = pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
RNG = np.random.default_rng(0)
ARRAYS = [
    RNG.integers(0, 256, (3, 4, 4, 3), dtype=np.uint8),
    np.asfortranarray(RNG.standard_normal((3, 5))),
    RNG.integers(-9, 9, (4, 2)).astype(">i4"),
    RNG.standard_normal(3).astype(np.float16),
    np.array([True, False]),
    np.zeros((0, 84, 84, 3), np.uint8),
    np.array(7),
    np.arange(12).reshape(3, 4)[:, ::2],
]


def write(folder: Path, content: bytes) -> Path:
    path = folder / "some.pkl"
    path.write_bytes(content)
    return path


def refused(folder: Path, content: bytes, words: str) -> str:
    with pytest.raises(DataError, match=words) as error:
        read_pickle(write(folder, content))
    assert str(folder / "some.pkl") in str(error.value) and "\n" not in str(error.value)
    return str(error.value)


# ---- what it reads


@PROTOCOLS
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype.str}{array.shape}")
def test_arrays_come_back_as_they_were(tmp_path, array, protocol):
    found = read_pickle(write(tmp_path, pickle.dumps({"a": array, "again": [array]}, protocol)))
    assert type(found["a"]) is np.ndarray and found["a"].dtype == array.dtype
    np.testing.assert_array_equal(found["a"], array, strict=True)
    np.testing.assert_array_equal(found["again"][0], array, strict=True)


@PROTOCOLS
def test_plain_values_come_back_as_they_were(tmp_path, protocol):
    value = {
        "text": "Füße", "bytes": b"\x00\xff", 3: (1, -5, 2**80, 0.5, True, None), "rows": {"n01": [1, 2]}, "none": [],
    }  # fmt: skip
    assert read_pickle(write(tmp_path, pickle.dumps(value, protocol))) == value


@PROTOCOLS
def test_numbers_of_numpy_become_numbers(tmp_path, protocol):
    found = read_pickle(write(tmp_path, pickle.dumps([np.int64(-3), np.float32(0.5), np.bool_(True)], protocol)))
    assert found == [-3, 0.5, True] and [type(value) for value in found] == [int, float, bool]


@pytest.mark.parametrize("protocol", [0, 1, 2, 3])
def test_the_names_of_older_numpy_are_known(tmp_path, protocol):
    content = pickle.dumps([ARRAYS[0], np.int64(4)], protocol).replace(b"numpy._core.", b"numpy.core.")
    assert b"numpy.core.multiarray" in content
    found = read_pickle(write(tmp_path, content))
    np.testing.assert_array_equal(found[0], ARRAYS[0], strict=True)
    assert found[1] == 4


def test_pickles_of_python_2_are_read(tmp_path):
    every = bytes(range(256))
    value = {"data": np.frombuffer(every, np.uint8).reshape(16, 16), "labels": [1, 2], "names": {"n01": 1}, "text": "a"}
    content = python2_pickle(value)
    # the ordinary reader agrees that this is what Python 2 would have written
    assert pickle.loads(content, encoding="latin1")["names"] == {"n01": 1}
    found = read_pickle(write(tmp_path, content))
    assert list(found) == ["data", "labels", "names", "text"]
    assert found["data"].tobytes() == every and found["data"].shape == (16, 16)
    assert found["labels"] == [1, 2] and found["names"] == {"n01": 1} and found["text"] == b"a"


def test_what_is_shared_is_read_once(tmp_path):
    value: list = []
    for _ in range(60):  # 2 ** 60 lists if each were walked for itself
        value = [value, value]
    found = read_pickle(write(tmp_path, pickle.dumps(value)))
    assert found[0] is found[1]


# ---- what it refuses


class Reduced:
    """Pickles as `function(*arguments)`, and a state to write to the result."""

    def __init__(self, *parts):
        self.parts = parts

    def __reduce__(self):
        return self.parts


@PROTOCOLS
@pytest.mark.parametrize("place", ["alone", "in a list", "in an array", "as an argument", "as a state"])
def test_a_command_is_refused_and_not_run(tmp_path, protocol, place):
    trap = Reduced(os.system, (f"touch {tmp_path / 'ran'}",))
    value = {
        "alone": trap,
        "in a list": {"data": ARRAYS[0], "labels": [0, [trap]]},
        "in an array": np.array([trap], dtype=object),
        "as an argument": Reduced(np.dtype, (trap,)),
        "as a state": Reduced(np.dtype, ("u1",), trap),
    }[place]
    refused(tmp_path, pickle.dumps(value, protocol), "posix.system|nt.system|'O8'")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name",
    [
        "os.system", "posix.system", "builtins.eval", "builtins.exec", "builtins.getattr", "builtins.__import__",
        "__builtin__.eval", "__builtin__.apply", "subprocess.Popen", "operator.attrgetter", "functools.partial",
        "importlib.import_module", "copyreg._reconstructor", "copy_reg._reconstructor", "types.FunctionType",
        "numpy.load", "numpy.f2py.compile", "numpy.core._internal._ctypes", "numpy.core.multiarray.fromfile",
        "numpy.core._ufunc_reconstruct", "numpy.testing._private.utils.runstring", "_codecs.decode", "codecs.encode",
        "torch.load", "pickle.loads", "fastadapt.data.images.unpickle._Maker", "collections.OrderedDict",
    ],
)  # fmt: skip
def test_every_other_name_is_refused_by_its_name(tmp_path, name):
    module, _, function = name.rpartition(".")
    by_global = f"c{module}\n{function}\n(S'1'\ntR.".encode()
    by_instance = f"(S'1'\ni{module}\n{function}\n.".encode()
    text = [struct.pack("<B", len(word)) + word.encode() for word in (module, function)]
    by_stack = b"\x80\x04\x8c" + text[0] + b"\x8c" + text[1] + b"\x93."
    for content in (by_global, by_instance, by_stack):
        assert "nothing of it was run" in refused(tmp_path, content, f"asks for {re.escape(name)}, ")


@pytest.mark.parametrize(
    "module, path",
    [
        ("numpy", "ndarray.__class__"),
        ("numpy", "dtype.__reduce__"),
        ("numpy", "core.multiarray._reconstruct"),
        ("numpy._core", "multiarray._reconstruct"),
        ("_codecs", "encode.__self__"),
    ],
)
def test_no_attribute_can_be_reached_through_a_known_name(tmp_path, module, path):
    text = [struct.pack("<B", len(word)) + word.encode() for word in (module, path)]
    refused(tmp_path, b"\x80\x04\x8c" + text[0] + b"\x8c" + text[1] + b"\x93.", re.escape(f"asks for {module}.{path}"))


def test_a_refused_module_is_not_even_imported(tmp_path):
    assert "antigravity" not in sys.modules
    refused(tmp_path, b"cantigravity\nfly\n.", "antigravity.fly")
    assert "antigravity" not in sys.modules


def test_registered_extensions_are_no_way_around(tmp_path):
    copyreg.add_extension("os", "getpid", 77)
    try:
        call = b"\x80\x02\x82\x4d)R."
        assert pickle.loads(call) == os.getpid()  # now it is in the cache that is looked at first
        refused(tmp_path, call, "asks for os.getpid")
    finally:
        copyreg.remove_extension("os", "getpid", 77)


@pytest.mark.parametrize(
    "array, kind",
    [
        (np.array([None]), "O8"),
        (np.zeros(2, [("a", "u1"), ("b", "O")]), "V9"),
        (np.array(["text"]), "U4"),
        (np.array([b"text"]), "S4"),
        (np.array(["2020-01-01"], "M8[D]"), "M8"),
        (np.zeros(2, np.complex64), "c8"),
    ],
)
@PROTOCOLS
def test_only_arrays_of_plain_numbers_are_made(tmp_path, array, kind, protocol):
    refused(tmp_path, pickle.dumps([array], protocol), f"array of '{kind}', and only plain numbers")


def test_a_type_can_not_be_turned_into_records_afterwards(tmp_path):
    for field in range(3):
        states = ["N", "N", "N"]
        states[field] = "(S'a'\nt"
        content = "cnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\n" + "".join(states) + "I-1\nI-1\nI0\ntb."
        refused(tmp_path, content.encode(), "array of records")
    refused(tmp_path, b"cnumpy\ndtype\n(S'u1'\ntR(I3\nS'!'\nNNNI-1\nI-1\nI0\ntb.", "byte order")


@pytest.mark.parametrize(
    "content, words",
    [
        (b"cnumpy\ndtype\n}S'x'\nI1\nsb.", "writes to what is not its own"),
        (b"cnumpy\nndarray\n(N}S'x'\nI1\nstb.", "writes to what is not its own"),
        (b"\x80\x02cnumpy\ndtype\n)\x81.", "damaged or no pickle"),
        (b"cnumpy\nndarray\n(I3\ntR.", "damaged or no pickle"),
        (b"cnumpy\nndarray\n.", "name of a function or type"),
        (b"cnumpy\ndtype\n(S'u1'\ntR.", "name of a function or type"),
        (b"cnumpy\ndtype\n(I3\ntR.", "a int where a name"),
        (b"c_codecs\nencode\n(Vabc\nVrot13\ntR.", "an encoding that arrays"),
        (b"c_codecs\nencode\n(Vabc\ntR.", "an encoding that arrays"),
        (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(I0\ntS'b'\ntR.", "unknown form"),
        (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR.", "name of a function or type"),
        (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR}b.", "unknown form"),
        (b"cnumpy.core.numeric\n_frombuffer\n(S'ab'\ncnumpy\ndtype\n(S'u1'\ntR(I3\ntVC\ntR.", "2 bytes where"),
        (b"cnumpy.core.numeric\n_frombuffer\n(S'ab'\ncnumpy\ndtype\n(S'u1'\ntR(I-1\nI-2\ntVC\ntR.", "2 bytes where"),
        (b"cnumpy.core.numeric\n_frombuffer\n(Vab\ncnumpy\ndtype\n(S'u1'\ntR(I2\ntVC\ntR.", "no bytes"),
        (b"cnumpy.core.numeric\n_frombuffer\n(S'ab'\ncnumpy\ndtype\n(S'u1'\ntR(I2\ntVK\ntR.", "no bytes"),
        (b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'u1'\ntRS'ab'\ntR.", "2 bytes where"),
        (b"Psome object\n.", "damaged or no pickle"),
        (b"(lp0\ng0\na.", "list that contains itself"),
        (b"\x80\x04\x8f.", "holds a set"),
        (b"}(I1\nI2\ntI3\ns.", "a tuple as a key"),
        (b"", "damaged or no pickle"),
        (b"filename,label\n", "damaged or no pickle"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.", "damaged or no pickle"),
        (b"]" * 50_000 + b"a" * 49_999 + b".", "damaged or no pickle"),
        (pickle.dumps(ARRAYS[0])[:-40], "damaged or no pickle"),
    ],
)
def test_tricks_and_damage_end_in_one_sentence(tmp_path, content, words):
    refused(tmp_path, content, words)


def test_a_reader_keeps_nothing_of_what_it_refused(tmp_path):
    good = pickle.dumps(ARRAYS[0], 2)
    for content in (b"cnumpy\ndtype\n}S'_make'\nNsb.", b"cnumpy\ndtype\n(N}S'_make'\nNstb."):
        refused(tmp_path, content, "not its own")
    np.testing.assert_array_equal(read_pickle(write(tmp_path, good)), ARRAYS[0])


def test_files_that_are_none_are_named(tmp_path):
    with pytest.raises(DataError, match=r"can't read .*missing\.pkl: there is no such file"):
        read_pickle(tmp_path / "missing.pkl")
    with pytest.raises(DataError, match="can't read"):
        read_pickle(tmp_path)


def test_a_name_can_not_break_the_message(tmp_path):
    refused(tmp_path, b"cev\x1b[31mil\nsys\x07tem\n.", r"asks for ev\\x1b\[31mil\.sys\\x07tem")


@pytest.mark.long
def test_reading_imports_nothing(tmp_path):
    path = write(tmp_path, python2_pickle({"data": ARRAYS[0]}))
    code = f"""
import sys; from pathlib import Path; from fastadapt.data.images.unpickle import read_pickle
before = set(sys.modules); read_pickle(Path({str(path)!r})); sys.exit(', '.join(set(sys.modules) - before) or 0)"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
