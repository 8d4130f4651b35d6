"""The layouts in which people have mini-ImageNet: where they are found, what is read, and what is wrong with them."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastadapt.data import load_mini_imagenet, mini_imagenet_split
from fastadapt.errors import DataError
from small_mini_imagenet import (
    as_array,
    picture,
    small_files,
    write_cache_pickle,
    write_folders,
    write_list,
    write_packed_list,
    write_zip,
)

LAYOUTS = pytest.mark.parametrize("write", [write_folders, write_zip, write_list, write_packed_list])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FASTADAPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# ---- layouts


@LAYOUTS
@pytest.mark.parametrize("below", ["", "mini_imagenet", "miniImageNet"])
def test_every_layout_of_files_gives_the_same_images_in_the_same_order(tmp_path, write, below):
    files = small_files("val")
    write(tmp_path / "data" / below, "val", files)
    data = load_mini_imagenet(tmp_path / "data", part="val", complete=False)
    assert data.class_names == mini_imagenet_split().val[:3] and data.part == "val"
    assert data.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert data.images.dtype == torch.uint8
    assert np.array_equal(data.images.numpy(), as_array(files))


def test_a_pickle_gives_the_same_images_too(tmp_path):
    files = small_files("val")
    data = load_mini_imagenet(write_cache_pickle(tmp_path, "val", files), part="val", complete=False)
    assert data.class_names == mini_imagenet_split().val[:3]
    assert np.array_equal(data.images.numpy(), as_array(files))


@pytest.mark.parametrize("name", ["validation", "val"])
def test_other_names_of_the_validation_part_are_known(tmp_path, name):
    write_zip(tmp_path, name, small_files("val"))
    assert len(load_mini_imagenet(tmp_path, part="val", complete=False).images) == 12


@pytest.mark.parametrize("prefix", ["", "some/folder/train/", "./"])
def test_what_stands_before_the_class_folders_in_an_archive_does_not_matter(tmp_path, prefix):
    data = load_mini_imagenet(write_zip(tmp_path, "train", small_files(), prefix), complete=False)
    assert np.array_equal(data.images.numpy(), as_array(small_files()))


def test_the_environment_names_the_folder(tmp_path, monkeypatch):
    write_zip(tmp_path / "data" / "mini_imagenet", "train", small_files())
    for given in ("data", "data/mini_imagenet"):
        monkeypatch.setenv("FASTADAPT_DATA", str(tmp_path / given))
        assert len(load_mini_imagenet(complete=False).images) == 12


def test_an_image_of_84_pixels_stays_and_any_other_is_resized_with_lanczos(tmp_path):
    name = mini_imagenet_split().train[0]
    files = {name: {"a.jpg": picture(1), "b.JPEG": picture(2, 500, 375), "c.png": picture(3, 50, 60, "PNG")}}
    images = load_mini_imagenet(write_folders(tmp_path, "train", files), complete=False).images
    for image, content in zip(images, files[name].values(), strict=True):
        original = Image.open(io.BytesIO(content))
        expected = original if original.size == (84, 84) else original.resize((84, 84), Image.Resampling.LANCZOS)
        assert np.array_equal(image.numpy(), np.asarray(expected))


def test_grey_and_transparent_images_become_rgb(tmp_path):
    folder = tmp_path / "train" / mini_imagenet_split().train[0]
    folder.mkdir(parents=True)
    Image.new("L", (84, 84), 90).save(folder / "grey.jpg")
    Image.new("RGBA", (84, 84), (10, 20, 30, 255)).save(folder / "layers.png")
    images = load_mini_imagenet(tmp_path, complete=False).images
    assert images[0].unique().tolist() == [90] and images[1, 0, 0].tolist() == [10, 20, 30]


def test_what_is_no_image_is_passed_over(tmp_path):
    folder = write_folders(tmp_path, "train", small_files())
    some = mini_imagenet_split().train[0]
    for path in ("train/.hidden/a.jpg", f"train/{some}/._a.jpg", f"train/{some}/notes.txt", "train/loose.jpg"):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(b"junk")
    files = small_files() | {"__MACOSX/train/n01532829": {"b.jpg": b"junk"}}
    write_zip(tmp_path / "zip", "train", files, prefix="")
    for place in (tmp_path, tmp_path / "zip"):
        assert len(load_mini_imagenet(place, complete=False).images) == 12


def test_a_folder_of_that_name_that_holds_something_else_is_no_part(tmp_path):
    (tmp_path / "train" / "cats").mkdir(parents=True)
    (tmp_path / "train" / "cats" / "a.jpg").write_bytes(picture(1))
    with pytest.raises(DataError, match="is not in"):
        load_mini_imagenet(tmp_path, complete=False)


def test_names_in_archives_and_lists_are_never_paths(tmp_path):
    data, name = tmp_path / "a" / "b", mini_imagenet_split().train[0]
    write_zip(data, "train", small_files(), prefix="../../../")
    assert len(load_mini_imagenet(data, complete=False).images) == 12
    write_list(tmp_path / "c", "train", small_files())
    (tmp_path / "secret.jpg").write_bytes(picture(9))
    with (tmp_path / "c" / "train.csv").open("a") as file:
        file.write(f"../../secret.jpg,{name}\n{tmp_path / 'secret.jpg'},{name}\n")
    with pytest.raises(DataError, match="has 2 problems") as error:
        load_mini_imagenet(tmp_path / "c", complete=False)
    assert "../../secret.jpg, which" in str(error.value)


# ---- what is wrong


@LAYOUTS
def test_damaged_images_are_all_named(tmp_path, write, cache):
    files, (first, second, _) = small_files(), mini_imagenet_split().train[:3]
    bad = {first: "a.jpg", second: "b.jpg"}
    files[first]["a.jpg"] = b"not a picture"
    files[second]["b.jpg"] = picture(1)[:200]
    with pytest.raises(DataError, match="has 2 problems") as error:
        load_mini_imagenet(write(tmp_path, "train", files), complete=False)
    assert all(file in str(error.value) for file in bad.values())
    assert list(cache.glob("*/*")) == []


def test_files_that_a_list_names_and_that_are_missing_are_all_named(tmp_path):
    for i, write in enumerate((write_list, write_packed_list)):
        folder = write(tmp_path / str(i), "train", small_files())
        with (folder / "train.csv").open("a") as file:
            file.write("x.jpg,n01532829\ny.jpg,n01532829\n")
        with pytest.raises(DataError, match="has 2 problems") as error:
            load_mini_imagenet(folder, complete=False)
        assert "x.jpg, which" in str(error.value) and "y.jpg, which" in str(error.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"name,kind\na.jpg,n01532829\n", b"filename,label\na.jpg\n", b"filename,label\n,n01\n", b"\xff\xfe"],
)
def test_a_list_that_is_none_is_named(tmp_path, content):
    write_list(tmp_path, "train", small_files())
    (tmp_path / "train.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"train\.csv"):
        load_mini_imagenet(tmp_path, complete=False)


def test_a_broken_archive_is_named(tmp_path):
    archive = write_zip(tmp_path, "train", small_files()) / "train.zip"
    archive.write_bytes(archive.read_bytes()[:500])
    with pytest.raises(DataError, match=r"can't read .*train\.zip"):
        load_mini_imagenet(tmp_path, complete=False)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("n01532829/a.jpg", bytes(20_000_000))
    with pytest.raises(DataError, match="20000000 bytes; this is not mini-ImageNet"):
        load_mini_imagenet(tmp_path, complete=False)
