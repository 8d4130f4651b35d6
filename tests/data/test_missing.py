"""A number that --missing names is meant by its value, however it is written; a word that never occurs is told."""

import numpy as np
import pytest

from fastadapt.data.tables.missing import is_missing, missing_numbers
from fastadapt.data.tables.table_settings import prepare_table
from fastadapt.errors import DataError

N = 90


@pytest.mark.parametrize(
    "cell", ["-999", "-999.0", "-999.00", "-999,0", "−999", "–999,0000", "(999)", "-9.99e2", "- 999"]
)
@pytest.mark.parametrize("word", ["-999", "-999.0", "−999", "-999,00"])
def test_a_number_is_one_however_it_is_written(cell, word):
    assert is_missing(cell, ("na", word))


@pytest.mark.parametrize("cell", ["999", "-99", "-999.5", "-9990", "-0999", "a-999", "na", "-999-"])
def test_another_is_none(cell):
    assert not is_missing(cell, ("-999",))


@pytest.mark.parametrize(("cell", "word"), [("007", "7"), ("7", "007"), ("inf", "nan"), ("1,000", "1"), ("x", "7")])
def test_codes_and_what_can_be_read_in_two_ways_are_left_to_their_text(cell, word):
    assert not is_missing(cell, (word,)) and is_missing(word, (word,))


def test_words_are_no_numbers():
    assert missing_numbers(("na", "nan", "inf", "007", "")) == frozenset() == missing_numbers(None)


def table(path, x, y=None):
    rng = np.random.default_rng(0)
    y = [f"{v:.2f}" for v in rng.normal(size=N)] if y is None else y
    path.write_text("shop;x;h;y\n" + "".join(f"s{i % 9};{x[i]};{rng.normal():.2f};{y[i]}\n" for i in range(N)))
    return path


def of_x(path, *missing):
    made = prepare_table(path, task="shop", target="y", shots=(2,), missing=missing)
    return next(c for c in made.data.preparation.columns if c.name == "x"), made


@pytest.mark.parametrize(
    ("usual", "absent", "word"),
    [
        ("2{},5", "-999,00", "-999"),
        ("2{}.5", "-999.0", "-999"),
        ("1,02{}.5", "-9,999", "-9999"),  # thousands here, and a decimal comma in the next
        ("2{},5", "9.999", "9999"),
        ("2{}.5", "−999", "-999"),
        ("2{} kg", "-999", "-999"),
        ("€ 2{}.50", "€ 999.00", "999"),
    ],
)
def test_as_the_column_is_written(tmp_path, usual, absent, word):
    cells = [absent if i % 10 == 3 else usual.format(i % 7) for i in range(N)]
    column, made = of_x(table(tmp_path / "t.csv", cells), word)
    assert column.missing and 0 < (column.high or 0) < 1100 and (column.low or 0) > 0
    place = [c.name for c in made.data.preparation.columns].index("x") + 1
    assert made.loaded.x[:, place].tolist() == [float(cell == absent) for cell in cells]


def test_the_same_digits_of_another_value_stay(tmp_path):
    column, made = of_x(table(tmp_path / "t.csv", [f"9,99{i % 7}" for i in range(80)] + ["1,5"] * 10), "9999")
    assert not column.missing and (column.high or 0) < 10
    assert any("no cell of" in note and "is '9999', which --missing names" in note for note in made.notes)


def test_a_target_without_value_is_refused_however_it_is_written(tmp_path):
    y = [f"1,{i:03d}.5" for i in range(N - 1)] + ["9,999"]
    path = table(tmp_path / "t.csv", [str(i) for i in range(N)], y)
    with pytest.raises(DataError, match=r"line 91: the target 'y' is missing, as '9,999' says"):
        of_x(path, "9999")


def test_words_that_never_occur_are_told(tmp_path):
    path = table(tmp_path / "t.csv", ["-888.0", "n.d."] * (N // 2))
    words = ("-888", "N.D.", "-777", "unknown", "")
    made = prepare_table(path, task="shop", target="y", shots=(2,), missing=words)
    [note] = [note for note in made.notes if "--missing" in note]
    assert "is '-777' or 'unknown', which" in note
