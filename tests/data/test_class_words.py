"""The classes of samples: none is missing in silence, none is two by its spelling without a word."""

import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from fastadapt.data.embeddings.arrays import as_bytes
from fastadapt.data.embeddings.class_words import class_words
from fastadapt.data.embeddings.embeddings import Embeddings
from fastadapt.data.embeddings.reading import read_embeddings
from fastadapt.errors import DataError

ROWS = np.random.default_rng(0).normal(size=(6, 3)).round(3)


def csv(path, labels):
    path = path.with_suffix(".csv")
    lines = [f"{label};{';'.join(map(str, row))}" for label, row in zip(labels, ROWS.tolist(), strict=True)]
    path.write_text("\n".join(["label;a;b;c", *lines]))
    return path


def npz(path, labels, **more):
    np.savez(path.with_suffix(".npz"), features=ROWS, labels=np.array(labels), **more)
    return path.with_suffix(".npz")


def parquet(path, labels):
    table = pa.table({"label": labels, **{name: ROWS[:, i] for i, name in enumerate("abc")}})
    pq.write_table(table, path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


@pytest.mark.parametrize("word", ["nan", "NaN", "NA", "?", "N/A", "<NA>", "#N/A", ""])
@pytest.mark.parametrize("write", [csv, npz, parquet])
def test_a_missing_class_is_refused(write, word, tmp_path):
    with pytest.raises(DataError, match=r"(row 2|line 3) has no class.*and 1 further rows.*leave the row out"):
        read_embeddings(write(tmp_path / "f", ["a", word, "b", word, "a", "b"]))


@pytest.mark.parametrize("labels", [[1.0, float("nan"), 2, 2, 1, 1], [1, None, 2, 2, 1, 1], ["a", None, *"abab"]])
def test_a_value_that_is_not_there_is_refused(labels, tmp_path):
    with pytest.raises(DataError, match="row 2 has no class"):
        read_embeddings(parquet(tmp_path / "f", labels))
    if all(isinstance(label, float | int) for label in labels):
        with pytest.raises(DataError, match="row 2 has no class"):
            read_embeddings(npz(tmp_path / "f", labels, class_names=["x", "y", "z"]))


def test_words_that_may_be_a_class_are_told_beside_text_and_refused_beside_numbers(tmp_path, caplog):
    made = read_embeddings(csv(tmp_path / "f", ["some", "none", "some", "None", "many", "many"]))
    assert made.counts == {"None": 1, "many": 2, "none": 1, "some": 2}
    assert "'none' (1 rows) is taken for a class; if it says that there is none" in caplog.text
    assert "the classes 'None' and 'none' differ in case alone; they are two here" in caplog.text
    with pytest.raises(DataError, match="line 3 has no class, as 'none' says"):
        read_embeddings(csv(tmp_path / "f", ["1", "none", "2", "1", "2", "1"]))


def test_a_file_to_be_answered_needs_no_classes(tmp_path):
    for write in (csv, npz, parquet):
        assert read_embeddings(write(tmp_path / "f", ["a", "", "?", "b", "nan", "a"]), classes=False).labels is None


@pytest.mark.parametrize("write", [csv, npz, parquet])
def test_a_whole_number_is_one_class_however_it_is_written(write, tmp_path, caplog):
    made = read_embeddings(write(tmp_path / "f", ["1", "1.0", "2", "2.0", "3", "3"]))
    assert made.counts == {"1": 2, "2": 2, "3": 2}
    assert "the class '1.0' is taken for '1'" in caplog.text


@pytest.mark.parametrize("labels", [[1.0, 1, 2, 2, 3, 3], [1, 1, 2, 2, 3, 3]])
def test_numbers_are_the_same_classes_in_every_format(labels, tmp_path):
    for write in (csv, npz, parquet):
        assert read_embeddings(write(tmp_path / "f", labels)).class_names == ("1", "2", "3")


@pytest.mark.parametrize(("one", "other"), [("Cat", "cat"), ("red  fox", "red fox"), ("1", "01"), ("7", "7.00e0")])
def test_classes_that_may_be_one_are_told(one, other, tmp_path, caplog):
    made = read_embeddings(csv(tmp_path / "f", [one, other, "8", "9", one, other]))
    assert {one, other} <= set(made.class_names)
    assert any(repr(one) in note and repr(other) in note and "alike" in note for note in caplog.messages)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        class_words("f", ["cat", "dog", "12", "13"], ["row"] * 4)
    assert not caplog.text


@pytest.mark.parametrize("labels", [["0.5", "1", "2", "1", "0.5", "2"], ["1.25"] * 3 + ["7"] * 3])
def test_amounts_are_no_classes(labels, tmp_path):
    for write in (csv, npz, parquet):
        with pytest.raises(DataError, match=r"the classes are numbers such as .*words or whole numbers are needed"):
            read_embeddings(write(tmp_path / "f", labels))
    read_embeddings(csv(tmp_path / "f", ["v0.5", *labels[1:]]))  # among words they are names


def test_what_may_say_unlabelled_is_told(tmp_path, caplog):
    assert "-1" in read_embeddings(npz(tmp_path / "f", [-1, 0, 1, 0, 1, -1])).class_names
    assert "-1 (2 rows) counts as a class" in caplog.text


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint8, np.int16])
def test_names_are_looked_up_by_numbers_of_any_kind(kind, tmp_path):
    path = npz(tmp_path / "f", np.array([0, 1, 2, 0, 1, 2], kind), class_names=["owl", "cat", "dog"])
    assert [read_embeddings(path).class_names[i] for i in read_embeddings(path).labels] == ["owl", "cat", "dog"] * 2


