"""What a column is taken for: nothing that looks like a number becomes a category or a label without a word."""

import pytest

from fastadapt.data.tables.fit_columns import Reading, fit_preparation
from fastadapt.data.tables.rows import Rows
from fastadapt.errors import DataError


def table(cells, name="c", targets=None, tasks=None):
    n = len(cells)
    targets = targets or [f"{i}.5" for i in range(n)]
    tasks = tasks or [f"g{i % 2}" for i in range(n)]
    lines = [[g, cell, f"{i}.25", y] for i, (g, cell, y) in enumerate(zip(tasks, cells, targets, strict=True))]
    return Rows("t.csv", ("g", name, "x", "y"), lines, list(range(2, n + 2)))


def fit(cells, **settings):
    """Fit with the same cells in two tasks."""
    tasks = [f"g{i // len(cells)}" for i in range(2 * len(cells))]
    return fit_preparation(table(cells * 2, tasks=tasks), range(2 * len(cells)), task="g", target="y", **settings)


def kinds(fitted):
    return {column.name: column.holds for column in fitted.preparation.columns}


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        (["5-", "7-", "9", "5-"], "looks like numbers in a notation that is not known ('5-' in line 2)"),
        (["1_000", "2_000", "1_500", "3_000"], "looks like numbers in a notation that is not known"),
        (["<5", "<5", "~7", "9"], "notation that is not known"),
        (["12*", "13", "14*", "15*"], "notation that is not known"),
        (["#1", "#2", "#1", "#2"], "notation that is not known"),
        (["½", "½", "¼", "¾"], "notation that is not known"),
        (["1?234", "2?345", "3?456", "4?567"], "notation that is not known"),
        (["1.2.3", "1.2.4", "1.2.3", "1.2.4"], "'1.2.3' in column 'c' is a number in no known notation"),
        (["1", "2", "x", "3"], "column 'c' holds numbers, but text in 2 of 8 rows ('x' in line 4)"),
        (["1,5", "2,5", "3.5", "4,5"], "no one notation reads both"),
        (["$5", "€5", "$6", "€6"], "numbers in different units"),
        (["1.5k", "2", "900", "1000"], "holds numbers, but text in 2 of 8 rows ('1.5k' in line 2)"),
    ],
)
def test_numbers_in_another_notation_are_refused_with_column_and_cell(cells, says):
    with pytest.raises(DataError) as caught:
        fit(cells)
    assert says in str(caught.value) and "--categorical c" in str(caught.value)
    assert kinds(fit(cells, categorical=["c"]))["c"] == "category"


@pytest.mark.parametrize(
    "cells",
    [
        ["red", "red", "blue", "blue"],
        ["Q1", "Q1", "Q2", "Q2"],
        ["10-20", "20-30", "10-20", "20-30"],
        ["A1", "A1", "B2", "B2"],
        ["3rd", "3rd", "1st", "1st"],
        ["x/y", "x/y", "1/2", "1/2"],
        ["true", "true", "false", "false"],
    ],
)
def test_words_are_categories(cells):
    fitted = fit(cells)
    assert fitted.notes == () and kinds(fitted)["c"] == "category"


def test_numbers_among_words_are_spoken_of():
    [note] = fit(["1", "2", "a", "b"]).notes
    assert note == "column 'c' is taken for categories, and 4 of 8 cells are numbers ('1' in line 2)"
    [note] = fit(["1.5k", "2M", "3k", "4k"]).notes
    assert "taken for 4 categories, though every cell is a number with a word ('1.5k', '2M', '3k')" in note
    [note] = fit(["5 pieces", "6 pieces", "7 pieces", "8 pieces"] * 2).notes
    assert "every cell is a number with a word ('5 pieces', '6 pieces', '7 pieces')" in note
    for what, cells in (
        ("a number behind a word", ["z? 95\u00a0407,7", "z? 123\u00a0578,4", "z? 5,1", "z? 7,25"]),
        ("a number behind a word", ["about 1.5", "about 2.5", "nearly 3.5", "about 4.5"]),
        ("a fraction", ["1/2", "3/8", "1 1/4", "5/16"]),
        ("a range", ["0-10", "10-20", "20 to 30", "30–40"]),
        ("a length of time", ["90:10", "25:10", "61:00", "99:59"]),
        ("a length of time", ["1h 30m", "2h 5m", "0h 10m", "3h 1m"]),
    ):
        [note] = fit(cells).notes
        assert f"taken for 4 categories, though every cell is {what} (" in note
    assert fit(["room 1", "room 2", "room 3", "room 4"]).notes == ()


def test_codes_are_spoken_of():
    [note] = fit(["01234", "98765", "01234", "98765"]).notes
    assert note == "column 'c' is read as numbers, though '01234' has a leading zero; --categorical takes codes"


def test_one_word_in_two_spellings_is_one_category():
    fitted = fit(["TRUE", "True", "false", "False", "true", "FALSE"])
    assert (
        fitted.preparation.columns[0].categories == ("FALSE", "TRUE")
        and "column 'c': 'True' is taken for 'TRUE'" in fitted.notes
    )
    fitted = fit(["1", "1.0", "2", "2.0", "3", "3"], categorical=["c"])
    assert (
        fitted.preparation.columns[0].categories == ("1", "2", "3")
        and "column 'c': '1.0' is taken for '1'" in fitted.notes
    )
    fitted = fit(["red", "red", "Red", "Red"])
    assert fitted.notes == (
        "column 'c': 'Red' and 'red' differ in case alone; they are different categories; write them alike if they are "
        "one",
    )


