"""`fastadapt check TABLE`: what is shown of each column, and the verdict that training has too."""

import json
import shlex

import pytest

from fastadapt.cli import main
from fastadapt.commands.train_table import TableSettings
from fastadapt.data.tables.csv_rows import read_rows
from tables import classification, regression, write


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def table(here):
    """Write a table of many kinds of columns."""
    rows = read_rows(regression(here / "t.csv"))
    made = []
    for i, (group, x, colour, y) in enumerate(rows.cells):
        price, sold = f'"${1000 + 7 * i:,}"', ("yes", "no")[i % 2]
        made.append((i, group, x, colour, price, f"2024-03-{i % 28 + 1:02d}", sold, f"{i % 40}%", "", y))
    return write(here / "t.csv", ("", "group", "x", "colour", "price", "day", "sold", "share", "nothing", "y"), made)


def columns(capsys):
    return {facts["name"]: facts for facts in json.loads(capsys.readouterr().out)["columns"]}


def test_each_column_is_shown_as_it_is_understood(table, capsys):
    assert main(["check", "t.csv"]) == 0
    said = capsys.readouterr().out
    assert "t.csv: 280 rows, 10 columns" in said
    assert "  group: 14 categories: 't0' (20), 't1' (20)" in said and "and 6 more" in said
    assert "  price: numbers written as 1,234.5 in $, 1000 to 2953, such as $1,000, $1,007, $1,014" in said
    assert "  day: dates written as 2024-03-31, 2024-03-01 00:00:00 to 2024-03-28 00:00:00, such as 2024-03-01" in said
    assert "  sold: 2 categories: 'yes' (140), 'no' (140)" in said
    assert "  share: numbers written as 1234.5 in %, 0 to 39" in said
    assert "  nothing: empty" in said and "  column 1: numbers" in said
    assert "column 'price': '$1,000' is read as 1000, since column 'x' has a decimal point" in said
    missing = sum(not cell for cell in read_rows(table).column("x"))
    assert f"such as 7.162, 6.082, 1.536; {missing} missing" in said or f"; {missing} missing" in said
    assert "fastadapt check t.csv --task-column NAME --target NAME" in said


def test_the_same_as_json(table, capsys):
    assert main(["check", "t.csv", "--json"]) == 0
    found = columns(capsys)
    assert found["price"] == {
        "name": "price",
        "kind": "number",
        "written": "1,234.5 in $",
        "low": "1000",
        "high": "2953",
        "examples": ["$1,000", "$1,007", "$1,014"],
        "missing": 0,
        "values": 280,
        "counts": {},
        "problems": [],
        "notes": ["column 'price': '$1,000' is read as 1000, since column 'x' has a decimal point"],
    }
    assert found["sold"]["counts"] == {"yes": 140, "no": 140} and found["nothing"]["missing"] == 280


def test_what_it_prints_is_what_trains(table, capsys):
    words = [
        "--task-column",
        "group",
        "--target",
        "y",
        "--shots",
        "3",
        "--ignore",
        "nothing",
        "day",
        "--split-seed",
        "2",
    ]
    assert main(["check", "t.csv", *words]) == 0
    said = capsys.readouterr().out
    assert "can be trained on: 9 tasks train, 2 validate, 3 test" in said
    assert "column 1 (left out: it has no name in the header" in said and "day (left out: --ignore)" in said
    command = shlex.split(said.strip().splitlines()[-1])
    assert command[:4] == ["fastadapt", "train", "--data", "t.csv"]
    import tyro

    asked = tyro.cli(TableSettings, args=command[2:])
    assert asked.shots == (3,) and asked.ignore == ("nothing", "day") and asked.split_seed == 2


def test_labels_are_shown_as_labels(here, capsys):
    rows = read_rows(classification(here / "c.csv"))
    write(here / "c.csv", rows.header, [[*row[:3], row[3].replace("low", "none")] for row in rows.cells])
    assert main(["check", "c.csv", "--task-column", "group", "--target", "label"]) == 0
    said = capsys.readouterr().out
    assert "  label (the target): 3 labels: 'high' (" in said and "target: 3 labels" in said
    assert "the target 'label': 'none' (" in said


@pytest.mark.parametrize(
    ("spoil", "words", "says"),
    [
        (
            lambda row: [*row[:3], row[3].replace(".", ",")] if row[0] == "t1" else row,
            [],
            "in column 'y' is not a number",
        ),
        (
            lambda row: ["" if row[0] == "t1" else row[0], *row[1:]],
            [],
            "the task 'group' is missing (and in 19 further",
        ),
        (lambda row: [*row[:3], ""] if row[1] == "" else row, [], "the target 'y' is missing"),
        (lambda row: row, ["--shots", "40"], "0 of 14 tasks have the 45 rows that are needed"),
        (lambda row: row, ["--ignore", "z"], "has no column 'z'"),
        (lambda row: row, ["--split", "column"], "has no column of train, val and test"),
        (lambda row: row, ["--test-tasks", "13"], "and 2 must be left to train on"),
        (lambda row: [row[0], f"{row[1]}*", *row[2:]], [], "looks like numbers in a notation that is not known"),
        (lambda row: [row[0], "03/04/2024", *row[2:]], [], "has day and month in either order"),
    ],
)
def test_it_refuses_what_training_refuses(here, capsys, spoil, words, says):
    rows = read_rows(regression(here / "t.csv"))
    write(here / "t.csv", rows.header, [[f'"{cell}"' for cell in spoil(row)] for row in rows.cells])
    asked = ["--task-column", "group", "--target", "y", *words]
    assert main(["check", "t.csv", *asked]) == 1
    said = capsys.readouterr().out
    assert "problems, for which training refuses the table" in said and says in said
    assert said.rstrip().endswith("can't be trained on as it is")
    assert main(["train", "--data", "t.csv", *asked, "--quiet"]) == 2
    assert says in capsys.readouterr().err
    assert main(["check", "t.csv", *asked, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_a_problem_of_one_column_is_shown_without_task_and_target(here, capsys):
    write(here / "t.tsv", ("a", "b"), [("7,602", "x"), ("1,388", "y")], delimiter="\t")
    assert main(["check", "t.tsv"]) == 1
    said = capsys.readouterr().out
    assert "  a: not understood, such as '7,602', '1,388'" in said and "say --decimal point or --decimal comma" in said
    assert main(["check", "t.tsv", "--decimal", "comma"]) == 0
    assert "a: numbers written as 1234,5, 1.388 to 7.602" in capsys.readouterr().out
    assert main(["check", "t.tsv", "--ignore", "a"]) == 0
    assert main(["check", "t.tsv", "--categorical", "a"]) == 0
    assert "a: 2 categories" in capsys.readouterr().out


def test_a_file_that_can_not_be_read(here, capsys):
    assert main(["check", "none.csv"]) == 2
    assert "there is no such file" in capsys.readouterr().err
    (here / "t.csv").write_bytes(b"a,b\n1,\xfc\n")
    assert main(["check", "t.csv"]) == 2
    assert "name its --encoding" in capsys.readouterr().err
    assert main(["check", "t.csv", "--encoding", "cp1252"]) == 0


def test_a_workbook_is_checked_too(here, capsys):
    book = pytest.importorskip("openpyxl").Workbook()
    for row in (("shop", "price"), ("a", 1.5), ("b", 2.5)):
        book.active.append(row)
    book.save("t.xlsx")
    assert main(["check", "t.xlsx"]) == 0
    assert "price: numbers written as 1234.5, 1.5 to 2.5" in capsys.readouterr().out
