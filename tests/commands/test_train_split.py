"""`fastadapt train --data FOLDER --split ...`: the user's own split is used, told, recorded and kept."""

import json
import shlex
import shutil
from pathlib import Path

import pytest

from drawn_folder import content, make_folder, picture, put, spoil
from fastadapt.cli import main
from fastadapt.data.images.folder_settings import FolderData
from fastadapt.runs.run_files import load_run, read_config

SMALL = [
    "--net.width", "4", "--training.meta-batch", "2", "--training.checkpoint-every", "2", "--protocol.tasks", "2",
    "--protocol.steps", "3", "--validation-tasks", "2", "--training.validate-every", "0", "--method.route", "loop",
    "--method.compile", "off", "--quiet",
]  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTADAPT_CACHE", str(tmp_path / "cache"))
    return tmp_path


def train(*words: str, steps: int = 1) -> int:
    return main(["train", "--data", "photos", "--shots", "1", *SMALL, "--training.steps", str(steps), *words])


def data_of(run: Path) -> FolderData:
    data = read_config(run).data
    assert isinstance(data, FolderData)
    return data


def divided(root: Path) -> Path:
    """Write classes 0..3 for training, 4..6 for validation and 7..9 for the test."""
    make_folder(root / "all", classes=10)
    for c in range(10):
        part = "train" if c < 4 else "val" if c < 7 else "test"
        (root / part).mkdir(exist_ok=True)
        (root / "all" / f"class{c}").rename(root / part / f"class{c}")
    (root / "all").rmdir()
    return root