def test_a_known_category_is_found_in_another_spelling():
    prepared = fit(["1", "1", "2", "2"], categorical=["c"]).preparation
    x = prepared.features(table(["1.0", "2", "01", "3"]))
    assert x[:, :3].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]]
    prepared = fit(["yes", "yes", "no", "no"]).preparation
    assert prepared.features(table(["Yes", "NO", "true", "maybe"]))[:, :3].argmax(1).tolist() == [1, 0, 1, 2]


@pytest.mark.parametrize("word", ["none", "NONE", "null", "-", "nil", "missing"])
def test_a_word_for_missing_may_be_a_label(word):
    rows = table([str(i) for i in range(8)], targets=["some", word] * 4)
    fitted = fit_preparation(rows, range(8), task="g", target="y")
    assert fitted.preparation.labels == tuple(sorted(("some", word)))
    [note] = [note for note in fitted.notes if "label" in note]
    assert note.startswith(f"the target 'y': {word!r} (4 rows) is taken for a label")
    assert fitted.preparation.samples(rows)[1].tolist() == [sorted(("some", word)).index(w) for w in ["some", word] * 4]


@pytest.mark.parametrize("word", ["NA", "?", "NaN", "n/a", ""])
def test_a_label_that_is_missing_is_told_once(word):
    rows = table([str(i) for i in range(40)], targets=["a", word, "b", word] * 10)
    prepared = fit_preparation(rows, range(40), task="g", target="y").preparation
    assert prepared.labels == ("a", "b")
    with pytest.raises(DataError, match=r"line 3: the target 'y' is missing.*and in 19 further lines") as caught:
        prepared.samples(rows)
    assert "\n" not in str(caught.value)


def test_none_beside_numbers_is_missing():
    rows = table([str(i) for i in range(40)], targets=[f"{i}.5" if i % 4 else "none" for i in range(40)])
    prepared = fit_preparation(rows, range(40), task="g", target="y").preparation
    with pytest.raises(DataError, match=r"the target 'y' is missing, as 'none' says \(and in 9 further lines\)"):
        prepared.samples(rows)


def test_words_for_missing_are_chosen():
    cells = ["NA", "DE", "NA", "DE", "FR", "FR"]
    fitted = fit(cells)
    assert fitted.notes == ("column 'c': 'NA' (4) counts as missing; give --missing to take words for what they are",)
    assert fitted.preparation.columns[0].categories == ("DE", "FR") and fitted.preparation.columns[0].missing
    fitted = fit(cells, reading=Reading(words=()))
    assert fitted.notes == () and fitted.preparation.columns[0].categories == ("DE", "FR", "NA")
    assert fitted.preparation.features(table(cells))[:, 2].tolist() == [1, 0, 1, 0, 0, 0]
    numbers = fit(["-999", "5", "7", "-999"], reading=Reading(words=("-999",)))
    column = numbers.preparation.columns[0]
    assert (column.mean, column.low, column.missing) == (6.0, 5.0, True)
    assert numbers.preparation.features(table(["-999", "6", "7", "5"]))[:, 1].tolist() == [1, 0, 0, 0]
    with pytest.raises(DataError, match="'NA' in column 'c' is not a number"):
        numbers.preparation.features(table(["NA", "6", "7", "5"]))


@pytest.mark.parametrize(
    "targets", [["$850", "$1,200", "$1,250"], ["10%", "20%"], ["5 kg", "6 kg"], ["1,5", "2,5"], ["1e3", "2e3"]]
)
def test_few_amounts_are_no_labels(targets):
    rows = Rows(
        "t.csv", ("g", "x", "y"),
        [[f"g{i % 2}", f"{i}.25", targets[i % len(targets)]] for i in range(60)], list(range(2, 62)),
    )  # fmt: skip
    prepared = fit_preparation(rows, range(60), task="g", target="y").preparation
    assert prepared.labels == () and prepared.std > 0
    y = prepared.samples(rows)[1]
    assert float(y.mean()) == pytest.approx(0, abs=1e-5)


def test_a_column_without_a_name_is_no_input():
    rows = Rows(
        "t.csv",
        ("column 1", "g", "x", "y"),
        [[str(i), f"g{i % 2}", f"{i}.5", f"{i}.25"] for i in range(6)],
        list(range(6)),
    )
    fitted = fit_preparation(rows, range(6), task="g", target="y")
    assert fitted.left_out == {"column 1": "it has no name in the header; name it if it is to be used"}
    assert fit_preparation(rows, range(6), task="g", target="y", ignore=["column 1"]).left_out == {}


def test_tasks_that_may_be_one():
    from fastadapt.data.tables.table import near_tasks, rows_of_tasks

    with pytest.raises(DataError, match=r"the tasks '1' \(line 2\) and '1.0' \(line 3\) may be one; write them alike"):
        rows_of_tasks(table(["a"] * 3, tasks=["1", "1.0", "2"]), "g")
    assert set(rows_of_tasks(table(["a"] * 4, tasks=["1", "01", "yes", "y"]), "g")) == {"1", "01", "yes", "y"}
    assert near_tasks(["Shop A", "shop  a", "b"]) == [
        "the tasks 'Shop A' and 'shop  a' differ in case and spaces alone; write them alike if they are one"
    ]
    with pytest.raises(DataError, match=r"the task 'g' is missing, as 'NA' says \(and in 1 further lines\).*--missing"):
        rows_of_tasks(table(["a"] * 3, tasks=["NA", "NA", "DE"]), "g")
    assert set(rows_of_tasks(table(["a"] * 3, tasks=["NA", "NA", "DE"]), "g", ())) == {"NA", "DE"}
