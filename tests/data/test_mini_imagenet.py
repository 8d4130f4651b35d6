"""mini-ImageNet: its split, the layouts that people have, what is verified, and the decoded copy.

The tests of the real data run where `FASTADAPT_DATA` holds it; all others make their files.
"""

import json
import logging
import os
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from fastadapt.data import (
    ClassImages,
    load_mini_imagenet,
    mini_imagenet_split,
    mini_imagenet_tasks,
)
from fastadapt.data.images import mini_imagenet
from fastadapt.data.images.images import ImageRecipe
from fastadapt.data.images.mini_imagenet import MiniImageNetParts
from fastadapt.data.images.mini_imagenet_files import find_part
from fastadapt.data.settings import MiniImageNetData
from fastadapt.errors import ConfigError, DataError
from fastadapt.tasks import draw, task_rng
from small_mini_imagenet import Files, as_array, picture, small_files, write_folders, write_list, write_zip


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FASTADAPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def copies(cache: Path, suffix: str = ".raw") -> list[Path]:
    return sorted((cache / "mini_imagenet").glob(f"*{suffix}"))


# ---- the split


def test_the_split_is_the_published_one_and_never_changes():
    split = mini_imagenet_split()
    assert (len(split.train), len(split.val), len(split.test)) == (64, 16, 20)
    assert len({*split.train, *split.val, *split.test}) == 100
    assert all(list(part) == sorted(part) for part in (split.train, split.val, split.test))
    assert split.sha256 == "80402b09352f697aed462669a37e438a27ed3ec8e2d9aeebb7216722c23630ca"


# ---- tasks


def test_tasks_do_not_depend_on_the_layout_and_never_mix_support_and_query(tmp_path):
    tasks = []
    for i, write in enumerate((write_folders, write_zip, write_list)):
        data = load_mini_imagenet(write(tmp_path / str(i), "train", small_files(classes=6)), complete=False)
        source = mini_imagenet_tasks("train", data, shots=1, queries=3)
        tasks.append(draw(source, seed=3, split="train", indices=[17])[0])
    for task in tasks[1:]:
        assert torch.equal(task.support[0], tasks[0].support[0]) and torch.equal(task.query[0], tasks[0].query[0])
    (x, y), (xq, yq) = tasks[0].support, tasks[0].query
    assert x.shape == (5, 3, 84, 84) and xq.shape == (15, 3, 84, 84) and x.min() >= 0 and xq.max() <= 1
    assert y.tolist() == [0, 1, 2, 3, 4] and yq.bincount().tolist() == [3] * 5
    assert len({image.numpy().tobytes() for image in torch.cat((x, xq))}) == 20


