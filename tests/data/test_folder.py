"""A folder of class folders: what is read, in which order, and the sentence for each thing wrong with it."""

import re

import pytest
import torch
from PIL import Image, ImageDraw

from fastadapt.data.images.folder import read_class_folders
from fastadapt.data.images.images import ImageRecipe
from fastadapt.errors import DataError

RECIPE = ImageRecipe(28, invert=True)


def draw(path, strokes, side=105):
    """Draw some strokes by hand, black on white."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("L", (side, side), 255)
    pen = ImageDraw.Draw(image)
    for i in range(strokes):
        pen.line((side * (i + 1) // 6, side // 8, side * (i + 1) // 6, side * 7 // 8), 0, side // 20)
    image.save(path)


@pytest.fixture
def drawings(tmp_path):
    """Make three classes of two drawings each, at two sizes."""
    folder = tmp_path / "drawings"
    for strokes, name in enumerate(("one", "three", "two"), start=1):
        draw(folder / name / "a.png", strokes)
        draw(folder / name / "b.png", strokes, side=200)
    return folder


def problem(folder, **wanted):
    with pytest.raises(DataError) as caught:
        read_class_folders(folder, RECIPE, **wanted)
    return str(caught.value)


def test_classes_and_images_come_in_the_order_of_their_names(drawings):
    (x, y), labels = read_class_folders(drawings, RECIPE, ways=3, shots=2)
    assert x.shape == (6, 1, 28, 28) and x.dtype == torch.float32
    assert y.tolist() == [0, 0, 1, 1, 2, 2] and y.dtype == torch.int64
    assert labels == ["one", "three", "two"]
    assert torch.equal(x[3], RECIPE.read(drawings / "three" / "b.png"))
    assert (x.mean((1, 2, 3)).diff()[[1, 3]] > 0).all()  # more strokes, more ink


def test_shots_takes_the_first_and_none_takes_all(drawings):
    (x, y), _ = read_class_folders(str(drawings), RECIPE, shots=1)
    assert torch.equal(x[2], RECIPE.read(drawings / "two" / "a.png")) and y.tolist() == [0, 1, 2]
    draw(drawings / "one" / "c.png", 1)
    assert read_class_folders(drawings, RECIPE)[0][1].tolist() == [0, 0, 0, 1, 1, 2, 2]


def test_hidden_files_and_stray_notes_are_ignored(drawings):
    (drawings / ".git").mkdir()
    (drawings / "one" / ".DS_Store").write_bytes(b"\0")
    (drawings / "README.txt").write_text("my drawings")
    assert read_class_folders(drawings, RECIPE, ways=3)[1] == ["one", "three", "two"]


def test_names_may_be_in_any_script(drawings):
    draw(drawings / "漢字" / "größe.png", 4)
    assert read_class_folders(drawings, RECIPE)[1] == ["one", "three", "two", "漢字"]


def empty(folder):
    (folder / "two" / "a.png").unlink()
    (folder / "two" / "b.png").unlink()


def loose(folder):
    for name in ("one", "two", "three"):
        (folder / name / "a.png").rename(folder / f"{name}.png")
        (folder / name / "b.png").unlink()
        (folder / name).rmdir()


@pytest.mark.parametrize(
    ("change", "wanted", "sentence"),
    [
        (lambda f: f.rename(f.with_name("old")), {}, "^there is no folder FOLDER; check the path$"),
        (
            lambda f: (f.rename(f.with_name("old")), f.write_bytes(b"x")),
            {},
            "^FOLDER is a file, not a folder; make one sub",
        ),
        (
            lambda f: (f.rename(f.with_name("old")), f.mkdir()),
            {},
            "^can't use FOLDER: it has no sub-folders; make one sub-f",
        ),
        (
            loose,
            {},
            "^can't use FOLDER: its 3 images belong to no class; make one sub-folder for each class and put its",
        ),
        (
            lambda f: draw(f / "x.png", 1),
            {},
            "^FOLDER/x.png lies beside the class folders; move it into one of them$",
        ),
        (
            lambda f: None,
            {"ways": 5},
            r"^FOLDER has 3 class folders \(one, three, two\), the model needs exactly 5; add the missing ones$",
        ),
        (
            lambda f: None,
            {"ways": 2},
            r"^FOLDER has 3 class folders \(one, three, two\), the model needs exactly 2; remove some$",
        ),
        (
            lambda f: [(f / n).rename(f.with_name(n)) for n in ("one", "two")],
            {},
            r"^FOLDER has 1 class folders \(three\), the model needs at least 2; add the missing ones$",
        ),
        (empty, {}, "^FOLDER/two has no images; add some or remove the folder$"),
        (
            lambda f: (f / "two" / "b.png").unlink(),
            {"shots": 2},
            "^FOLDER/two has 1 of the 2 images asked for; add 1$",
        ),
        (
            lambda f: (f / "two" / "b.png").write_bytes(b"not an image"),
            {},
            "^FOLDER/two/b.png is not a PNG, JPEG, WebP or GIF image, or is damaged; save it as PNG$",
        ),
        (lambda f: (f / "two" / "notes.txt").write_text("hi"), {}, "^FOLDER/two/notes.txt is not a PNG"),
        (
            lambda f: (f / "two" / "more").mkdir(),
            {},
            "^FOLDER/two/more is a folder inside a class folder; move its images up$",
        ),
        (
            lambda f: (f / "up").symlink_to(f),
            {},
            r"^FOLDER has 4 problems:\n  FOLDER/up/one is a folder inside a class folder",
        ),
        (
            lambda f: (f / "loop").symlink_to("loop"),
            {},
            "^FOLDER/loop is a symbolic link that leads nowhere; remove it$",
        ),
    ],
)
def test_every_problem_has_a_sentence(drawings, change, wanted, sentence):
    change(drawings)
    assert re.search(sentence.replace("FOLDER", re.escape(str(drawings))), problem(drawings, **wanted))


def test_several_problems_come_in_one_pass(drawings):
    (drawings / "one" / "b.png").write_bytes(b"")
    (drawings / "three" / "a.png").write_bytes(b"text")
    draw(drawings / "two" / "b.png", 1, side=20)
    first, *rest = problem(drawings, ways=4, shots=3).split("\n  ")
    assert first == f"{drawings} has 7 problems:"
    assert [line.split(" ")[0].removeprefix(str(drawings)) for line in rest if "can't" not in line] == [
        "", "/one", "/three", "/three/a.png", "/two", "/two/b.png"
    ]  # fmt: skip
    assert sum("the file is empty" in line for line in rest) == 1


def test_of_many_problems_ten_are_listed(drawings):
    for i in range(15):
        (drawings / "one" / f"{i:02}.png").write_bytes(b"text")
    lines = problem(drawings).split("\n  ")
    assert lines[0].endswith("has 15 problems:") and len(lines) == 12 and lines[-1] == "and 5 more"


def test_a_wrong_folder_is_not_decoded(drawings, monkeypatch):
    monkeypatch.setattr(ImageRecipe, "read", lambda *_: pytest.fail("decoded an image"))
    assert "needs exactly 2" in problem(drawings, ways=2)


def test_a_class_folder_that_may_not_be_read(drawings, monkeypatch):
    from pathlib import Path

    listed = Path.iterdir

    def iterdir(path):
        if path.name == "two":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert problem(drawings) == (
        f"can't read the folder {drawings}/two: reading it is not permitted; change its permissions"
    )


@pytest.mark.parametrize("around", ["wrap", "a/b/c", "photos/__MACOSX/..", "train"])
def test_folders_around_all_classes_are_passed_through(drawings, around):
    inside = drawings.parent / "outer" / around
    inside.parent.mkdir(parents=True, exist_ok=True)
    inside.mkdir(parents=True, exist_ok=True)
    for path in list(drawings.iterdir()):
        path.rename(inside / path.name)
    (drawings.parent / "outer" / "__MACOSX").mkdir()
    (drawings.parent / "outer" / ".DS_Store").write_bytes(b"x")
    (x, _), labels = read_class_folders(drawings.parent / "outer", RECIPE, ways=3)
    assert labels == ["one", "three", "two"] and len(x) == 6


def test_what_desktops_leave_is_no_image(drawings):
    for name in ("Thumbs.db", "desktop.ini"):
        (drawings / "one" / name).write_bytes(b"x")
    assert len(read_class_folders(drawings, RECIPE)[0][0]) == 6


def as_it_is(path):
    return path.read_bytes()


def as_gif(path):
    import io

    stream = io.BytesIO()
    Image.open(path).save(stream, "GIF")
    return stream.getvalue()


@pytest.mark.parametrize("copied", [as_it_is, as_gif])
@pytest.mark.parametrize("others", [["two"], ["two", "three"]])
def test_an_image_in_two_classes_is_refused(drawings, copied, others):
    for other in others:
        (drawings / other / "twin.png").write_bytes(copied(drawings / "one" / "a.png"))
    text = problem(drawings)
    for other in others:
        assert f"'one' and '{other}' have the same image; keep it in one of them" in text
    (drawings / "one" / "copy.png").write_bytes((drawings / "one" / "a.png").read_bytes())
    for other in others:
        (drawings / other / "twin.png").unlink()
    assert len(read_class_folders(drawings, RECIPE)[0][0]) == 7  # twice in one class does no harm
