"""The tree of class folders: what is a class, and links that lead round in circles."""

import os
from pathlib import Path

import pytest

from drawn_folder import put
from fastadapt.data.images.tree import scan_tree, without_classes
from fastadapt.errors import DataError


def tree_of(root: Path, *names: str) -> Path:
    for name in names:
        put(root / name, b"")
    return root


def said(root: Path) -> list[str]:
    return [finding.text.replace(str(root), "ROOT") for finding in scan_tree(root).findings]


def test_a_class_is_a_folder_with_images_at_any_depth(tmp_path):
    tree = scan_tree(tree_of(tmp_path, "b/2.png", "b/1.JPG", "a/x/1.png", "a/y/1.webp", "a/y/z/1.gif"))
    assert {name: [path.name for path in files] for name, files in tree.classes.items()} == {
        "a/x": ["1.png"],
        "a/y/z": ["1.gif"],
        "b": ["1.JPG", "2.png"],
    }
    assert [finding.path for finding in tree.findings] == ["a/y"]  # its own image lies beside its sub-folder


def test_hidden_files_and_clutter_are_ignored(tmp_path):
    names = ("a/1.png", "a/.DS_Store", "a/Thumbs.db", ".git/1.png", "__MACOSX/a/1.png", "README")
    tree = scan_tree(tree_of(tmp_path, *names))
    assert list(tree.classes) == ["a"] and len(tree.classes["a"]) == 1 and tree.findings == []


def test_every_oddity_of_a_tree_has_a_sentence(tmp_path):
    tree_of(tmp_path, "a/1.png", "notes/words.txt", "group/1.png", "group/b/1.png", "loose.png")
    (tmp_path / "empty").mkdir()
    assert said(tmp_path) == [
        "ROOT/empty has no images; add some or remove the folder",
        "ROOT/group has 1 image beside its sub-folders; move what is there into one of these",
        "ROOT/loose.png lies beside the class folders; move it into one of them",
        "ROOT/notes has 1 file, none with the name of an image (.png, .jpg, .webp, .gif); add images or remove it",
    ]


def test_links_are_followed_but_never_in_circles(tmp_path):
    root = tree_of(tmp_path / "root", "a/1.png", "b/c/1.png")
    tree_of(tmp_path / "far", "1.png")
    (root / "far").symlink_to(tmp_path / "far")
    (root / "a" / "2.png").symlink_to(root / "a" / "1.png")
    (root / "b" / "up").symlink_to(root)
    (root / "again").symlink_to(root / "a")
    (root / "itself").symlink_to("itself")
    (root / "gone").symlink_to("nowhere")
    assert list(scan_tree(root).classes) == ["a", "b/c", "far"]
    assert said(root) == [
        "ROOT/again is a symbolic link to a folder that is read already (ROOT/a); remove it",
        "ROOT/b/up is a symbolic link back to a folder that it lies in (ROOT); remove it",
        "ROOT/gone is a symbolic link that leads nowhere; remove it",
        "ROOT/itself is a symbolic link that leads back to itself; remove it",
    ]


def test_many_links_to_many_links_take_no_time(tmp_path):
    for i in range(25):  # 2**25 paths for a reader that follows each of them
        (tmp_path / f"d{i}").mkdir()
        for side in "lr":
            (tmp_path / f"d{i}" / side).symlink_to(tmp_path / f"d{i + 1}")
    put(tmp_path / "d25" / "1.png", b"")
    assert list(scan_tree(tmp_path).classes) == ["d25"]


def test_a_very_deep_folder_is_refused_rather_than_followed(tmp_path):
    deep = tmp_path.joinpath(*["d"] * 21)
    put(deep / "1.png", b"")
    assert any(text.endswith("lies more than 20 folders deep; move it up") for text in said(tmp_path))


def test_names_that_are_not_text_are_read(tmp_path):
    odd = os.fsdecode(b"caf\xe9")
    try:
        put(tmp_path / odd / "1.png", b"")
    except OSError:
        pytest.skip("this file system takes no such name")
    assert list(scan_tree(tmp_path).classes) == [odd]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda root: root, "there is no folder ROOT; check the path"),
        (lambda root: put(root, b"x"), "ROOT is a file, not a folder; make one sub-folder for each class"),
    ],
)
def test_a_root_that_is_no_folder(tmp_path, make, sentence):
    make(tmp_path / "photos")
    with pytest.raises(DataError) as caught:
        scan_tree(tmp_path / "photos")
    assert str(caught.value).replace(str(tmp_path / "photos"), "ROOT").startswith(sentence)


def test_a_folder_without_classes_is_told_apart_from_loose_images(tmp_path):
    (tmp_path / "a").mkdir()
    assert "no folder in it has images; make one sub-folder" in str(without_classes(scan_tree(tmp_path)))
    put(tmp_path / "1.png", b"")
    assert "its images belong to no class; make one sub-folder" in str(without_classes(scan_tree(tmp_path)))
