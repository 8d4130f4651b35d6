"""The look at every image: one sentence for each that can't be used, all in one pass."""

import time

import numpy as np
import pytest
from PIL import Image

from drawn_folder import FILES, LONGEST, content, make_folder, picture, put, spoil
from fastadapt.data.images import survey
from fastadapt.data.images.facts import image_facts
from fastadapt.data.images.survey import few_images, survey_folder
from fastadapt.data.images.tree import scan_tree
from fastadapt.errors import ConfigError, DataError


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_each_kind_gets_its_sentence(tmp_path, name):
    make, kind, refused, words = FILES[name]
    make_folder(tmp_path, classes=2, images=2)
    put(tmp_path / "class0" / name, make())
    [finding] = survey_folder(tmp_path).findings
    assert (finding.kind, finding.refused, finding.path) == (kind, refused, f"class0/{name}")
    assert words in finding.text and (name in finding.text or name == LONGEST)
    assert survey_folder(tmp_path).counts == {"class0": 2 if refused else 3, "class1": 2}


def test_everything_is_found_in_one_pass(tmp_path):
    found = survey_folder(spoil(make_folder(tmp_path)))
    kinds = {(finding.path, finding.kind) for finding in found.findings}
    assert {(f"class0/{name}", kind) for name, (_, kind, *_) in FILES.items()} <= kinds
    assert kinds - {(f"class0/{name}", kind) for name, (_, kind, *_) in FILES.items()} == {
        ("class1/back", "link"),
        ("class1/gone.png", "link"),
        ("up", "link"),
        ("class2/copy.png", "copy"),
        ("class3/same.png", "duplicate"),
        ("bare", "no images"),
        ("loose.png", "loose"),
    }
    assert found.counts["class2"] == 4  # a copy counts once
    assert (found.counts["class3"], found.counts["class4"]) == (4, 3)  # what has two classes counts in neither
    assert found.recipe.channels == 3


def test_the_number_of_threads_changes_nothing(tmp_path, monkeypatch):
    spoil(make_folder(tmp_path))
    several = survey_folder(tmp_path)
    monkeypatch.setattr(survey, "_MOST_THREADS", 1)
    single = survey_folder(tmp_path)
    assert single.findings == several.findings and single.images == several.images


def test_an_image_in_two_classes_names_its_files(tmp_path):
    make_folder(tmp_path, classes=3)
    for name in ("class1/b.png", "class2/c.png"):
        put(tmp_path / name, (tmp_path / "class0" / "0.png").read_bytes())
    [finding] = survey_folder(tmp_path).findings
    paths = ", ".join(str(tmp_path / name) for name in ("class0/0.png", "class1/b.png", "class2/c.png"))
    assert finding.text == f"one and the same image has 3 classes: {paths}; keep it in one of them"


def test_a_class_whose_images_are_all_bad_is_named(tmp_path):
    make_folder(tmp_path, classes=2, images=1)
    put(tmp_path / "class1" / "0.png", b"")
    found = survey_folder(tmp_path)
    assert list(found.counts) == ["class0"]
    assert [finding.kind for finding in found.findings] == ["file", "class"]


