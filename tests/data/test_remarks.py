"""Rows that are unlike those of the training have a note, every row has its own, and usual rows have none."""

import pytest

from fastadapt.data.tables.columns import Preparation
from fastadapt.data.tables.fit_columns import fit_preparation
from fastadapt.data.tables.remarks import row_notes
from fastadapt.data.tables.rows import Rows
from fastadapt.errors import DataError

HEADER = ("g", "price", "colour", "day", "y")
TRAINING = [
    ["a", "$1,000", "red", "2024-01-01", "1.5"],
    ["a", "$2,000.5", "blue", "2024-02-01", "2.5"],
    ["b", "$3,000", "red", "2024-03-01", "3.5"],
    ["b", "$1,500", "blue", "2024-03-05", "4.5"],
]


@pytest.fixture
def preparation():
    rows = Rows("t.csv", HEADER, TRAINING, [2, 3, 4, 5])
    return fit_preparation(rows, range(4), task="g", target="y").preparation


def notes(preparation, *cells):
    rows = Rows("ask.csv", ("price", "colour", "day"), [list(row) for row in cells], list(range(2, len(cells) + 2)))
    assert len(preparation.features(rows)) == len(cells)
    return row_notes(preparation, rows, preparation.settled(rows))


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        (("$1,200", "red", "2024-01-15"), []),
        (("1200", "blue", "1 Feb 2024"), []),
        (
            ("$1,200", "purple", "2024-01-15"),
            ["colour 'purple' is not known from the training (blue, red) and counts as unknown"],
        ),
        (
            ("$1,200", "Red", "2024-01-15"),
            ["colour 'Red' is not known from the training (blue, red) and counts as unknown; is 'red' meant?"],
        ),
        (("$12,000", "red", "2024-01-15"), ["price $12,000 is outside the range of the training, 1000 to 3000"]),
        (("", "red", "2024-01-15"), ["price is missing, which it never was in the training; the mean stands for it"]),
        (
            ("$1,200", "NA", "2024-01-15"),
            ["colour is missing, which it never was in the training; it counts as unknown"],
        ),
        (("$1,200", "red", ""), ["day is missing, which it never was in the training; the mean stands for it"]),
        (
            ("$1,200", "red", "2025-01-15"),
            ["day 2025-01-15 is outside the range of the training, 2024-01-01 to 2024-03-05"],
        ),
        (("", "", ""), ["every value is missing: this is the answer for a row of which nothing is known"]),
        (("NA", "none", "-"), ["every value is missing: this is the answer for a row of which nothing is known"]),
    ],
)
def test_what_is_unusual_about_a_row(preparation, row, wanted):
    assert notes(preparation, ("$1,100", "blue", "2024-01-02"), row) == [[], wanted]


def test_a_row_may_have_several(preparation):
    [found] = notes(preparation, ("$9", "green", "2030-01-01"))
    assert len(found) == 3


def test_another_spelling_is_told():
    rows = Rows(
        "t.csv",
        ("g", "c", "y"),
        [[g, c, f"{i}.5"] for i, (g, c) in enumerate([("a", "1"), ("b", "1"), ("a", "2"), ("b", "2")])],
        [2, 3, 4, 5],
    )
    preparation = fit_preparation(rows, range(4), task="g", target="y", categorical=["c"]).preparation
    asked = Rows("ask.csv", ("c",), [["1.0"], ["2"], ["02"]], [2, 3, 4])
    assert row_notes(preparation, asked, {}) == [
        ["c '1.0' is taken for '1'"],
        [],
        ["c '02' is not known from the training (1, 2) and counts as unknown; is '2' meant?"],
    ]


def test_a_preparation_of_before_knows_no_range(preparation):
    plain = preparation.to_plain()
    for name in ("written", "unit", "words"):
        plain.pop(name)
    for column in plain["columns"]:
        for name in ("written", "unit", "part", "low", "high"):
            column.pop(name)
    old = Preparation.from_plain({**plain, "columns": [c for c in plain["columns"] if c["holds"] != "date"]})
    rows = Rows("ask.csv", ("price", "colour"), [["1e9", "red"]], [2])
    assert row_notes(old, rows, old.settled(rows)) == [[]]


def test_many_cells_that_are_no_numbers_are_told_at_once(preparation):
    rows = Rows("ask.csv", ("colour", "price", "day"), [["$5", "red", "2024-01-01"]] * 50, list(range(2, 52)))
    with pytest.raises(DataError) as caught:
        preparation.features(rows)
    said = str(caught.value)
    assert "line 2: 'red' in column 'price' is not a number; the others are written as 1,234.5 in $" in said
    assert "in 49 further rows; is the header right?" in said and "\n" not in said


def test_a_column_of_nearly_the_name_is_offered(preparation):
    rows = Rows("ask.csv", ("Price", "color", "day"), [["$5", "red", "2024-01-01"]], [2])
    with pytest.raises(DataError) as caught:
        preparation.features(rows)
    assert "no column 'price'; it has Price, color, day; is 'Price' meant?" in str(caught.value)
    assert "no column 'colour'; it has Price, color, day; is 'color' meant?" in str(caught.value)
