"""Which split a folder gets: by the names of its folders, by lists, or at random; no class is trained and tested."""

import json
from pathlib import Path

import pytest

from fastadapt.data.images.split_choice import Choice, choose_split, class_tree
from fastadapt.data.images.tree import Tree
from fastadapt.errors import ConfigError, DataError


def tree_of(*names: str, root: Path = Path("pets")) -> Tree:
    return Tree(root, {name: [root / name / "1.png"] for name in sorted(names)}, [])


def chosen(*names: str, split: str = "auto") -> Choice:
    return choose_split(tree_of(*names), split)


@pytest.mark.parametrize(
    ("paths", "parts"),
    [
        ("train/a val/b test/c", "train val test"),
        ("Training/a VALID/b Testing/c", "train val test"),
        ("data/set/train/a data/set/test/c", "train test"),
        ("x/train/a x/test/b y/train/c y/test/d", "train test train test"),
        ("images_background/G/a images_evaluation/L/b", "train test"),
        ("train/G/a train/L/b test/M/c", "train train test"),
        ("base/a val/b novel/c", "train val test"),
        ("train/a dev/b", "train val"),
        ("train/a eval/b test/c", "train val test"),
        ("train/a validation/b eval/c", "train val test"),
        ("omni_train/a omni_test/b", "train test"),
        ("seg_train/seg_train/a seg_test/seg_test/b", "train test"),
        ("a b test/c", "train train test"),
        ("a group/b held-out/c", "train train test"),
        ("train/train/a train/val/b test/c", "train val test"),
        ("train/a/support train/a/query test/b/support test/b/query", "train test"),
        ("train/rail/train train/rail/tram test/c", "train train test"),
    ],
)
def test_folders_that_share_no_class_are_the_split(paths: str, parts: str) -> None:
    choice = chosen(*paths.split())
    assert choice.by == "folders" and choice.problem is None
    found = [choice.parts[name] for name in sorted(choice.parts, key=lambda name: name.rsplit("/", 1)[-1])]
    assert sorted(found) == sorted(parts.split()) and "divide the classes: " in choice.words
    assert set(choice.parts) == set(choice.tree.classes)


@pytest.mark.parametrize(
    "paths",
    [
        "train/a train/b val/a test/a test/b",
        "Train/a Train/b Test/b",
        "deep/er/train/a deep/er/train/b deep/er/valid/a",
        "a/train a/test b/train b/val",
        "train/Cat test/cat train/b",
        "a b test/a",
        "a b train/a train/b",
        "support/a query/a query/b support/b",
        "a/support a/query b/support b/query",
        "seg_train/seg_train/a seg_test/seg_test/a",
        "background/G/a evaluation/G/a background/b",
    ],
)
def test_a_class_on_two_sides_becomes_one_and_is_told(paths: str) -> None:
    names = paths.split()
    choice = chosen(*names)
    assert choice.by == "random" and choice.problem is None and not choice.parts
    assert len(choice.tree.classes) == len({name.casefold() for name in choice.tree.classes}) < len(names)
    assert sum(map(len, choice.tree.classes.values())) == len(names)  # no image is lost
    assert "put together" in choice.words and "divided at random" in choice.words


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        ("train/a test/a test/b", "'a' is in more than one of the parts that folders name, and 'b' in one"),
        ("train/a val/b test/b", "'b' is in more than one of the parts that folders name; rename or move"),
        ("train/b test/c a", "'a' lies beside folders that are named as parts, and in none of them; move it"),
        ("train/b test/c unlabeled", "'unlabeled' lies beside folders"),
        ("val/a test/b", "folders name classes for val and test, and none to train on; add a folder train"),
        ("train test val", "'test', 'train', 'val' hold images that belong to no class"),
    ],
)
def test_what_contradicts_itself_is_refused_and_random_mends_it(paths: str, words: str) -> None:
    names = paths.split()
    assert words in (chosen(*names).problem or "")
    anew = chosen(*names, split="random")
    assert anew.problem is None and anew.by == "random" and not anew.parts
    ends = [path.rsplit("/", 1)[-1] for path in names]
    assert sorted(name.rsplit("/", 1)[-1] for name in anew.tree.classes) == sorted(set(ends))


@pytest.mark.parametrize(
    "paths",
    [
        "a b c",
        "train bus car",
        "rail/train rail/tram cat",
        "train/a train/b",
        "test/a test/b",
        "wrap/a wrap/b",
        "animals/a background/b base/c",
        "steam_train/a blood_test/b",
    ],
)
def test_where_no_folder_names_a_part_a_class_is_named_by_its_path(paths: str) -> None:
    choice = chosen(*paths.split())
    assert choice.by == "" and choice.problem is None and list(choice.tree.classes) == sorted(paths.split())
    assert choice.words == "the classes are divided at random"
    assert chosen(*paths.split(), split="random").by == ""


@pytest.mark.parametrize(
    ("paths", "noted"),
    [
        ("amazon/mug webcam/mug amazon/bike", "'amazon/mug', 'webcam/mug' count as different classes; put"),
        ("one/train/Cat two/test/cat", "'one/Cat', 'two/cat' count as different classes; put"),
        ("train/x/cat test/y/cat train/x/dog test/y/dog", "'x/cat', 'y/cat' count as different classes (and 1 more"),
        ("Greek/character01 Latin/character01", ""),  # numbers say nothing
        ("train/cat test/cat", ""),  # put together
    ],
)
def test_classes_that_only_their_folders_tell_apart_are_noted(paths: str, noted: str) -> None:
    notes = " ".join(chosen(*paths.split()).notes)
    assert noted in notes and bool(noted) == bool(notes)