@pytest.mark.parametrize(
    ("modes", "channels"),
    [(("L", "L"), 1), (("L", "RGB"), 3), (("RGBA", "L"), 3)],
)
def test_grey_is_what_all_images_are(tmp_path, modes, channels):
    for c, mode in enumerate(modes):
        put(tmp_path / f"c{c}" / "1.png", content(picture(c, mode=mode)))
    assert survey_folder(tmp_path).recipe.channels == channels
    assert survey_folder(tmp_path, channels=1).recipe.channels == 1


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
def test_grey_is_judged_by_pixels_not_by_the_kind_of_file(tmp_path, kind):
    grey = content(picture(1).convert("RGB"), kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert image_facts(put(tmp_path / f"a.{kind.lower()}", grey)).grey
    spot = picture(1).convert("RGB")
    spot.putpixel((31, 31), (255, 0, 0))
    assert not image_facts(put(tmp_path / f"b.{kind.lower()}", content(spot, kind))).grey


@pytest.mark.parametrize(("sides", "size"), [((100, 90), 84), ((83, 300), 28), ((20, 20), 20), ((9, 9), 16)])
def test_the_size_follows_from_half_of_the_images(tmp_path, sides, size):
    for i, side in enumerate((*sides, 500, 1000, sides[0])):
        shorter = side if i in (0, 1, 4) else sides[0]
        put(tmp_path / "a" / f"{i}.png", content(picture(i, side, shorter)))
    assert survey_folder(tmp_path).recipe.size == size


def test_exif_turns_the_sides(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = put(tmp_path / "a.jpg", content(picture(1, 50, 30), "JPEG", exif=exif))
    facts = image_facts(path)
    assert (facts.width, facts.height) == (30, 50)


def test_images_that_are_not_square_are_refused_only_where_asked(tmp_path):
    put(tmp_path / "a" / "1.png", content(picture(1, 40, 30)))
    assert survey_folder(tmp_path, size=28).findings == []
    finding, _ = survey_folder(tmp_path, size=28, fit="refuse").findings  # and the class that is left empty
    assert finding.kind == "size" and "takes square images" in finding.text
    assert survey_folder(tmp_path, size=36, fit="pad").findings == []  # the longer side is enough
    assert [finding.kind for finding in survey_folder(tmp_path, size=36).findings] == ["size", "class"]


def levels(low: int, high: int, side: int = 32) -> Image.Image:
    return Image.fromarray(np.random.default_rng(high).integers(low, high + 1, (side, side)).astype(np.uint8))


def dot(side: int, at: tuple[int, int], size: int = 1) -> Image.Image:
    image = Image.new("L", (2 * side, side), 255)
    image.paste(0, (*at, at[0] + size, at[1] + size))
    return image


@pytest.mark.parametrize(
    ("kind", "image"),
    [
        ("blank", Image.new("L", (32, 32), 200)),
        ("blank", Image.new("RGB", (32, 32), (10, 200, 30))),
        ("blank", Image.new("RGBA", (32, 32), (1, 2, 3, 0))),
        ("blank", dot(60, (0, 0), 8)),  # the centre is what is used
        ("blank", Image.new("1", (32, 32), 0)),
        ("blank", Image.fromarray(np.full((32, 32), 700, np.uint16))),
        ("nearly constant", levels(0, 4)),  # numbers of classes
        ("nearly constant", levels(0, 1)),  # 0 and 1 for black and white
        ("nearly constant", levels(250, 255)),
        ("nearly constant", dot(600, (600, 300))),  # a point that is gone at 28 pixels
        ("nearly constant", Image.fromarray(np.random.default_rng(0).integers(0, 1024, (32, 32), dtype=np.uint16))),
        ("faint", levels(100, 120)),
        ("faint", levels(0, 15)),
        ("faint", Image.fromarray(np.random.default_rng(0).integers(0, 4096, (32, 32), dtype=np.uint16))),
    ],
)
def test_an_image_with_nothing_to_see_is_noted(tmp_path, kind, image):
    put(tmp_path / "a" / "1.png", content(image))
    put(tmp_path / "a" / "2.png", content(levels(0, 60)))
    notes = {finding.kind for finding in survey_folder(tmp_path, size=28).notes if finding.path == "a/1.png"}
    assert kind in notes and not ({"blank", "nearly constant", "faint"} - {kind}) & notes
    assert not survey_folder(tmp_path, size=28).problems


@pytest.mark.parametrize("image", [levels(0, 60), dot(32, (28, 14), 4), picture(1, mode="RGB")])
def test_what_can_be_seen_is_not_noted(tmp_path, image):
    put(tmp_path / "a" / "1.png", content(image))
    assert not {finding.kind for finding in survey_folder(tmp_path).notes} & survey.WARNINGS


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 15])
def test_bits_that_no_image_uses_are_told_once(tmp_path, bits):
    for i in range(3):
        grey = np.random.default_rng(i).integers(0, 2**bits, (32, 32), dtype=np.uint16)
        grey[0, 0] = 2**bits - 1
        put(tmp_path / "a" / f"{i}.png", content(Image.fromarray(grey)))
    [finding] = [finding for finding in survey_folder(tmp_path).notes if finding.kind == "unused range"]
    assert f"use {bits} of them" in finding.text and f"multiply their values by {2 ** (16 - bits)}" in finding.text
    put(tmp_path / "a" / "full.png", content(Image.fromarray(np.arange(1024, dtype=np.uint16).reshape(32, 32) * 64)))
    assert "unused range" not in {finding.kind for finding in survey_folder(tmp_path).notes}


def test_one_picture_saved_twice_for_two_classes_is_noted_and_training_goes_on(tmp_path):
    for name, kind, mode in (("a/1.png", "PNG", "L"), ("b/1.gif", "GIF", "L"), ("b/2.png", "PNG", "RGB")):
        put(tmp_path / name, content(picture(1).convert(mode), kind))
    found = survey_folder(tmp_path)
    [note] = [finding for finding in found.notes if finding.kind == "twin"]
    assert "a/1.png" in note.text and "b/1.gif" in note.text and "in different classes" in note.text
    assert not found.problems


def test_white_on_transparency_is_told(tmp_path):
    image = Image.new("RGBA", (32, 32), (255, 255, 255, 0))
    image.paste((255, 255, 255, 255), (8, 8, 20, 24))
    put(tmp_path / "a" / "1.png", content(image))
    [note] = survey_folder(tmp_path).notes
    assert note.kind == "light on transparent" and "becomes black so that the drawing shows" in note.text


def test_classes_with_too_few_images_are_told_with_numbers():
    assert few_images({"a": 5, "b": 9}, 1, 4) == []
    [finding] = few_images({"a": 5, "b": 1}, 2, 1)
    assert finding.path == "b" and finding.text == "class 'b' has 1 image, and 2 shots and 1 query take 3; add 2"


def test_a_folder_without_a_class_and_a_wrong_setting_are_refused(tmp_path):
    with pytest.raises(DataError, match="no folder in it has images"):
        survey_folder(tmp_path)
    make_folder(tmp_path, classes=1, images=1)
    with pytest.raises(ConfigError, match=r"an image's size must be 1..1024 pixels, got 4000"):
        survey_folder(scan_tree(tmp_path), size=4000)


@pytest.mark.slow
def test_a_thousand_files_take_less_than_a_second(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(1000):
        pixels = (rng.random((105, 105)) > 0.1).astype(np.uint8) * 255
        put(tmp_path / f"class{i // 20}" / f"{i}.png", content(Image.fromarray(pixels)))
    survey_folder(tmp_path)
    began = time.perf_counter()
    survey_folder(tmp_path)
    assert time.perf_counter() - began < 1.0
