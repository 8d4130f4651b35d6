"""`fastadapt check`: all that is wrong with a folder in one pass, and what it is enough for."""

import json
import shlex
from pathlib import Path

import pytest

from drawn_folder import FILES, content, make_folder, picture, put, spoil
from fastadapt.cli import main
from fastadapt.runs.folder_run import parse_wishes, resolve


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTADAPT_CACHE", str(tmp_path / "cache"))
    return tmp_path


def checked(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(["check", *words])
    return code, capsys.readouterr().out


def test_a_good_folder_is_counted_and_told_what_it_is_enough_for(capsys: pytest.CaptureFixture[str]) -> None:
    make_folder(Path("photos"), classes=9, images=18)
    code, out = checked(capsys, "photos")
    assert code == 0
    assert out.splitlines()[0] == ("photos: 162 usable images of 9 classes, to be trained on at 28x28 pixels in grey")
    assert "      18  class4" in out.splitlines() and "problems" not in out
    assert "can be trained: up to 3 ways, up to 17 shots with 1 query, 3 with 15 for each class" in out
    command = shlex.split(out.splitlines()[-1])
    assert command[:2] == ["fastadapt", "train"]
    wishes, rest = parse_wishes(command[2:])
    assert (wishes.ways, wishes.shots, wishes.bad, rest) == (3, 1, "fail", [])


def test_everything_that_is_wrong_is_listed_in_one_pass(capsys: pytest.CaptureFixture[str]) -> None:
    spoil(make_folder(Path("photos")))
    code, out = checked(capsys, "photos")
    assert code == 1 and "problems, for which training refuses the folder (14):" in out
    for name, (*_, words) in FILES.items():
        assert words in out, name
    for words in ("leads back to itself", "leads nowhere", "back to a folder that it lies in", "has 2 classes",
                  "bare has no images", "lies beside the class folders"):  # fmt: skip
        assert words in out
    assert "copy.png is a copy of photos/class2/0.png; it is used once" in out
    assert out.splitlines()[-1].endswith("--bad skip")


def test_json_holds_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    spoil(make_folder(Path("photos")))
    code, out = checked(capsys, "photos", "--json")
    facts = json.loads(out)
    assert code == 1 and facts["ok"] is False and facts["folder"] == "photos"
    assert len(facts["problems"]) == 14 and facts["classes"]["class0"] == 10
    assert facts["images"] == sum(facts["classes"].values()) and (facts["size"], facts["channels"]) == (28, 3)
    kinds = {finding["path"]: finding["kind"] for finding in facts["problems"] + facts["notes"]}
    assert {f"class0/{name}": kind for name, (_, kind, *_) in FILES.items()}.items() <= kinds.items()
    assert facts["trainable"] == {"ways": 3, "shots with 1 query": 2, "shots with 15 queries": 0}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--ways", "4"], "4-way tasks take 4 classes in each of train, val, test, 12 in all, and there are 9"),
        (["--shots", "4"], "class 'class0' has 4 images, and 4 shots and 1 query take 5; add 1"),
        (["--size", "64"], "is 32x32 pixels, the model needs at least 64x64"),
        (["--min-images", "5"], "nothing can be trained: a task of 2 classes takes 6 classes in all"),
    ],
)
def test_what_is_wanted_is_checked(capsys: pytest.CaptureFixture[str], words: list[str], says: str) -> None:
    code, out = checked(capsys, *(str(make_folder(Path("photos"))), *words))
    assert code == 1 and says in out


def test_a_name_can_not_write_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    make_folder(Path("photos"))
    put(Path("photos", "a\x1b[31m\nb", "1.png"), content(picture(1)))
    _, out = checked(capsys, "photos")
    assert "\x1b" not in out and "a\\x1b[31m\\nb" in out


def test_no_folder_and_no_class_are_mistakes_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "nowhere"]) == 2
    assert "there is no folder nowhere; check the path" in capsys.readouterr().err
    put(Path("loose", "1.png"), content(picture(1)))
    assert main(["check", "loose"]) == 2
    assert "its images belong to no class" in capsys.readouterr().err


def bad_file(root: Path) -> None:
    put(root / "class0" / "9.png", b"")


def few_images(root: Path) -> None:
    for i in range(3):
        (root / "class0" / f"{i}.png").unlink()


def few_classes(root: Path) -> None:
    for c in range(4):
        (root / f"class{c}").rename(root.parent / f"gone{c}")


def noted(root: Path) -> None:
    put(root / "class0" / "größe.png", content(picture(1, mode="RGBA")))


@pytest.mark.parametrize("change", [bad_file, few_images, few_classes, noted, lambda root: None])
def test_training_refuses_what_check_refuses_and_takes_the_rest(
    here: Path, capsys: pytest.CaptureFixture[str], change: object
) -> None:
    root = make_folder(here / "photos")
    change(root)  # type: ignore[operator]
    code, _ = checked(capsys, "photos")
    wishes, _ = parse_wishes(["--data", "photos", "--ways", "2", "--shots", "1"])
    try:
        config, images = resolve(wishes, here / "runs" / "none")
        config.data.sealed(images)  # type: ignore[union-attr]
        refused = False
    except Exception as error:
        refused = type(error).__name__ == "DataError"
        assert refused, error
    assert refused == (code == 1) == (change not in (noted,) and getattr(change, "__name__", "") != "<lambda>")
