"""Omniglot: the splits by name, the reading of generated archives and folders, and the real data.

The tests of the real data run where `FASTADAPT_DATA` holds it; all others need no file.
"""

import io
import logging
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastadapt.data import load_omniglot, omniglot_classes, omniglot_split, omniglot_tasks
from fastadapt.data.images import omniglot
from fastadapt.data.images.omniglot_splits import BACKGROUND, EVALUATION
from fastadapt.errors import ConfigError, DataError, DownloadError
from fastadapt.tasks import draw, task_rng

SETS = ("images_background", "images_evaluation")


def png(ink: int, side: int = 105) -> bytes:
    """Return a 1-bit PNG whose first `ink` pixels are ink."""
    pixels = np.ones(side * side, dtype=bool)
    pixels[:ink] = False
    buffer = io.BytesIO()
    Image.fromarray(pixels.reshape(side, side)).save(buffer, "PNG")
    return buffer.getvalue()


def small_members() -> dict[str, dict[str, bytes]]:
    """Return 2 alphabets of 2 characters with 3 drawings; the ink numbers the drawings in sorted order."""
    members, ink = {}, 0
    for name, alphabet in zip(SETS, ("Ayb", "Ben"), strict=True):
        drawings = {}
        for character in (1, 2):
            for drawing in (1, 2, 3):
                drawings[f"{name}/{alphabet}/character{character:02d}/000{character}_{drawing:02d}.png"] = png(ink)
                ink += 1
        members[name] = drawings
    return members


