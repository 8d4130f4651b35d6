"""Splits that the user made: a column, a file; what is on two sides is never trained on and tested."""

import json

import pytest

from fastadapt.data import prepare_table
from fastadapt.data.tables.csv_rows import read_rows
from fastadapt.data.tables.given_split import PARTS, read_sides, split_column
from fastadapt.data.tables.rows import Rows
from fastadapt.errors import ConfigError, DataError
from tables import regression, write

SIDES = {**{f"t{i}": "train" for i in range(8)}, "t8": "val", "t9": "val", **{f"t{i}": "test" for i in range(10, 14)}}
WANTED = {part: tuple(sorted(n for n, p in SIDES.items() if p == part)) for part in ("train", "val", "test")}


@pytest.fixture
def table(tmp_path):
    return regression(tmp_path / "t.csv")


def with_column(table, side, name="split"):
    rows = read_rows(table)
    return write(table, (*rows.header, name), [[*row, side(row[0], i)] for i, row in enumerate(rows.cells)])


def prepared(table, **settings):
    return prepare_table(table, task="group", target="y", shots=(5,), **settings)


def parts(made):
    split = made.loaded.split
    return {"train": split.train, "val": split.val, "test": split.test}


@pytest.mark.parametrize("split", ["auto", "column", "split"])
def test_a_column_tells_the_sides(table, split):
    made = prepared(with_column(table, lambda name, i: SIDES[name]), split=split)
    assert parts(made) == WANTED and made.data.split == "column split"
    assert "the tasks are split as column split says" in made.notes
    assert made.left_out == {"split": "it tells the sides of a split"}
    assert "split" not in {column.name for column in made.data.preparation.columns}
    assert parts_of(made.data.load(table)) == WANTED


def parts_of(loaded):
    return {"train": loaded.split.train, "val": loaded.split.val, "test": loaded.split.test}


@pytest.mark.parametrize("name", ["Split", "set", "fold", "subset", "PARTITION", "data_split"])
@pytest.mark.parametrize("words", [("TRAIN", "Valid", "Test"), ("training", "dev", "holdout"), ("tr", "val", "te")])
def test_columns_of_many_names(name, words):
    cells = [["a", words[0]], ["b", words[1]], ["c", words[2]]]
    assert split_column(Rows("t.csv", ("shop", name), cells, [2, 3, 4])) == name
    assert split_column(Rows("t.csv", ("shop", name), [*cells, ["d", "blue"]], [2, 3, 4, 5])) is None
    assert split_column(Rows("t.csv", ("shop", "colour"), cells, [2, 3, 4])) is None


def test_random_leaves_the_column_and_says_that_it_is_no_input(table):
    before = parts(prepared(table))
    made = prepared(with_column(table, lambda name, i: SIDES[name]), split="random")
    assert parts(made) == before and made.data.split == ""
    assert made.left_out == {"split": "it tells the sides of a split"}


def test_rows_are_not_split(table):
    mixed = with_column(table, lambda name, i: "test" if i % 5 == 0 else "train")
    with pytest.raises(
        DataError, match=r"14 tasks are on two sides of 'split', such as 't0': test \(line 2\) and train"
    ):
        prepared(mixed)
    with pytest.raises(DataError, match="give every task one side, or --split random"):
        prepared(mixed, split="column")
    one = with_column(regression(table), lambda name, i: "test" if i == 7 else SIDES[name])
    with pytest.raises(DataError, match="1 tasks are on two sides of 'split', such as 't0': train"):
        prepared(one)
    assert prepared(one, split="random").data.split == ""


def test_where_nothing_validates_training_tasks_do_and_it_is_said(table):
    made = prepared(with_column(table, lambda name, i: SIDES[name].replace("val", "train")))
    split = made.loaded.split
    assert split.test == WANTED["test"] and len(split.val) == 2 and len(split.train) == 8
    assert "column split names no tasks that validate: 2 of the training tasks do" in made.notes
    assert parts(prepared(table)) == parts(made)


@pytest.mark.parametrize(
    ("side", "says"),
    [
        (lambda name, i: "train", "by column split 0 tasks with 10 rows are for test; 1 are needed"),
        (
            lambda name, i: "blue" if name == "t3" else SIDES[name],
            "'blue' in column 'split' is none of train, val or test",
        ),
        (lambda name, i: "" if name == "t3" else SIDES[name], "'' in column 'split' is none of"),
    ],
)
def test_a_column_that_can_not_be_used(table, side, says):
    with pytest.raises(DataError, match=says):
        prepared(with_column(table, side), split="split")


def test_a_column_is_asked_for_and_there_is_none(table):
    with pytest.raises(DataError, match="has no column of train, val and test that is named split, set"):
        prepared(table, split="column")
    with pytest.raises(DataError, match="there is no such file"):
        prepared(table, split="nowhere.txt")
    with pytest.raises(ConfigError, match="--val-tasks and --test-tasks divide at random, and the split is that of"):
        prepared(with_column(table, lambda name, i: SIDES[name]), test=3)


FORMS = {
    "json": json.dumps({"seed": 3, **WANTED}),
    "other words": json.dumps({"training": WANTED["train"], "Valid": WANTED["val"], "holdout": WANTED["test"]}),
    "csv": "\n".join(["task,split", *(f"{name},{part}" for name, part in SIDES.items())]),
    "no header": "\n".join(f"{name}; {part}" for name, part in SIDES.items()),
    "side first": "\n".join(["# mine", *(f"{part.upper()}\t{name}" for name, part in SIDES.items())]),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_file_of_names(table, tmp_path, form):
    path = tmp_path / "sides.txt"
    path.write_text(FORMS[form])
    made = prepared(table, split=str(path))
    assert parts(made) == WANTED and made.data.split == "file sides.txt"
    assert "the tasks are split as file sides.txt says" in made.notes
    path.unlink()
    assert parts_of(made.data.load(table)) == WANTED  # it is recorded


def test_the_split_of_a_run_is_taken_for_another(table, tmp_path):
    from fastadapt.data.tables.table import write_split

    first = prepared(table, split_seed=7)
    write_split(tmp_path / "split.json", first.loaded.split, {"file": "t.csv"})
    assert parts(prepared(table, split=str(tmp_path / "split.json"))) == parts(first)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("t0,train\nt1,train\nt0,test\n", "has 't0' as train and as test; give it one side"),
        ('{"train": ["t0"], "test": "t1"}', "'test' is no list of names"),
        ('{"train": ["t0"]', "is not valid JSON"),
        ("t0,train\nt1\n", "line 2 is no name with its side"),
        ("t0,train\nt1,blue\n", "'blue' is none of train, val or test"),
        ("t0,train,1\n", "line 1 is no name with its side"),
    ],
)
def test_files_that_can_not_be_used(tmp_path, content, says):
    (tmp_path / "sides").write_text(content)
    with pytest.raises(DataError, match=says):
        read_sides(tmp_path / "sides")


def test_names_that_are_no_tasks_and_tasks_without_a_name(table, tmp_path):
    path = tmp_path / "sides.csv"
    path.write_text(FORMS["no header"] + "\nt99;test\n")
    with pytest.raises(DataError, match=r"file sides.csv has 1 names that are no tasks of the table \(t99\)"):
        prepared(table, split=str(path))
    path.write_text("\n".join(f"{name},{part}" for name, part in SIDES.items() if name != "t3"))
    made = prepared(table, split=str(path))
    assert "t3" not in made.loaded.split.train
    assert "1 tasks that file sides.csv does not name are left out: t3" in made.notes


def test_every_word_has_one_side():
    assert set(PARTS.values()) == {"train", "val", "test"}
