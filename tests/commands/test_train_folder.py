"""`fastadapt train --data FOLDER`: from a user's folders to a trained run, and all that is done with one."""

import json
import os
import zipfile
from pathlib import Path

import pytest

from drawn_folder import content, make_folder, picture, put, spoil
from fastadapt.cli import main
from fastadapt.data import data_folders
from fastadapt.data.images.folder_settings import FolderData
from fastadapt.runs.config import Conv4Net, ReptileMethod
from fastadapt.runs.folder_run import first_guess, parse_wishes, resolve
from fastadapt.runs.run_files import load_run, read_config

SMALL = [
    "--net.width", "4", "--training.meta-batch", "2", "--training.checkpoint-every", "2", "--protocol.tasks", "4",
    "--validation-tasks", "2", "--method.route", "loop", "--quiet",
]  # fmt: skip
GIVEN = os.environ.get("FASTADAPT_DATA")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTADAPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FASTADAPT_DATA", raising=False)
    return tmp_path


def train(*words: str, steps: int = 4, validate: int = 2, test_steps: int = 3) -> int:
    """Train on the folder `photos` for a moment."""
    length = [
        "--training.steps",
        str(steps),
        "--training.validate-every",
        str(validate),
        "--protocol.steps",
        str(test_steps),
    ]
    return main(["train", "--data", "photos", "--ways", "3", "--shots", "1", *SMALL, *length, *words])