def write_zips(folder: Path, members: dict[str, dict[str, bytes]] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, files in (members or small_members()).items():
        with zipfile.ZipFile(folder / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for path, content in reversed(files.items()):  # so that the order in the archive isn't the sorted one
                archive.writestr(path, content)
    return folder


def write_folders(folder: Path) -> Path:
    for files in small_members().values():
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
    return folder


def ink_of(data: omniglot.Omniglot) -> list[int]:
    return (data.images == 0).sum(dim=(1, 2)).tolist()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FASTADAPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def real(tmp_path_factory):
    """The real data, decoded once per test run."""
    given = os.environ.get("FASTADAPT_DATA")
    if not given:
        pytest.skip("needs the real Omniglot: set FASTADAPT_DATA to the folder that has it")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTADAPT_CACHE", str(tmp_path_factory.mktemp("cache")))
        if omniglot._find(None) is None:
            pytest.skip(f"needs the real Omniglot: FASTADAPT_DATA={given} does not have both of its sets")
        return load_omniglot()


# ---- splits


def test_the_class_list_has_the_published_counts():
    assert (len(BACKGROUND), len(EVALUATION)) == (30, 20)
    assert (sum(BACKGROUND.values()), sum(EVALUATION.values())) == (964, 659)
    assert len(set(omniglot_classes())) == 1623


@pytest.mark.parametrize(
    "name, sizes, digest",
    [
        ("1200/423", (1200, 0, 423), "18a5b2cdba576db99cae5cb967a3b0f9d49cca13f3148f6520e7b9b925e5494d"),
        ("1100/100/423", (1100, 100, 423), "a8d6d72d7f0b23badda1867ec7c76e8bc68f4124de1f7779106ec23b5cfec0bd"),
        ("vinyals", (1028, 172, 423), "42eba4c9b9dc44295e6897d977a0e98cb4ae252ad7929777a720637b7f8f9fae"),
    ],
)
def test_splits_divide_all_classes_and_never_change(name, sizes, digest):
    split = omniglot_split(name)
    assert (len(split.train), len(split.val), len(split.test)) == sizes
    assert sorted(split.train + split.val + split.test) == list(omniglot_classes())
    assert split.sha256 == digest
    assert split.classes("trainval") == split.train + split.val


def test_the_shuffled_splits_share_their_test_classes_and_follow_the_seed():
    assert omniglot_split("1200/423").test == omniglot_split("1100/100/423").test
    assert omniglot_split("1200/423").train[:1100] == omniglot_split("1100/100/423").train
    assert omniglot_split("1200/423", seed=0).sha256 != omniglot_split("1200/423").sha256


def test_gurmukhi_is_divided_after_41_characters():
    split = omniglot_split("vinyals")
    assert {"Gurmukhi/character01", "Gurmukhi/character41"} <= set(split.train)
    assert {f"Gurmukhi/character{i}" for i in (42, 43, 44, 45)} <= set(split.test)


def test_parts_and_splits_are_checked():
    with pytest.raises(DataError, match="'1200/423' has no 'val' classes; use a split that has"):
        omniglot_tasks("val", split="1200/423")
    with pytest.raises(ConfigError, match="'validation'"):
        omniglot_tasks("validation")
    with pytest.raises(ConfigError, match="'964/659'"):
        omniglot_split("964/659")  # type: ignore[arg-type]


# ---- reading


@pytest.mark.parametrize("below", ["", "omniglot", "python", "omniglot/python"])
@pytest.mark.parametrize("write", [write_zips, write_folders])
def test_archives_and_folders_are_read_in_sorted_order(tmp_path, write, below):
    write(tmp_path / "data" / below)
    data = load_omniglot(tmp_path / "data", size=105, complete=False)
    assert data.class_names == ("Ayb/character01", "Ayb/character02", "Ben/character01", "Ben/character02")
    assert data.class_sets == ("images_background",) * 2 + ("images_evaluation",) * 2
    assert data.labels.tolist() == np.repeat(range(4), 3).tolist()
    assert ink_of(data) == list(range(12))


def test_the_environment_names_the_folder(tmp_path, monkeypatch):
    write_zips(tmp_path / "data" / "omniglot")
    for given in ("data", "data/omniglot"):
        monkeypatch.setenv("FASTADAPT_DATA", str(tmp_path / given))
        assert len(load_omniglot(complete=False).images) == 12


def test_resize_recipes(tmp_path):
    write_zips(tmp_path)
    grey = load_omniglot(tmp_path, complete=False).images
    binary = load_omniglot(tmp_path, resize="nearest", complete=False).images
    assert grey.shape == binary.shape == (12, 28, 28) and grey.dtype == binary.dtype == torch.uint8
    assert set(binary.unique().tolist()) <= {0, 255}
    assert len(grey.unique()) > 2


def test_the_decoded_copy_is_used_until_the_source_changes(tmp_path, cache, caplog):
    caplog.set_level(logging.INFO)
    data = write_zips(tmp_path / "data")
    first = load_omniglot(data, complete=False)
    second = load_omniglot(data, complete=False)
    assert caplog.text.count("decoding Omniglot") == 1
    assert torch.equal(first.images, second.images) and first.class_names == second.class_names
    assert np.array_equal(first.labels, second.labels) and first.class_sets == second.class_sets
    assert sorted(path.suffix for path in (cache / "omniglot").iterdir()) == [".json", ".npy"]
    members = small_members()
    members[SETS[0]].popitem()
    assert len(load_omniglot(write_zips(data, members), complete=False).images) == 11
    assert caplog.text.count("decoding Omniglot") == 2


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_a_damaged_copy_is_decoded_anew(tmp_path, cache, caplog, suffix):
    write_zips(tmp_path)
    load_omniglot(tmp_path, complete=False)
    (path,) = (cache / "omniglot").glob(f"*{suffix}")
    path.write_bytes(path.read_bytes()[:-9])
    assert len(load_omniglot(tmp_path, complete=False).images) == 12
    assert "decoding again" in caplog.text
    caplog.clear()
    load_omniglot(tmp_path, complete=False)
    assert not caplog.text


def test_a_cache_that_can_not_be_written_is_no_error(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("FASTADAPT_CACHE", str(tmp_path / "file" / "cache"))
    assert len(load_omniglot(write_zips(tmp_path / "data"), complete=False).images) == 12
    assert "can't keep the decoded Omniglot" in caplog.text


def test_no_home_is_no_error(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(omniglot, "cache_folder", lambda: None)
    assert len(load_omniglot(write_zips(tmp_path), complete=False).images) == 12
    assert "no home folder" in caplog.text


def test_names_in_an_archive_are_never_paths(tmp_path):
    members = small_members()
    members[SETS[0]]["../../../escape/character01/0001_01.png"] = png(7)
    members[SETS[0]]["__MACOSX/images_background/Ayb/character01/._0001_01.png"] = b"junk"
    data = load_omniglot(write_zips(tmp_path / "a" / "b" / "c", members), complete=False)
    assert "escape/character01" in data.class_names and len(data.images) == 13
    assert not list(tmp_path.rglob("escape"))


@pytest.mark.parametrize(
    "content, words",
    [
        (bytes(2 << 20), "has 2097152 bytes; this is not Omniglot"),
        (b"not a picture", "can't decode the image"),
        (png(3)[:60], "can't decode the image"),
        (png(3, side=1030), "pixels; this is not Omniglot"),
    ],
)
def test_bad_members_are_named(tmp_path, content, words):
    members = small_members()
    members[SETS[1]]["images_evaluation/Ben/character03/0003_01.png"] = content
    with pytest.raises(DataError, match=words) as error:
        load_omniglot(write_zips(tmp_path, members), complete=False)
    assert "Ben/character03/0003_01.png" in str(error.value)


def test_a_broken_archive_is_named(tmp_path):
    write_zips(tmp_path)
    archive = tmp_path / "images_evaluation.zip"
    archive.write_bytes(archive.read_bytes()[:500])
    with pytest.raises(DataError, match=r"can't read .*images_evaluation\.zip"):
        load_omniglot(tmp_path, complete=False)


def test_incomplete_data_say_what_is_missing(tmp_path):
    with pytest.raises(DataError, match="images_background has 2 characters, expected 964"):
        load_omniglot(write_zips(tmp_path))


def test_data_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.delenv("FASTADAPT_DATA", raising=False)
    with pytest.raises(DataError, match=r"FASTADAPT_DATA.*download=True"):
        load_omniglot()
    write_zips(tmp_path / "data")
    (tmp_path / "data" / "images_evaluation.zip").unlink()
    with pytest.raises(DataError) as error:
        load_omniglot(tmp_path / "data")
    assert "images_evaluation.zip" in str(error.value) and "images_background.zip" not in str(error.value)


def test_download_fetches_what_is_missing_and_checks_it(tmp_path, monkeypatch):
    monkeypatch.delenv("FASTADAPT_DATA", raising=False)
    asked = []

    def fetch(url: str, path: Path, *, checksum: str) -> Path:
        asked.append((url.rsplit("/", 1)[1], checksum))
        write_zips(path.parent, {path.stem: small_members()[path.stem]})
        return path

    monkeypatch.setattr(omniglot, "download", fetch)
    assert len(load_omniglot(download=True, complete=False).images) == 12
    assert dict(asked) == {
        "images_background.zip": "68d2efa1b9178cc56df9314c21c6e718",
        "images_evaluation.zip": "6b91aef0f799c5bb55b94e3f2daec811",
    }
    load_omniglot(download=True, complete=False)
    assert len(asked) == 2
    monkeypatch.setattr(omniglot, "cache_folder", lambda: None)
    monkeypatch.setenv("FASTADAPT_CACHE", str(tmp_path / "empty"))
    with pytest.raises(DataError, match="set FASTADAPT_CACHE"):
        load_omniglot(download=True)
    assert issubclass(DownloadError, DataError)


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="'bicubic'"):
        load_omniglot(resize="bicubic")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="got 0"):
        load_omniglot(size=0)


@pytest.mark.long
def test_the_import_leaves_the_image_library_alone():
    code = "import sys, fastadapt.data; sys.exit('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- the real data


@pytest.mark.long
@pytest.mark.long
def test_real_counts(real):
    assert real.images.shape == (32460, 28, 28)
    assert real.class_names == omniglot_classes()
    assert (real.class_sets.count(SETS[0]), real.class_sets.count(SETS[1])) == (964, 659)
    assert (np.bincount(real.labels) == 20).all()


@pytest.mark.long
@pytest.mark.long
def test_real_ink(real):
    values = real.images.double() / 255
    assert float(values.mean()) == pytest.approx(0.916, abs=0.003)
    assert float(values.std()) == pytest.approx(0.240, abs=0.003)


@pytest.mark.long
@pytest.mark.parametrize("size, resize, mean, std", [(105, "lanczos", 0.919, 0.273), (28, "nearest", 0.919, 0.272)])
@pytest.mark.long
def test_real_ink_of_other_recipes(real, tmp_path, size, resize, mean, std):
    sources = omniglot._find(None)
    assert sources is not None
    sample = {
        name: {"/".join((name, *key)): content for key, content in list(omniglot._members(source))[::16]}
        for name, source in sources.items()
    }
    values = load_omniglot(write_zips(tmp_path, sample), size=size, resize=resize, complete=False).images.double() / 255
    assert len(values) > 2000
    assert float(values.mean()) == pytest.approx(mean, abs=0.003)
    assert float(values.std()) == pytest.approx(std, abs=0.003)


@pytest.mark.long
@pytest.mark.parametrize("split", ["1200/423", "1100/100/423", "vinyals"])
def test_real_tasks(real, split):
    train = omniglot_tasks("train", real, split=split, queries=15)
    test = omniglot_tasks("test", real, split=split, ways=20, shots=5, queries=15)
    assert train.images is test.images is real.images
    assert not set(train.class_names) & set(test.class_names)
    task = test.sample(task_rng(0, "test", 0))
    (x, y), (xq, yq) = task.support, task.query
    assert x.shape == (100, 1, 28, 28) and xq.shape == (300, 1, 28, 28)
    assert yq.bincount().tolist() == [15] * 20 and y.bincount().tolist() == [5] * 20
    assert x.min() >= 0 and x.max() == 1 and 0.04 < x.mean() < 0.14  # ink is 1
    again = draw(train, seed=0, split="train", indices=[3])[0]
    assert torch.equal(again.query[0], train.sample(task_rng(0, "train", 3)).query[0])


@pytest.mark.long
def test_real_tasks_of_the_reptile_recipe(real):
    images = omniglot_tasks("train", real, split="1200/423", rotation="none", rotated_classes=True, invert=False)
    assert len(images) == 4800
    assert images.sample(task_rng(0, "train", 0)).support[0].mean() > 0.8  # paper is 1
