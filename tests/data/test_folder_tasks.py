"""Tasks from a folder of images: what a task holds, what is kept of the decoding, and what is refused with numbers."""

import io
import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from drawn_folder import content, make_folder, picture, put, spoil
from fastadapt.data import ClassImages, data_folders, load_omniglot
from fastadapt.data.images import folder_images
from fastadapt.data.images.folder_images import load_folder
from fastadapt.data.images.folder_settings import FolderData
from fastadapt.data.images.images import ImageRecipe
from fastadapt.errors import ConfigError, DataError
from fastadapt.runs.config import RunConfig
from fastadapt.tasks import draw

SETTINGS = FolderData(ways=2, train_shots=1, train_queries=2, shots=1, queries=2, size=28, channels=1)
RECIPE = ImageRecipe(28)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FASTADAPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def numbered(tmp_path) -> Path:
    """Write 9 classes of 4 images; all pixels of image `i` of class `c` are `10 c + i`."""
    for c in range(9):
        for i in range(4):
            image = Image.new("L", (40, 40), 10 * c + i)
            put(tmp_path / "numbered" / f"class{c}" / f"{i}.png", content(image))
    return tmp_path / "numbered"


def ready(root: Path, **settings: object) -> tuple[FolderData, folder_images.FolderImages]:
    data = replace(SETTINGS, folder=str(root), **settings)
    images = load_folder(root, data.recipe, bad=data.bad)
    return data.divided(images).sealed(images), images


