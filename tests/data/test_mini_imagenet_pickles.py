"""The pickles of mini-ImageNet that are passed around, of Python 2 and 3, and what is wrong with others."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from fastadapt.data import load_mini_imagenet, mini_imagenet_split
from fastadapt.data.images.mini_imagenet_pickles import read_arrays
from fastadapt.errors import DataError
from python2_pickle import python2_pickle
from small_mini_imagenet import Files, as_array, category_pickle, small_files, write_cache_pickle

CATEGORY = {
    "train": "miniImageNet_category_split_train_phase_train.pickle",
    "val": "miniImageNet_category_split_val.pickle",
    "test": "miniImageNet_category_split_test.pickle",
}
BLANK = np.zeros((4, 84, 84, 3), np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FASTADAPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def in_pickle_order(files: Files, content: dict) -> np.ndarray:
    """Return the images class by class, those of a class in the order of the pickle's rows."""
    return content["data"][np.argsort(content["labels"], kind="stable")]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ["train", "val", "validation", "test"])
def test_the_cache_pickles(tmp_path, name, protocol):
    part = name[:3] if name == "validation" else name
    files = small_files(part)
    data = load_mini_imagenet(write_cache_pickle(tmp_path, name, files, protocol), part=part, complete=False)
    assert data.class_names == mini_imagenet_split().classes(part)[:3]
    assert data.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert np.array_equal(data.images.numpy(), as_array(files))


@pytest.mark.parametrize("write", [python2_pickle, pickle.dumps])
@pytest.mark.parametrize("part", CATEGORY)
def test_the_category_pickles(tmp_path, part, write, caplog):
    content = category_pickle(files := small_files(part))
    (tmp_path / CATEGORY[part]).write_bytes(write(content))
    data = load_mini_imagenet(tmp_path, part=part, complete=False)
    assert data.class_names == mini_imagenet_split().classes(part)[:3]
    assert np.array_equal(data.images.numpy(), in_pickle_order(files, content))
    assert np.bincount(data.labels).tolist() == [4, 4, 4]
    assert not caplog.text


@pytest.mark.parametrize("labels", [list, np.asarray, tuple])
def test_a_pickle_without_names_numbers_its_classes_and_says_so(tmp_path, labels, caplog):
    content = category_pickle(files := small_files("val"), named=False)
    content["labels"] = labels(content["labels"])
    (tmp_path / CATEGORY["val"]).write_bytes(pickle.dumps(content))
    data = load_mini_imagenet(tmp_path, part="val", complete=False)
    assert data.class_names == ("class 64", "class 65", "class 66")
    assert np.array_equal(data.images.numpy(), in_pickle_order(files, content))
    for _ in range(2):  # decoded, and from the copy
        caplog.clear()
        with pytest.raises(DataError, match="has 4 problems") as error:
            load_mini_imagenet(tmp_path, part="val")
        assert "has 3 classes, the val part has 16" in str(error.value)
        assert "class class 64 has 4 images" not in str(error.value) and "class 64 has 4 images" in str(error.value)
        assert "does not name them" in caplog.text and "can't be verified" in caplog.text


def test_names_of_other_classes_do_no_harm_and_missing_ones_are_no_names(tmp_path):
    content = category_pickle(small_files("val"))
    names = content["catname2label"]
    assert isinstance(names, dict)
    names["n99999999"] = 3
    path = tmp_path / "a.pickle"
    path.write_bytes(pickle.dumps(content))
    assert read_arrays(path, 84).named and list(read_arrays(path, 84).rows) == list(mini_imagenet_split().val[:3])
    del names[mini_imagenet_split().val[0]]
    path.write_bytes(pickle.dumps(content))
    assert not read_arrays(path, 84).named and list(read_arrays(path, 84).rows) == ["class 64", "class 65", "class 66"]


def test_a_trap_in_the_place_of_the_labels_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    path = tmp_path / "mini-imagenet-cache-train.pkl"
    path.write_bytes(pickle.dumps({"image_data": BLANK, "class_dict": Trap()}))
    with pytest.raises(DataError, match=r"cache-train\.pkl: it asks for (posix|nt)\.system"):
        load_mini_imagenet(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content, words",
    [
        ([BLANK], "holds a list, no dictionary of arrays"),
        ({"images": BLANK}, "has the keys images; mini-ImageNet's have image_data"),
        ({"image_data": BLANK[..., 0], "class_dict": {}}, r"must be uint8 \[N, 84, 84, 3\], got uint8 \[4, 84, 84\]"),
        ({"image_data": BLANK.astype(float), "class_dict": {}}, "got float64"),
        ({"image_data": [1], "class_dict": {}}, "got list"),
        ({"image_data": BLANK, "class_dict": [1]}, "the rows of each class by its name"),
        ({"image_data": BLANK, "class_dict": {3: [1]}}, "the rows of each class by its name"),
        ({"image_data": BLANK, "class_dict": {"a": [0, 4]}}, r"names the rows 0\.\.4 of 4 images"),
        ({"image_data": BLANK, "class_dict": {"a": [-1]}}, r"names the rows -1\.\.-1"),
        ({"image_data": BLANK, "class_dict": {"a": [0, 1], "b": [1]}}, "an image more than once"),
        ({"image_data": BLANK, "class_dict": {"a": [0.5]}}, "rows of class a in .* list of whole numbers"),
        ({"image_data": BLANK, "class_dict": {"a": [10**30]}}, "list of whole numbers"),
        ({"image_data": BLANK, "class_dict": {"a": np.array(1)}}, "list of whole numbers"),
        ({"image_data": BLANK, "class_dict": {}}, "there is no image in"),
        ({"data": BLANK, "labels": [1, 2]}, "has 4 images and 2 labels"),
        ({"data": BLANK, "labels": "abcd"}, "labels in .* list of whole numbers"),
    ],
)
def test_other_pickles_are_refused_in_a_sentence(tmp_path, content, words):
    (tmp_path / "mini-imagenet-cache-train.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=words):
        load_mini_imagenet(tmp_path, complete=False)
