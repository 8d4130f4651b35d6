"""`evaluate --out` names what every task was made of, and a data set is told by what it says."""

import hashlib
import json
import os
import shutil

import pytest

from drawn_folder import content, make_folder, picture, put
from fastadapt import load_run
from fastadapt.cli import main
from fastadapt.data.tables.content import same_table
from fastadapt.data.tables.csv_rows import read_rows
from fastadapt.errors import DataError
from fastadapt.runs.run_files import read_config
from tables import classification, regression

IMAGES = [
    "--ways", "3", "--shots", "1", "--net.width", "4", "--training.meta-batch", "2", "--training.steps", "2",
    "--training.validate-every", "2", "--protocol.tasks", "4", "--protocol.steps", "3", "--validation-tasks", "2",
    "--method.route", "loop", "--quiet",
]  # fmt: skip
TABLE = ["--training.steps", "5", "--training.meta-batch", "2", "--hidden", "4", "--draws", "1", "--quiet"]
TABLE += ["--baselines", "none", "--task-column", "group", "--shots", "3"]


def train(home, *words):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("FASTADAPT_CACHE", str(home / "cache"))
        assert main(["train", *words]) == 0


@pytest.fixture(scope="module")
def amounts(tmp_path_factory):
    """Train one small run once, on a table of amounts."""
    home = tmp_path_factory.mktemp("runs")
    regression(home / "y.csv", tasks=8, size=20)
    train(home, "--data", "y.csv", "--target", "y", *TABLE)
    return home


@pytest.fixture(scope="module")
def trained(amounts):
    """Train two more, on a folder and on a table of labels."""
    make_folder(amounts / "photos", classes=9, images=6)
    train(amounts, "--data", "photos", *IMAGES)
    classification(amounts / "label.csv", tasks=8, size=20)
    train(amounts, "--data", "label.csv", "--target", "label", *TABLE)
    return amounts