@pytest.mark.long
def test_from_folders_to_answers(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_folder(here / "photos", classes=9, images=6)
    assert train() == 0
    out = capsys.readouterr().out
    run = here / "runs" / "maml-photos-3w1s"
    assert "runs/maml-photos-3w1s (weights of step" in out and "accuracy" in out
    assert (run / "report" / "task.png").is_file()

    split = json.loads((run / "split.json").read_text())
    assert sorted(split["train"] + split["val"] + split["test"]) == [f"class{c}" for c in range(9)]
    model = json.loads((run / "model" / "model.json").read_text())["config"]["data"]
    assert [model[f"{part}_classes"] for part in ("train", "val", "test")] == [
        split[part] for part in ("train", "val", "test")
    ]
    assert model["digest"] == split["images"] and (model["size"], model["channels"], model["queries"]) == (28, 1, 5)

    assert main(["evaluate", "runs/maml-photos-3w1s", "--json"]) == 0  # it knows where the images were
    again = json.loads(capsys.readouterr().out)
    assert again["mean"] == json.loads((run / "evaluation.json").read_text())["mean"]
    (here / "photos").rename(here / "moved")
    assert main(["evaluate", "runs/maml-photos-3w1s"]) == 2
    assert "give the place of the images with --data" in capsys.readouterr().err
    assert main(["report", "runs/maml-photos-3w1s", "--data", "moved"]) == 0
    assert main(["list"]) == 0
    assert "runs/maml-photos-3w1s" in capsys.readouterr().out

    for c in range(3):
        put(here / "new" / f"sign{c}" / "1.png", content(picture(c, 50, 40)))
    assert main(["adapt", "runs/maml-photos-3w1s", "new", "--out", "mine"]) == 0  # crops as the training did
    capsys.readouterr()
    assert main(["predict", "mine", "new/sign1/1.png", "--json"]) == 0
    [answer] = json.loads(capsys.readouterr().out)
    assert set(answer["probabilities"]) == {"sign0", "sign1", "sign2"}


@pytest.mark.long
def test_the_same_command_goes_on_and_new_classes_do_not_move_the_old(
    here: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    make_folder(here / "photos", classes=9)
    assert train(steps=2) == 0
    run = here / "runs" / "maml-photos-3w1s"
    before = (run / "split.json").read_text()
    for c in range(20, 25):
        for i in range(2):  # fewer than in any other class: the queries stay as they were too
            put(here / "photos" / f"class{c}" / f"{i}.png", content(picture(1000 * c + i)))
    assert train(steps=4) == 0
    assert "5 classes that this run does not know and leaves out ('class20', 'class21', 'class22', ...)" in caplog.text
    assert (run / "split.json").read_text() == before
    assert load_run(run).step >= 2 and read_config(run).training.steps == 4

    put(here / "photos" / "class0" / "0.png", content(picture(99)))
    assert train(steps=6) == 2
    assert "are not those that" in capsys.readouterr().err
    assert (run / "split.json").read_text() == before


@pytest.mark.long
def test_another_split_is_another_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_folder(here / "photos", classes=9)
    assert train(steps=2) == 0
    capsys.readouterr()
    assert train("--split-seed", "7", steps=2) == 2
    err = capsys.readouterr().err
    assert "data.split_seed: 1 -> 7" in err and len(err) < 1000


@pytest.mark.long
def test_reptile_colour_and_bad_files_left_out(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(make_folder(here / "photos", classes=9, side=40, mode="RGB"))
    words = ["--method", "reptile", "--size", "36", "--bad", "skip", "--data.rotation", "per_class"]
    assert train(*words, test_steps=2) == 0
    config = read_config(here / "runs" / "reptile-photos-3w1s")
    assert isinstance(config.data, FolderData) and isinstance(config.method, ReptileMethod)
    assert (config.data.size, config.data.channels, config.data.rotation) == (36, 3, "per_class")
    assert isinstance(config.net, Conv4Net) and config.net.down == "max_same"
    assert config.protocol.name == (
        "custom (folder-3w1s-reptile-v1 with protocol.tasks, protocol.steps, data.rotation changed)"
    )


def test_a_nested_tree_has_classes_named_by_their_paths(here: Path) -> None:
    for group in ("a", "b"):
        make_folder(here / "photos" / group, classes=5)
        for path in (here / "photos" / group).rglob("*.png"):
            if group == "b":
                path.write_bytes(content(picture(int(path.parent.name[-1]) * 77 + int(path.stem) + 5)))
    wishes, _ = parse_wishes(["--data", "photos", "--ways", "3"])
    config, _ = resolve(wishes, here / "runs" / "none")
    assert isinstance(config.data, FolderData)
    names = {name for part in config.data.split.values() for name in part}
    assert names == {f"{group}/class{c}" for group in "ab" for c in range(5)}


@pytest.mark.parametrize(
    ("words", "net"),
    [
        (["--size", "28"], ("Conv4Net", 64, "stride", 1)),
        (["--size", "32", "--ways", "20"], ("Conv4Net", 64, "stride", 5)),
        (["--size", "33"], ("Conv4Net", 32, "max", 5)),
        ([], ("Conv4Net", 32, "max", 5)),
        (["--size", "28", "--method", "reptile"], ("Conv4Net", 64, "stride", 5)),
        (["--size", "84", "--method", "reptile"], ("Conv4Net", 32, "max_same", 8)),
    ],
)
def test_the_configuration_follows_from_size_and_method(words: list[str], net: tuple[str, int, str, int]) -> None:
    config = first_guess(parse_wishes(["--data", "photos", *words])[0])
    assert isinstance(config.net, Conv4Net)
    found = (type(config.net).__name__, config.net.width, config.net.down, config.method.steps)  # type: ignore[union-attr]
    assert found == net
    config.build()


@pytest.mark.parametrize(("images", "queries"), [(20, 15), (9, 8), (2, 1)])
def test_queries_are_what_the_smallest_class_has_left(here: Path, images: int, queries: int) -> None:
    make_folder(here / "photos", images=images)
    data = resolve(parse_wishes(["--data", "photos", "--ways", "2"])[0], here / "none")[0].data
    assert isinstance(data, FolderData) and (data.queries, data.train_queries) == (queries, min(queries, 5))


def test_both_spellings_of_an_option_mean_the_same() -> None:
    words = "--data d --ways 3 --min-images 4 --val 0.3 --split-seed 2 --training.lr 1"
    plain, rest = parse_wishes(words.split())
    dotted = "--data d --data.ways 3 --data.min_images 4 --data.val-fraction 0.3 --data.split-seed=2 --training.lr 1"
    assert parse_wishes(dotted.split()) == (plain, rest) and rest == ["--training.lr", "1"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--data", "nowhere"], "there is no folder nowhere; check the path"),
        (["--ways", "4"], "4-way tasks take 4 classes in each of train, val, test, 12 in all, and there are 9: "
                          "use --ways 3, or 3 more classes, or --val 0"),
        (["--shots", "4"], "class 'class0' has 4 images, and 4 shots and 1 query take 5; add 1"),
        (["--queries", "9"], "and 1 shot and 9 queries take 10; add 6"),
        (["--min-images", "5"], "use 9 more classes"),
        (["--ways", "1"], "--ways must be at least 2, got 1"),
        (["--size", "64"], "is 32x32 pixels, the model needs at least 64x64; use a larger image"),
        (["--training.steps", "0"], "training.steps must be at least 1, got 0"),
        (["--no-such-option"], "no-such-option"),
        (["--fit", "stretch"], "stretch"),
    ],
)  # fmt: skip
def test_a_mistake_gets_a_sentence_and_leaves_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    make_folder(here / "photos")
    assert main(["train", "--data", "photos", "--ways", "3", *words]) == 2
    err = " ".join(capsys.readouterr().err.split())
    assert says in err and "Traceback" not in err
    assert not (here / "runs").exists()


def test_an_option_with_a_mistake_is_told_before_the_images_are_read(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--data", "nowhere", "--training.steps", "0"]) == 2
    assert "training.steps must be at least 1" in " ".join(capsys.readouterr().err.split())


def test_images_in_two_classes_are_refused_by_name_whatever_their_parts(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder(here / "photos")
    put(here / "photos" / "class8" / "twin.png", (here / "photos" / "class1" / "2.png").read_bytes())
    assert train() == 2
    err = capsys.readouterr().err
    assert "one and the same image has 2 classes: photos/class1/2.png, photos/class8/twin.png" in err
    assert "--bad skip" in err and not (here / "runs").exists()


def test_neither_preset_nor_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--ways", "3"]) == 2
    assert "name a preset (fastadapt list shows them), or your own images with --data FOLDER" in capsys.readouterr().err


def test_help_tells_all_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--data", "photos", "--help"]) == 0
    out = capsys.readouterr().out
    for option in ("--ways", "--bad", "--min-images", "--training.steps", "--net.width", "--method.inner-lr", "--run"):
        assert option in out
    assert main(["train", "--help"]) == 0
    out = capsys.readouterr().out
    assert "fastadapt train --data FOLDER" in out and "maml-omniglot-5w1s" in out


@pytest.mark.long
def test_a_home_that_can_not_be_written_is_no_obstacle(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("FASTADAPT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(put(here / "home", b"")))  # a file: nothing can be made below it
    make_folder(here / "photos")
    assert train(steps=1, validate=0) == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_omniglot_as_a_plain_folder_trains_as_the_preset_does(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The classes, tasks and first weights are equal, so under the same budget the trained weights are too."""
    if not GIVEN:
        pytest.skip("needs the real Omniglot: set FASTADAPT_DATA to the folder that has it")
    monkeypatch.setenv("FASTADAPT_DATA", GIVEN)
    for name in ("images_background.zip", "images_evaluation.zip"):
        archive = next((f / name for f in data_folders("omniglot") if (f / name).is_file()), None)
        if archive is None:
            pytest.skip(f"needs the real Omniglot: FASTADAPT_DATA={GIVEN} does not have {name}")
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                if info.filename.endswith(".png"):
                    # one character has the same drawing twice, which a folder would use once: a byte tells them apart
                    twin = b"\0" if info.filename.endswith("Braille/character01/0192_19.png") else b""
                    put(here / "photos" / Path(*Path(info.filename).parts[1:]), opened.read(info) + twin)
    budget = [
        "--training.steps", "100", "--training.validate-every", "50", "--validation-tasks", "20",
        "--protocol.tasks", "100", "--threads", "1", "--method.compile", "off", "--method.route", "loop",
        "--quiet",
    ]  # fmt: skip
    as_preset = [
        "--ways", "5", "--shots", "1", "--queries", "1", "--size", "28", "--val", str(100 / 1623),
        "--test", str(423 / 1623), "--data.invert", "--data.rotation", "per_class", "--training.meta-batch", "32",
        "--protocol.ddof", "0",
    ]  # fmt: skip
    assert main(["train", "maml-omniglot-5w1s", *budget, "--run", "preset"]) == 0
    assert main(["train", "--data", "photos", *as_preset, *budget, "--run", "folder"]) == 0
    results = [json.loads((here / run / "evaluation.json").read_text()) for run in ("preset", "folder")]
    assert results[0]["mean"] == results[1]["mean"] and results[1]["mean"][3] > 0.6
    weights = [(here / run / "model" / "learner.safetensors").read_bytes() for run in ("preset", "folder")]
    assert weights[0] == weights[1]