def test_a_split_that_was_chosen_is_found_again() -> None:
    tree = tree_of("train/a", "val/a", "test/a", "train/b", "test/b")
    choice = choose_split(tree)
    assert class_tree(tree, choice.by).classes == choice.tree.classes
    assert class_tree(tree, "") is tree


def test_folders_can_be_asked_for_and_left_aside() -> None:
    anew = chosen("train/a", "test/b", split="random")
    assert anew.by == "random" and list(anew.tree.classes) == ["a", "b"] and "though folders" in anew.words
    assert "none in it is named as a part" in (chosen("a", "b", split="folders").problem or "")
    assert "put together" in (chosen("train/a", "test/a", split="folders").problem or "")
    with pytest.raises(ConfigError, match=r"--split is auto, folders, random or a file .* there is no file 'maybe'"):
        chosen("a", "b", split="maybe")


LISTS = {
    "split.json": json.dumps({"train": ["a"], "val": ["b"], "test": ["c"], "seed": 1}),
    "classes.json": json.dumps({"a": "train", "b": "valid", "c": "test"}),
    "split.csv": "class,split\na,train\nb,val\nc,test\n",
    "table.tsv": "id\tset\tlabel\n1\ttrain\ta\n2\tdev\tb\n3\ttesting\tc\n4\ttrain\ta\n",
    "words.txt": "# mine\na train\nb validation\nc test\n",
    "turned.txt": "train,a\nval,b\ntest,c\n",
    "headings.txt": "train:\n- a\nval:\n- b\ntest:\n- c\n",
    "inline.txt": "train: a\nval: b\ntest: c\n",
    "sections.lst": "[train]\na\n[val]\nb\n[test]\nc\n",
    "marked.csv": "\ufeffclass;part\na;Train\nb;Val\nc;Test\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_classes_is_the_split_in_any_usual_form(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(LISTS[name], encoding="utf-8")
    choice = chosen("a", "b", "c", "d", split=str(tmp_path / name))
    assert choice.problem is None and choice.by == "lists"
    assert choice.parts == {"a": "train", "b": "val", "c": "test"}
    assert choice.notes == (f"{tmp_path / name} does not list 'd': left out",)


@pytest.mark.parametrize("given", ["train.txt", "", "test.txt"])
def test_lists_side_by_side_are_named_by_their_files(tmp_path: Path, given: str) -> None:
    for part, names in (("train", "a\nb\n"), ("val", "Greek/c\n"), ("test", "d\n")):
        (tmp_path / f"{part}.txt").write_text(names)
    choice = chosen("a", "x/b", "Greek/c", "d", split=str(tmp_path / given))
    assert choice.parts == {"a": "train", "x/b": "train", "Greek/c": "val", "d": "test"}


def test_lists_of_files_name_the_classes_of_their_labels(tmp_path: Path) -> None:
    for part, label in (("train", "a"), ("val", "b"), ("test", "c")):
        (tmp_path / f"{part}.csv").write_text(f"filename,label\n1.jpg,{label}\n2.jpg,{label}\n")
    assert chosen("a", "b", "c", split=str(tmp_path / "train.csv")).parts == {"a": "train", "b": "val", "c": "test"}


def test_classes_train_where_only_the_others_are_listed(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("test: c\n")
    assert chosen("a", "b", "c", split=str(tmp_path / "s.txt")).parts == {"c": "test", "a": "train", "b": "train"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a train\na test\n", "lists 'a' for train and for test; list it once"),
        ("a train\nz test\n", "lists 'z', and pets has no such class but 'a', 'b'; mend the list"),
    ],
)
def test_a_list_that_can_not_be_right_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "s.txt").write_text(text)
    assert words in (chosen("a", "b", split=str(tmp_path / "s.txt")).problem or "")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("s.txt", b"a\nb\n", "lists no classes"),
        ("s.txt", b"", "is empty"),
        ("s.txt", b"\xff\xc3 train", "not text"),
        ("s.txt", b"\xff\xfe\x00", "not text"),
        ("s.csv", b'class,split\n"' + b"a" * 200_000, "lists no classes"),
        ("s.json", b"{", "no JSON"),
        ("s.json", b"5", "lists no classes"),
        ("s.json", b'{"train": 5, "test": null}', "lists no classes"),
        ("s.json", b"[" * 100_000, "no JSON"),
        ("s.json", b'["a", "b"]', "lists no classes"),
    ],
)
def test_a_file_that_is_no_list_is_an_error(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        chosen("a", "b", split=str(path))


def test_a_list_beside_the_classes_is_found_and_one_that_does_not_fit_is_told(tmp_path: Path) -> None:
    tree = tree_of("a", "b", "c", root=tmp_path)
    (tmp_path / "split.json").write_text(LISTS["split.json"])
    assert choose_split(tree).by == "lists" and choose_split(tree, "random").by == ""
    (tmp_path / "split.json").write_text(json.dumps({"train": ["a/1.png"], "test": ["b/1.png"]}))
    choice = choose_split(tree)
    [note] = choice.notes
    assert choice.by == "" and "is not taken for the split: " in note and "has no such class" in note