def test_values_are_shares_of_255_or_normalised_as_imagenet(tmp_path):
    data = load_mini_imagenet(write_zip(tmp_path, "train", small_files(classes=5)), complete=False)
    plain, normal = (
        mini_imagenet_tasks("train", data, queries=3, normalise=way).sample(task_rng(0, "train", 0)).support[0].double()
        for way in ("none", "imagenet")
    )
    values = {image.tobytes(): image for image in (data.images.numpy())}
    assert all(
        (image * 255).round().byte().permute(1, 2, 0).contiguous().numpy().tobytes() in values for image in plain
    )
    mean, std = (torch.tensor(v).double().view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close(normal, (plain - mean) / std, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("normalise", ["none", "imagenet"])
def test_a_user_s_image_is_read_as_those_of_the_data_set_are(tmp_path, normalise):
    files = small_files(classes=2)
    data = load_mini_imagenet(write_folders(tmp_path, "train", files), complete=False)
    settings = MiniImageNetData(ways=2, normalise=normalise)
    source = mini_imagenet_tasks("train", data, ways=2, queries=3, normalise=normalise)
    mine = {ImageRecipe(**settings.input, fit="crop").read(path).numpy().tobytes()
            for path in (tmp_path / "train").rglob("*0000.jpg")}  # fmt: skip
    task = source.sample(task_rng(0, "train", 0))
    theirs = {image.contiguous().numpy().tobytes() for image in torch.cat((task.support[0], task.query[0]))}
    assert len(mine) == 2 and mine < theirs


def test_settings_are_checked(tmp_path):
    data = load_mini_imagenet(write_zip(tmp_path, "train", small_files(classes=5)), complete=False)
    with pytest.raises(ConfigError, match="one of train, val, test; got 'trainval'"):
        load_mini_imagenet(tmp_path, part="trainval")
    with pytest.raises(ConfigError, match="got 'validation'"):
        mini_imagenet_tasks("validation", data)
    with pytest.raises(ConfigError, match="'zscore'"):
        mini_imagenet_tasks("train", data, normalise="zscore")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="data holds the train part; load test"):
        mini_imagenet_tasks("test", data)
    with pytest.raises(ConfigError, match=r"data\.queries must be at least 1"):
        MiniImageNetData(queries=0)


# ---- what is verified


@pytest.fixture(scope="module")
def whole_files() -> Files:
    """The validation part with all its 16 classes and 9600 images, each of a single pixel."""
    pixel = picture(0, 1, 1, "PNG")
    return {name: {f"{i:08d}.png": pixel for i in range(600)} for name in mini_imagenet_split().val}


@pytest.mark.long
def test_a_whole_part_passes(tmp_path, whole_files, caplog):
    write_zip(tmp_path, "val", whole_files)
    data = load_mini_imagenet(tmp_path, part="val")
    assert data.images.shape == (9600, 84, 84, 3) and data.class_names == mini_imagenet_split().val
    assert np.bincount(data.labels).tolist() == [600] * 16
    source = MiniImageNetData(shots=5).source("val", MiniImageNetParts(tmp_path))
    assert isinstance(source, ClassImages) and len(source) == 16 and source.shots == 5
    assert not caplog.text


def test_all_that_differs_from_the_split_is_said_at_once_and_before_the_work(tmp_path, whole_files, cache):
    names = mini_imagenet_split().val
    files = {name: dict(images) for name, images in whole_files.items()}
    del files[names[3]]
    files[names[5]].popitem()
    files[mini_imagenet_split().test[0]] = files.pop(names[0])
    files["n00000001"] = {"a.png": b"never opened"}
    with pytest.raises(DataError, match="has 5 problems") as error:
        load_mini_imagenet(write_zip(tmp_path, "val", files), part="val")
    text = str(error.value)
    for words in (
        f"lacks class {names[0]}; add its 600 images",
        f"lacks class {names[3]}; add its 600 images",
        f"has class {mini_imagenet_split().test[0]}, which the val part does not have (it is of the test part)",
        "has class n00000001, which the val part does not have (it is not one of the 100)",
        f"class {names[5]} has 599 images in {tmp_path / 'val.zip'}, expected 600",
    ):
        assert words in text
    assert copies(cache) == []


def test_a_decoded_copy_of_incomplete_data_is_verified_as_well(tmp_path):
    write_zip(tmp_path, "val", small_files("val", classes=15, each=2))
    load_mini_imagenet(tmp_path, part="val", complete=False)
    with pytest.raises(DataError, match="has 16 problems") as error:
        load_mini_imagenet(tmp_path, part="val")
    assert f"lacks class {mini_imagenet_split().val[15]}" in str(error.value)
    assert "and 6 more" in str(error.value)


def test_data_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.delenv("FASTADAPT_DATA", raising=False)
    with pytest.raises(DataError, match=r"val\.zip.*FASTADAPT_DATA.*can't be downloaded"):
        load_mini_imagenet(part="val")
    with pytest.raises(DataError, match=r"train_phase_train\.pickle"):
        MiniImageNetData().source("train", MiniImageNetData().load(tmp_path, download=True))
    with pytest.raises(DataError, match="does not exist"):
        load_mini_imagenet(tmp_path / "nowhere")
    (tmp_path / "train" / mini_imagenet_split().train[0]).mkdir(parents=True)
    with pytest.raises(DataError, match=f"there is no image in {tmp_path / 'train'}"):
        load_mini_imagenet(tmp_path)


# ---- the decoded copy


def test_the_copy_is_used_until_the_source_changes(tmp_path, cache, caplog):
    caplog.set_level(logging.INFO)
    folder = write_folders(tmp_path / "data", "train", small_files())
    first, second = (load_mini_imagenet(folder, complete=False) for _ in range(2))
    assert caplog.text.count("decoding the train part") == 1
    assert torch.equal(first.images, second.images) and first.class_names == second.class_names
    assert np.array_equal(first.labels, second.labels)
    path = next((folder / "train").rglob("*.jpg"))
    path.write_bytes(picture(77))
    os.utime(path, ns=(1, 1))
    assert not torch.equal(load_mini_imagenet(folder, complete=False).images, first.images)
    assert caplog.text.count("decoding the train part") == 2 and len(copies(cache)) == 2


def test_a_list_s_copy_changes_with_its_images(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    folder = write_list(tmp_path, "train", small_files())
    load_mini_imagenet(folder, complete=False)
    os.utime(next((folder / "images").iterdir()), ns=(1, 1))
    load_mini_imagenet(folder, complete=False)
    assert caplog.text.count("decoding the train part") == 2


def test_a_damaged_copy_is_made_anew(tmp_path, cache, caplog):
    folder = write_zip(tmp_path / "data", "train", small_files())
    expected = load_mini_imagenet(folder, complete=False).images.clone()
    index = json.loads(copies(cache, ".json")[0].read_text())
    for content in (json.dumps(index | {"counts": [5, 4, 4]}), json.dumps(index | {"named": None, "class_names": 3})):
        copies(cache, ".json")[0].write_text(content)
        assert torch.equal(load_mini_imagenet(folder, complete=False).images, expected)
        assert "decoding again" in caplog.text
        caplog.clear()
    copies(cache)[0].write_bytes(copies(cache)[0].read_bytes()[:-1])
    assert torch.equal(load_mini_imagenet(folder, complete=False).images, expected)
    assert "decoding again" in caplog.text
    caplog.clear()
    load_mini_imagenet(folder, complete=False)
    assert not caplog.text


def test_a_part_is_decoded_when_it_is_asked_for(tmp_path, cache, monkeypatch):
    for part in ("train", "test"):
        write_zip(tmp_path, part, small_files(part, classes=6))
    monkeypatch.setattr(mini_imagenet, "IMAGES_PER_CLASS", 4)
    monkeypatch.setattr(mini_imagenet, "mini_imagenet_split", lambda: six_of_each)
    split = mini_imagenet_split()
    six_of_each = type(split)("six", split.train[:6], split.val[:6], split.test[:6])
    data = MiniImageNetData(train_shots=1, train_queries=3, shots=2, queries=1)
    parts = data.load(tmp_path)
    assert not (cache / "mini_imagenet").exists()
    train = data.source("train", parts)
    assert [path.name.split("-")[2] for path in copies(cache)] == ["train"]
    test = data.source("test", parts)
    assert [path.name.split("-")[2] for path in copies(cache)] == ["test", "train"]
    task, other = train.sample(task_rng(0, "train", 0)), test.sample(task_rng(0, "test", 0))
    assert (len(task.support[0]), len(task.query[0])) == (5, 15)
    assert (len(other.support[0]), len(other.query[0])) == (10, 5)
    assert parts["train"] is parts["train"]


def test_without_a_cache_the_images_are_held_in_memory(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_bytes(b"")
    folder, expected = write_zip(tmp_path / "data", "train", small_files()), as_array(small_files())
    monkeypatch.setenv("FASTADAPT_CACHE", str(tmp_path / "file" / "cache"))
    assert np.array_equal(load_mini_imagenet(folder, complete=False).images.numpy(), expected)
    assert "can't keep the decoded mini-ImageNet" in caplog.text and "is held in memory" in caplog.text
    caplog.clear()
    monkeypatch.setattr(mini_imagenet, "cache_folder", lambda: None)
    assert np.array_equal(load_mini_imagenet(folder, complete=False).images.numpy(), expected)
    assert "no home folder" in caplog.text


def test_a_full_disk_is_said_in_a_sentence_and_costs_only_the_copy(tmp_path, cache, caplog, monkeypatch):
    folder, expected = write_zip(tmp_path / "data", "train", small_files()), as_array(small_files())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        images = load_mini_imagenet(folder, complete=False).images
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert np.array_equal(images.numpy(), expected)
    assert "(File too large): it is held in memory" in caplog.text and not any((cache / "mini_imagenet").iterdir())
    caplog.clear()
    monkeypatch.setattr("fastadapt.data.images.mini_imagenet.room_for", lambda *_: "it takes 813 MB and 5 MB are free")
    assert np.array_equal(load_mini_imagenet(folder, complete=False).images.numpy(), expected)
    assert "(it takes 813 MB and 5 MB are free)" in caplog.text and not any((cache / "mini_imagenet").iterdir())


# ---- the real data


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The parts of the real data, decoded once per test run; where they lie."""
    given = os.environ.get("FASTADAPT_DATA")
    if not given or any(find_part(part, given) is None for part in mini_imagenet.PARTS):
        pytest.skip("needs the real mini-ImageNet: set FASTADAPT_DATA to the folder that has it")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTADAPT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield MiniImageNetParts(given)


@pytest.mark.slow
@pytest.mark.parametrize("part, count", [("train", 64), ("val", 16), ("test", 20)])
def test_the_real_parts_are_whole(real, part, count):
    data = real[part]
    assert data.images.shape == (600 * count, 84, 84, 3)
    assert data.class_names == mini_imagenet_split().classes(part)
    task = mini_imagenet_tasks(part, data, shots=5, queries=15).sample(task_rng(0, part, 0))
    assert task.support[0].shape == (25, 3, 84, 84) and task.query[0].shape == (75, 3, 84, 84)


@pytest.mark.slow
def test_the_colours_of_the_real_images_are_the_known_ones(real):
    rows = np.random.default_rng(0).choice(60_000, 6000, replace=False)
    edges = [0, 38_400, 48_000, 60_000]
    parts = [real[part].images for part in ("train", "val", "test")]
    values = torch.cat(
        [
            images[rows[(rows >= low) & (rows < high)] - low]
            for images, low, high in zip(parts, edges[:3], edges[1:], strict=True)
        ]
    ).double()
    mean, std = values.mean((0, 1, 2)), values.std((0, 1, 2))
    assert mean.tolist() == pytest.approx([120.66, 114.41, 103.21], abs=1.5)
    assert std.tolist() == pytest.approx([69.51, 67.99, 70.89], abs=1.0)