# ---- what a task holds


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_a_task_has_distinct_images_of_classes_of_its_part_only(numbered, part):
    data, images = ready(numbered)
    for task in draw(data.source(part, images), seed=0, split=part, indices=range(20)):
        values = [(255 * x[:, 0, 14, 14]).round().int().tolist() for x in (task.support[0], task.query[0])]
        assert len({*values[0], *values[1]}) == 6  # no image is in support and query
        owners = [[v // 10 for v in side] for side in values]
        assert {f"class{c}" for c in owners[0]} <= set(data.split[part])
        number = dict(zip(owners[0], task.support[1].tolist(), strict=True))
        assert [number[c] for c in owners[1]] == task.query[1].tolist()
    assert data.source(part, images).sample(np.random.default_rng(0)).support[0].shape == (2, 1, 28, 28)


def test_pixels_are_those_of_an_ordinary_reader(tmp_path):
    put(tmp_path / "f" / "a" / "1.png", content(picture(1, 60, 60, "RGB")))
    put(tmp_path / "f" / "b" / "1.png", content(picture(2, 45, 60)))
    colour = load_folder(tmp_path / "f", ImageRecipe(28, 3, fit="crop")).images
    with Image.open(tmp_path / "f" / "a" / "1.png") as image:
        assert np.array_equal(colour[0].numpy(), np.asarray(image.resize((28, 28), Image.Resampling.LANCZOS)))
    grey = load_folder(tmp_path / "f", ImageRecipe(28, 1, fit="crop")).images
    with Image.open(tmp_path / "f" / "b" / "1.png") as image:
        square = image.crop((0, 7, 45, 52)).resize((28, 28), Image.Resampling.LANCZOS)
        assert np.array_equal(grey[1].numpy(), np.asarray(square))
    for path, row in (("a/1.png", colour[0]), ("b/1.png", colour[1])):  # as adapt and predict will read a file
        x = ImageRecipe(28, 3, fit="crop").read(tmp_path / "f" / path)
        assert torch.equal(x, row.permute(2, 0, 1).float() / 255)


def test_the_split_depends_on_names_and_seed_and_not_on_what_the_images_are(numbered, tmp_path):
    data, _ = ready(numbered)
    other, _ = ready(make_folder(tmp_path / "other"))
    assert data.split == other.split and data.digest != other.digest
    assert ready(numbered, split_seed=2)[0].split != data.split


# ---- as Omniglot's own source


def plain_tree(root: Path) -> Path:
    """Write the drawings of three alphabets of the real Omniglot where it is at hand, else made-up ones."""
    archives = (
        [f / "images_background.zip" for f in data_folders("omniglot")] if os.environ.get("FASTADAPT_DATA") else []
    )
    archive = next((path for path in archives if path.is_file()), None)
    if archive is not None:
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                parts = Path(info.filename).parts
                if info.filename.endswith(".png") and parts[1] in ("Greek", "Early_Aramaic", "Tagalog"):
                    put(root / "images_background" / Path(*parts[1:]), opened.read(info))
    else:
        for c in range(12):
            for i in range(20):
                strokes = np.random.default_rng(100 * c + i).random((105, 105)) > 0.1
                name = f"Alphabet{c // 6}/character{c % 6:02d}/{i:02d}.png"
                put(root / "images_background" / name, content(Image.fromarray(strokes)))
    (root / "images_evaluation").mkdir()
    return root


@pytest.mark.long
def test_a_tree_of_omniglot_gives_the_tasks_of_omniglot(tmp_path):
    root = plain_tree(tmp_path / "omniglot")
    theirs = load_omniglot(root, complete=False)
    data, images = ready(root / "images_background", queries=5, invert=True, rotation="per_class")
    assert images.class_names == theirs.class_names and torch.equal(images.images, theirs.images)
    for part in ("train", "test"):
        source = ClassImages(
            theirs.images, theirs.labels, theirs.class_names, ways=2, shots=1, queries=2 if part == "train" else 5,
            rotation="per_class", invert=True,
        ).subset(list(data.split[part]))  # fmt: skip
        ours = draw(data.source(part, images), seed=3, split=part, indices=range(10))
        for mine, their in zip(ours, draw(source, seed=3, split=part, indices=range(10)), strict=True):
            for a, b in zip((*mine.support, *mine.query), (*their.support, *their.query), strict=True):
                assert torch.equal(a, b)


# ---- the decoded copy


def test_a_second_load_maps_the_copy_and_a_changed_file_is_read_again(numbered, monkeypatch):
    first = load_folder(numbered, RECIPE)
    with monkeypatch.context() as patch:
        patch.setattr(folder_images, "survey_folder", lambda *_, **__: pytest.fail("read the images again"))
        again = load_folder(numbered, RECIPE)
    assert torch.equal(first.images, again.images) and first.counts == again.counts and first.digests == again.digests
    put(numbered / "class3" / "1.png", content(picture(1, 40, 40)))
    changed = load_folder(numbered, RECIPE)
    assert not torch.equal(first.images, changed.images)
    assert {name for name in first.digests if first.digests[name] != changed.digests[name]} == {"class3"}


@pytest.mark.parametrize("spoilt", ["data", "index", "counts"])
def test_a_damaged_copy_is_not_used(numbered, cache, spoilt):
    first = load_folder(numbered, RECIPE).images.clone()
    [path] = cache.rglob("*.raw")
    if spoilt == "data":
        path.write_bytes(bytes(path.stat().st_size))
    else:
        index = json.loads(path.with_suffix(".json").read_text())
        index["counts"][0] += 1
        path.with_suffix(".json").write_text(json.dumps(index) if spoilt == "counts" else "{")
    assert torch.equal(load_folder(numbered, RECIPE).images, first)


@pytest.mark.parametrize("where", ["nowhere", "read-only"])
def test_without_a_place_for_the_copy_all_is_the_same(numbered, tmp_path, monkeypatch, where, caplog):
    kept = load_folder(numbered, RECIPE)
    if where == "nowhere":
        monkeypatch.setattr(folder_images, "cache_folder", lambda: None)
    else:
        put(tmp_path / "file", b"")
        monkeypatch.setenv("FASTADAPT_CACHE", str(tmp_path / "file"))
    held = load_folder(numbered, RECIPE)
    assert torch.equal(kept.images, held.images) and kept.digests == held.digests
    assert "decode" in caplog.text


# ---- what is refused


def test_what_is_bad_is_refused_with_the_list_or_left_out_with_the_number(tmp_path, caplog):
    spoil(make_folder(tmp_path / "f"))
    with pytest.raises(DataError) as caught:
        load_folder(tmp_path / "f", ImageRecipe(28, 3))
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{tmp_path / 'f'} has 14 problems:" and "or leave them out: --bad skip" in lines[-1]
    left = load_folder(tmp_path / "f", ImageRecipe(28, 3), bad="skip")
    assert len(left.left_out) == 14 and "14 problems left out, of " in caplog.text
    assert left.counts["class0"] == 10 and left.counts["class4"] == 3
    with pytest.raises(DataError, match="14 problems"):  # the copy that "skip" made is not a way round "fail"
        load_folder(tmp_path / "f", ImageRecipe(28, 3))


def test_too_few_images_are_told_for_every_class_with_numbers(numbered):
    for name in ("class2", "class5"):
        (numbered / name / "0.png").unlink()
        (numbered / name / "1.png").unlink()
    with pytest.raises(DataError) as caught:
        ready(numbered)
    text = str(caught.value)
    assert text.count("has 2 images, and 1 shot and 2 queries take 3; add 1") == 2
    assert "'class2'" in text and "'class5'" in text and "--min-images" in text
    data, _ = ready(numbered, min_images=3)
    assert not {"class2", "class5"} & {name for names in data.split.values() for name in names}


def test_a_recorded_split_is_kept_when_classes_come_and_missed_when_they_go(numbered, caplog):
    data, _ = ready(numbered)
    for c in (10, 11):
        for i in range(4):
            put(numbered / f"new{c}" / f"{i}.png", content(Image.new("L", (40, 40), 10 * c + i)))
    images = data.load()
    assert len(images.class_names) == 11 and data.source("test", images).class_names == data.test_classes
    assert "no longer" not in caplog.text
    gone = data.test_classes[0]
    (numbered / gone).rename(numbered.parent / "gone")
    with pytest.raises(DataError, match=f"class '{gone}' of the test part is missing; put it back"):
        data.load()


def test_changed_images_are_told_and_a_folder_may_move(numbered, caplog):
    data, _ = ready(numbered)
    moved = numbered.rename(numbered.with_name("moved"))
    with pytest.raises(
        DataError, match=r"there is no folder .*numbered any more; give the place of the images with --data"
    ):
        data.load()
    data.load(moved)
    assert "no longer" not in caplog.text
    put(moved / data.train_classes[0] / "0.png", content(picture(1)))
    data.load(moved)
    assert "no longer has the images that this run was trained on" in caplog.text


def test_settings_that_contradict_themselves_are_refused():
    with pytest.raises(ConfigError, match="'a' is in several"):
        FolderData(train_classes=("a", "b"), test_classes=("a",))
    with pytest.raises(ConfigError, match="queries must be at least 1"):
        FolderData(queries=0)
    with pytest.raises(ConfigError, match="bad must be 'fail' or 'skip', got 'maybe'"):
        FolderData(bad="maybe")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="size"):
        FolderData(size=0)
    with pytest.raises(DataError, match="does not say where its images are"):
        FolderData().load()


def test_a_part_without_classes_and_a_run_without_a_split_are_refused(numbered):
    data, images = ready(numbered, val_fraction=0.0)
    with pytest.raises(ConfigError, match=r"the split has no val classes; set training\.validate_every to 0"):
        data.source("val", images)
    with pytest.raises(ConfigError, match="no split of its classes"):
        replace(SETTINGS, folder=str(numbered)).load()


def test_the_setting_survives_json(numbered):
    data, _ = ready(numbered)
    odd = replace(data, folder=os.fsdecode(b"caf\xe9"))
    config = RunConfig(data=odd)
    assert RunConfig.from_json(config.to_json()) == config


def test_sixteen_bits_and_transparency_reach_the_tasks(tmp_path):
    half = np.full((30, 30), 32896, dtype=np.uint16)  # 128 in 8 bits
    put(tmp_path / "f" / "a" / "1.png", content(Image.fromarray(half)))
    put(tmp_path / "f" / "b" / "1.png", content(Image.new("RGBA", (30, 30), (9, 9, 9, 0))))
    frames = io.BytesIO()
    Image.new("L", (30, 30), 40).save(frames, "GIF", save_all=True, append_images=[Image.new("L", (30, 30), 200)])
    put(tmp_path / "f" / "c" / "1.gif", frames.getvalue())
    images = load_folder(tmp_path / "f", RECIPE).images
    assert images.flatten(1).float().mean(1).tolist() == [128.0, 255.0, 40.0]
