"""`fastadapt check` and `fastadapt train` agree on any folder, and the command that is printed works as printed."""

import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from drawn_folder import FILES, content, picture, put
from fastadapt.cli import main
from fastadapt.data.images.folder_settings import FolderData
from fastadapt.errors import FastadaptError
from fastadapt.runs.folder_run import parse_wishes, resolve, seal

SHORT = [
    "--net.width", "4", "--training.meta-batch", "1", "--training.steps", "1", "--training.validate-every", "0",
    "--protocol.tasks", "2", "--method.route", "loop", "--method.compile", "off", "--quiet",
]  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTADAPT_CACHE", str(tmp_path / "cache"))
    return tmp_path


# ---- folders at random: how classes lie, what spoils them, what is asked

PARTS = [
    ("train", "val", "test"),
    ("Training", "Validation", "Testing"),
    ("base", "dev", "novel"),
    ("train", "test"),
    ("images_background", "images_evaluation"),
    ("train", "valid"),
    ("set_train", "set_eval", "set_test"),
]


def plain(draw: random.Random, classes: list[str]) -> list[str]:
    return classes


def grouped(draw: random.Random, classes: list[str]) -> list[str]:
    return [f"{draw.choice(['Greek', 'Latin', 'train'])}/{name}" for name in classes]


def wrapped(draw: random.Random, classes: list[str]) -> list[str]:
    return [f"photos/{name}" for name in classes]


def divided(draw: random.Random, classes: list[str]) -> list[str]:
    parts = draw.choice(PARTS)
    return [f"{draw.choice(['', 'data/'])}{parts[i % len(parts)]}/{name}" for i, name in enumerate(classes)]


def repeated(draw: random.Random, classes: list[str]) -> list[str]:
    return [f"{part}/{name}" for part in draw.choice(PARTS) for name in classes]


def partly_repeated(draw: random.Random, classes: list[str]) -> list[str]:
    return [f"{part}/{name}" for part in draw.choice(PARTS) for name in classes if draw.random() < 0.7]


def class_first(draw: random.Random, classes: list[str]) -> list[str]:
    return [f"{name}/{part}" for part in draw.choice(PARTS) for name in classes]


def beside(draw: random.Random, classes: list[str]) -> list[str]:
    return [name if i % 3 else f"test/{name}" for i, name in enumerate(classes)]


LAYOUTS: list[Callable[[random.Random, list[str]], list[str]]] = [
    plain, plain, grouped, wrapped, divided, divided, repeated, partly_repeated, class_first, beside,
]  # fmt: skip


def generated(seed: int) -> list[str]:
    """Write a folder at random and return the words of the command line that go with it."""
    draw = random.Random(seed)
    classes = [f"c{i}" for i in range(draw.choice([3, 5, 6, 9, 12, 12, 16]))]
    root = Path(draw.choice(["photos", "my photos", "-photos", "ph'otos", "größe", "tab\there"]))
    root.mkdir()
    side, mode = draw.choice([20, 32, 40]), draw.choice(["L", "RGB"])
    usual = draw.choice([2, 3, 6, 6])
    for number, path in enumerate(draw.choice(LAYOUTS)(draw, classes)):
        for i in range(usual - (draw.random() < 0.03)):
            put(root / path / f"{i}.png", content(picture(1000 * number + i, side, draw.choice([side, 44]), mode)))
    folders = sorted({path.parent for path in root.rglob("*.png")})
    for _ in range(draw.choice([0, 0, 0, 0, 0, 0, 1, 3])):
        name = draw.choice([name for name in FILES if len(name) < 100])
        put(draw.choice(folders) / name, FILES[name][0]())
    if draw.random() < 0.1:
        put(root / "loose.png", content(picture(1)))
    if draw.random() < 0.1:
        put(folders[-1] / "twin.png", next(folders[0].glob("*.png")).read_bytes())
    if draw.random() < 0.15:
        lines = [f"{folder.relative_to(root).as_posix()},{draw.choice(['train', 'val', 'test'])}" for folder in folders]
        put(root / "split.csv", "\n".join(["class,split", *lines]).encode())
    options = {
        "--ways": ["2", "3", "5"], "--shots": ["1", "2", "5"], "--queries": ["1", "4"], "--size": ["28", "36"],
        "--fit": ["pad", "crop", "refuse"], "--min-images": ["2", "5"], "--val": ["0", "0.3"], "--test": ["0.4"],
        "--bad": ["skip", "skip"], "--split": ["auto", "random", "folders"], "--split-seed": ["3"], "--channels": ["1"],
    }  # fmt: skip
    words = [word for name, values in options.items() if draw.random() < 0.12 for word in (name, draw.choice(values))]
    return [f"./{root}", *words]


def typed(line: str) -> list[str]:
    """Return the words that a shell makes of a line."""
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], check=True, capture_output=True)
    return [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]]


def train_takes(words: list[str], run: Path) -> FolderData | str:
    """Return what training would be done on, or why it is refused."""
    wishes, rest = parse_wishes(words)
    assert rest == []
    try:
        config, images = resolve(wishes, run)
        data = seal(config, images, run).data
    except FastadaptError as error:
        return str(error)
    assert isinstance(data, FolderData)
    return data


def agree(seed: int, capsys: pytest.CaptureFixture[str], *, train: bool) -> bool:
    """Hold both commands to each other and return whether something could be trained."""
    folder, *options = generated(seed)
    code = main(["check", folder, *options])
    out = capsys.readouterr().out
    taken = train_takes(["--data", folder, *options], Path("runs/none"))
    assert (code == 0) == isinstance(taken, FolderData), (seed, folder, options, out, taken)
    if isinstance(taken, FolderData):
        sides = [set(names) for names in taken.split.values()]
        assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
        tails = [{name.rsplit("/", 1)[-1] for name in side} for side in sides]
        if taken.split_by:
            assert not tails[0] & tails[2], (seed, taken.split)
    last = out.splitlines()[-1] if out else ""
    if "fastadapt train" not in last:
        assert code != 0 and ("nothing can be trained" in last or not out)
        return False
    command = typed(last)
    assert isinstance(train_takes(command[2:], Path("runs/none")), FolderData), (seed, last)
    if train:
        assert main([*command[1:], *SHORT]) == 0
    return True


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.long
def test_check_and_train_agree(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    agree(seed, capsys, train=seed < 2)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(20, 220))
def test_check_and_train_agree_on_many_folders(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    agree(seed, capsys, train=seed % 10 == 0)