@pytest.mark.long
def test_folders_of_parts_are_the_split_from_training_to_evaluation(
    here: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    divided(here / "photos")
    assert train() == 0
    run = here / "runs" / "maml-photos-3w1s"  # the ways that there are enough classes for
    data = data_of(run)
    assert data.split_by == "folders" and data.test_classes == ("class7", "class8", "class9")
    assert set(data.train_classes) == {f"class{c}" for c in range(4)}
    assert "split: its folders divide the classes: 4 train, 3 val, 3 test" in caplog.text
    record = json.loads((run / "split.json").read_text())
    assert record["by"] == "folders" and record["test"] == list(data.test_classes)
    assert main(["evaluate", str(run), "--json"]) == 0
    assert train(steps=2) == 0 and load_run(run).step == 2
    capsys.readouterr()
    assert train("--split", "random", steps=3) == 2
    assert "data.split_by: folders -> random" in capsys.readouterr().err
    shutil.copytree(run, here / "copy")
    assert train("--split", str(here / "copy" / "split.json"), "--run", "runs/again") == 0  # its own record is a list
    assert data_of(here / "runs" / "again").split == data.split


@pytest.mark.long
def test_classes_on_two_sides_become_one_and_a_run_finds_them_again(
    here: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("INFO")
    for number, part in enumerate(("train", "valid", "test")):
        for c in range(6):
            for i in range(2):
                name = here / "photos" / "set" / part / f"c{c}" / f"{i}.png"
                put(name, content(picture(100 * number + 10 * c + i)))
    assert train("--ways", "2") == 0
    run = here / "runs" / "maml-photos-2w1s"
    data = data_of(run)
    names = [name for part in data.split.values() for name in part]
    assert data.split_by == "random" and sorted(names) == [f"set/c{c}" for c in range(6)]
    assert "have several folders ('set/train/c0', 'set/test/c0', 'set/valid/c0'), put together" in caplog.text
    images = data.load()
    assert set(images.counts.values()) == {6}
    capsys.readouterr()
    assert main(["evaluate", str(run), "--json"]) == 0


@pytest.mark.long
def test_parts_that_the_user_did_not_make_come_from_the_classes_that_train(
    here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    divided(here / "photos")
    shutil.rmtree(here / "photos" / "val")
    make_folder(here / "more", classes=6)
    for c in range(6):
        for path in (here / "more" / f"class{c}").iterdir():
            put(here / "photos" / "train" / f"more{c}" / path.name, content(picture(5000 + 10 * c + int(path.stem))))
    assert train("--ways", "2") == 0
    data = data_of(here / "runs" / "maml-photos-2w1s")
    assert data.test_classes == ("class7", "class8", "class9") and len(data.val_classes) == 2
    assert len(data.train_classes) == 8
    assert "10 train, 3 test; classes for val are taken from those that train" in caplog.text
    assert train("--ways", "2", "--val", "0", "--run", "runs/no") == 0
    assert data_of(here / "runs" / "no").val_classes == () and len(data_of(here / "runs" / "no").train_classes) == 10


def test_a_list_of_classes_divides_and_what_it_does_not_name_is_left_out(
    here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_folder(here / "photos", classes=7)
    put(here / "lists" / "train.txt", b"class5\nclass6\n")
    put(here / "lists" / "test.txt", b"class0\nclass1\n")
    assert train("--split", "lists", "--val", "0", "--ways", "2") == 0
    data = data_of(here / "runs" / "maml-photos-2w1s")
    assert data.split_by == "lists" and data.test_classes == ("class0", "class1")
    assert sorted(data.train_classes) == ["class5", "class6"]
    assert "note: lists does not list 'class2', 'class3', 'class4': left out" in caplog.text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--split", "folders"], "photos can't be divided by its folders: none in it is named as a part"),
        (["--split", "nowhere.txt"], "there is no file 'nowhere.txt'"),
        (["--split", "photos/class0/0.png"], "is not text in UTF-8"),
        (["--size", "8"], "--size must be at least 16, got 8"),
    ],
)
def test_a_split_that_can_not_be_gets_a_sentence(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    make_folder(here / "photos")
    assert train(*words) == 2
    assert says in capsys.readouterr().err and not (here / "runs").exists()
    assert main(["check", "photos", *words]) in (1, 2)


def test_a_plain_folder_is_recorded_as_before(here: Path) -> None:
    make_folder(here / "photos")
    assert train("--ways", "3") == 0
    text = (here / "runs" / "maml-photos-3w1s" / "config.json").read_text()
    assert "split_by" not in text and read_config(here / "runs" / "maml-photos-3w1s").to_json() + "\n" == text


def test_a_run_that_began_without_a_look_at_its_folders_is_still_loaded(here: Path) -> None:
    divided(here / "photos")
    paths = tuple(sorted(path.relative_to(here / "photos").as_posix() for path in (here / "photos").glob("*/*")))
    before = FolderData(
        ways=3, train_queries=1, queries=1, size=28, channels=1, folder="photos",
        train_classes=paths[:4], val_classes=paths[4:7], test_classes=paths[7:],
    )  # fmt: skip
    images = before.load()
    assert images.class_names == paths and before.source("test", images).class_names == paths[7:]


@pytest.mark.long
def test_blank_images_are_told_before_the_training_also_from_the_decoded_copy(
    here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_folder(here / "photos")
    for i in range(3):
        put(here / "photos" / "class0" / f"blank{i}.png", content(picture(1).point(lambda v, i=i: 250 + i)))
    for _ in range(2):
        caplog.clear()
        assert train("--ways", "3", "--size", "28", "--channels", "1") == 0
        assert "note: photos/class0/blank0.png is blank at 28x28 pixels" in caplog.text
        assert "(blank: 3 in all)" in caplog.text


@pytest.mark.long
def test_the_command_that_a_refusal_names_lists_all_that_it_counts(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(make_folder(here / "photos"))
    assert train("--fit", "pad") == 2
    err = capsys.readouterr().err
    command = shlex.split(err[err.index("fastadapt check") : err.index(" lists all")])
    assert main(command[1:]) == 1
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert f"photos has {len([p for p in problems if p['kind'] != 'few classes'])} problems:" in err
    assert problems[0]["text"] in err