@pytest.fixture
def home(amounts, tmp_path, monkeypatch):
    shutil.copytree(amounts, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    monkeypatch.setenv("FASTADAPT_CACHE", str(tmp_path / "home" / "cache"))
    return tmp_path / "home"


@pytest.fixture
def here(trained, home):
    """Stand beside all three; made before the copy, for fixtures of a module come first."""
    return home


@pytest.mark.long
def test_every_task_of_images_can_be_looked_at(here, capsys):
    words = ["evaluate", "runs/maml-photos-3w1s", "--tasks", "15", "--out", "result.json", "--json", "--after", "0"]
    assert main(words) == 0
    printed, record = json.loads(capsys.readouterr().out), json.loads((here / "result.json").read_text())
    assert "tasks" not in printed and "per_task" not in printed
    test = read_config(here / "runs" / "maml-photos-3w1s").data.split["test"]
    assert [task["task"] for task in record["tasks"]] == list(range(15))
    for task, row in zip(record["tasks"], record["per_task"], strict=True):
        assert len(task["support"]) == 3 and len(task["query"]) == 15
        for file, truth in zip(task["query"], task["truth"], strict=True):
            assert (here / "photos" / file).is_file() and file.startswith(f"{truth}/") and truth in test
        assert not set(task["support"]) & set(task["query"])
        right = [a == b for a, b in zip(task["answer"], task["truth"], strict=True)]
        assert sum(right) / 15 == pytest.approx(task["accuracy"]) == pytest.approx(row[-1])
        assert all(1 / 3 <= p <= 1 for p in task["probability"])
    scores = [record["tasks"][number]["accuracy"] for number in record["worst_tasks"]]
    assert len(scores) == 10 and scores == sorted(scores)
    assert max(scores) <= min(t["accuracy"] for t in record["tasks"] if t["task"] not in record["worst_tasks"])


@pytest.mark.long
def test_the_report_draws_them(here, capsys):
    assert main(["report", "runs/maml-photos-3w1s"]) == 0
    assert "worst.png" in capsys.readouterr().out
    assert (here / "runs" / "maml-photos-3w1s" / "report" / "worst.png").stat().st_size > 5000


@pytest.mark.long
@pytest.mark.parametrize("target", ["y", "label"])
def test_the_rows_and_answers_of_a_table_can_be_looked_at(here, target, capsys):
    run = f"runs/maml-{target}"
    assert main(["evaluate", run, "--data", f"{target}.csv", "--out", "result.json"]) == 0
    said, record = capsys.readouterr().out, json.loads((here / "result.json").read_text())
    rows = read_rows(here / f"{target}.csv")
    column, groups = rows.column(target), rows.column("group")
    held_out = json.loads((here / run / "split.json").read_text())["test"]
    assert [task["task"] for task in record["tasks"]] == held_out
    for task, row in zip(record["tasks"], record["per_task"], strict=True):
        assert task[record["metric"]] == row[-1] and len(task["draws"]) == 5
        for draw in task["draws"]:
            assert {groups[number - 1] for number in (*draw["support"], *draw["query"])} == {task["task"]}
            truth = [column[number - 1] for number in draw["query"]]
            if target == "label":
                assert draw["truth"] == truth and set(draw["answer"]) <= {"low", "middle", "high"}
            else:
                assert draw["truth"] == pytest.approx([float(value) for value in truth], abs=1e-3)
    assert set(record["worst_tasks"]) <= set(held_out)
    if target == "label":
        assert record["by_class"]["labels"] == ["high", "low", "middle"]
        assert "class low: " in said and "balanced accuracy" in said


FORMS = {
    "carriage returns": lambda text: text.replace("\n", "\r\n").encode(),
    "the old Mac's": lambda text: text.replace("\n", "\r").encode(),
    "no last line end": lambda text: text.rstrip("\n").encode(),
    "a mark": lambda text: text.encode("utf-8-sig"),
    "a mark and carriage returns": lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16 with carriage returns": lambda text: text.replace("\n", "\r\n").encode("utf-16"),
    "empty lines at the end": lambda text: (text + "\n\n").encode(),
}
OTHERS = {
    "a cell": lambda text: text.replace("red", "rose", 1),
    "a digit": lambda text: text.replace("9", "8", 1),
    "a row less": lambda text: "".join([*text.splitlines(keepends=True)[:-1]]),
    "rows in another order": lambda text: "".join(
        [*text.splitlines(keepends=True)[:1], *text.splitlines(keepends=True)[:0:-1]]
    ),
    "an empty line within": lambda text: text.replace("\n", "\n\n", 1),
    "a blank": lambda text: text.replace(",", ", ", 1),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_table_written_anew_by_another_program_is_the_same_one(home, name):
    text = (home / "y.csv").read_text()
    (home / "y.csv").write_bytes(FORMS[name](text))
    data = load_run(home / "runs" / "maml-y").config.data
    assert len(data.load(home / "y.csv").x) == 160


@pytest.mark.parametrize("name", OTHERS)
def test_a_table_that_says_something_else_is_another_one(home, name):
    data, text = load_run(home / "runs" / "maml-y").config.data, (home / "y.csv").read_text()
    assert OTHERS[name](text) != text
    (home / "y.csv").write_text(OTHERS[name](text))
    with pytest.raises(DataError, match=r"is not the y.csv that this run was trained on"):
        data.load(home / "y.csv")


def test_any_bytes_can_be_asked_about(tmp_path):
    for given in (b"", b"\xff\xfe\x00", b"\xff\xfe\x00\xd8\x00", b"caf\xe9,1\r\n", b"\x00\xff"):
        put(tmp_path / "t.csv", given)
        assert not same_table(tmp_path / "t.csv", "0" * 64)
    assert same_table(put(tmp_path / "t.csv", b"caf\xe9,1\r\n"), hashlib.sha256(b"caf\xe9,1\n").hexdigest())


@pytest.mark.long
def test_a_run_goes_on_with_such_a_table(here):
    before = (here / "runs" / "maml-y" / "config.json").read_text()
    (here / "y.csv").write_bytes(FORMS["carriage returns"]((here / "y.csv").read_text()))
    assert main(["train", "--data", "y.csv", "--target", "y", *TABLE]) == 0
    assert (here / "runs" / "maml-y" / "config.json").read_text() == before


@pytest.mark.long
def test_what_changes_no_image_is_no_change(here, caplog):
    photos = here / "photos"
    os.utime(photos / "class0" / "0.png", (1, 1))  # another time
    (photos / "class0" / "1.png").write_bytes((photos / "class0" / "1.png").read_bytes())  # written again
    (photos / "class0" / "2.png").rename(photos / "class0" / "2a.png")  # another name at the same place
    put(photos / ".DS_Store", b"x")
    (photos / "class1" / "copy.png").write_bytes((photos / "class1" / "0.png").read_bytes())  # counts once
    photos.rename(here / "moved")
    evaluate = ["evaluate", "runs/maml-photos-3w1s", "--tasks", "2", "--data", "moved"]
    assert main(evaluate) == 0
    assert "no longer has" not in caplog.text and "does not know" not in caplog.text

    put(here / "moved" / "new" / "0.png", content(picture(97)))
    assert main(evaluate) == 0
    assert "1 class that this run does not know and leaves out ('new')" in caplog.text
    assert "no longer has" not in caplog.text

    put(here / "moved" / "class0" / "0.png", content(picture(98)))
    assert main(evaluate) == 0
    assert "moved no longer has the images that this run was trained on" in caplog.text