@pytest.mark.parametrize(
    ("labels", "names", "words"),
    [
        ([0, 1, 2] * 2, ["cat", "cat", "dog"], "class_names has 'cat' for 0 and 'cat' for 1, which is one class"),
        ([0, 1, 2] * 2, ["cat", "cat ", "dog"], "class_names has 'cat' for 0 and 'cat' for 1"),
        ([0, 1, 2] * 2, ["dog", "7", "7.0"], "class_names has '7' for 1 and '7.0' for 2, which is one class"),
        ([1, 2, 3] * 2, ["cat", "dog", "owl"], "numbers 1 to 3, and class_names has 3 names.*; subtract 1"),
        ([0.5, 1, 2] * 2, ["cat", "dog", "owl"], "words or whole numbers"),
        ([0, 1, 2] * 2, ["cat", "nan", "owl"], "row 2 has no class, as 'nan' says"),
        ([0, 1, 2] * 2, [["cat", "dog", "owl"]], r"class_names has shape \[1, 3\]; give one name for each class"),
    ],
)
def test_names_that_tell_no_class_are_refused(labels, names, words, tmp_path):
    with pytest.raises(DataError, match=words):
        read_embeddings(npz(tmp_path / "f", labels, class_names=names))


def test_names_that_may_be_off_by_one_or_are_not_used_are_told(tmp_path, caplog):
    read_embeddings(npz(tmp_path / "f", [1, 2, 3] * 2, class_names=["nothing", "cat", "dog", "owl"]))
    assert (
        "no row has the class 0, 'nothing'" in caplog.text and "if the numbers count from 1, subtract 1" in caplog.text
    )
    caplog.clear()
    read_embeddings(npz(tmp_path / "f", [0, 1, 2] * 2, class_names=["cat", "dog", "owl", "hen"]))
    assert not caplog.text
    read_embeddings(npz(tmp_path / "f", ["cat", "dog", "owl"] * 2, class_names=["owl", "dog", "cat"]))
    assert "'class_names' is left out, as it names classes that are numbers" in caplog.text


def test_names_that_a_list_told_apart_stay_apart(tmp_path):
    """What `embed` wrote of folders is kept as they are called, one called NA and one called 1.0 too."""
    made = Embeddings(
        torch.from_numpy(ROWS.astype("f4")), np.array([0, 1, 2, 0, 1, 2]), ("1", "1.0", "NA"), backbone="net"
    )
    (tmp_path / "f.npz").write_bytes(as_bytes(made, ".npz"))
    assert read_embeddings(tmp_path / "f.npz").counts == {"1": 2, "1.0": 2, "NA": 2}


def test_bytes_are_words(tmp_path):
    words = np.array(["owl", "cat", "é"] * 2)
    path = npz(tmp_path / "f", np.char.encode(words, "utf-8"))
    assert read_embeddings(path).counts == {"cat": 2, "owl": 2, "é": 2}
    path = npz(tmp_path / "f", [0, 1, 2] * 2, class_names=np.char.encode(words[:3], "utf-8"))
    assert read_embeddings(path).counts == {"cat": 2, "owl": 2, "é": 2}
