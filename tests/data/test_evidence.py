"""One notation for a column: settled by its own cells, then by the other columns, or refused with both readings."""

import pytest

from fastadapt.data.tables.evidence import Settled, look, settle, settle_again
from fastadapt.data.tables.rows import Rows


def table(**columns):
    names = tuple(columns)
    cells = [list(row) for row in zip(*columns.values(), strict=True)]
    return Rows("t.csv", names, cells, list(range(2, len(cells) + 2)))


def settled(decimal="auto", **columns):
    rows = table(**columns)
    return settle([look(rows, name) for name in rows.header], rows, decimal)


@pytest.mark.parametrize(
    ("cells", "written", "unit"),
    [
        (["1.5", "2"], "1234.5", ""),
        (["1520,4", "2"], "1234,5", ""),
        (["7,602", "1,234,567"], "1,234.5", ""),
        (["7,602", "1,23"], "1234,5", ""),
        (["7,602", "0,123"], "1234,5", ""),
        (["7,602", "7,602.5"], "1,234.5", ""),
        (["7,602.125", "112.507", "5,000"], "1,234.5", ""),
        (["$1,200", "$850.50"], "1,234.5", "$"),
        (["1.234", "1.234.567"], "1.234,5", ""),
        (["1.234", "12345.678"], "1234.5", ""),
        (["1 234", "5"], "1 234.5", ""),
        (["1’234", "5"], "1'234.5", ""),
        (["$5", "$1,234.50"], "1,234.5", "$"),
        (["12 %", "5 %"], "1234.5", "%"),
        (["(5)", "7", "−3"], "1234.5", ""),
        (["1,5e3", "2e3"], "1234,5", ""),
    ],
)
def test_the_cells_of_a_column_settle_it(cells, written, unit):
    found, problems, _ = settled(a=cells)
    assert not problems and found == {"a": Settled(written, unit)}


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        (
            ["7,602", "1,388"],
            "line 2: '7,602' in column 'a' may be 7602 or 7.602, and no other number tells; say --decimal",
        ),
        (["1.234", "5.678"], "may be 1.234 or 1234, and no other number tells"),
        (["$1,200", "$1,250"], "may be 1200 or 1.2"),
        (["1.234,5", "1,234.5"], r"no one notation reads both '1.234,5' (line 2) and '1,234.5' (line 3) in column 'a'"),
        (["1,5", "2.5"], "no one notation reads both"),
        (["112.507", "121,707"], "no one notation reads both '112.507' (line 2) and '121,707' (line 3)"),  # 3 decimals
        (["1.2.3", "2.0"], "line 2: '1.2.3' in column 'a' is a number in no known notation"),
        (["$5", "€5"], "column 'a' has numbers in different units, '$5' (line 2) and '€5' (line 3)"),
        (["5%", "0.05"], "different units"),
        (["5 kg", "500 g"], "different units"),
        (["5 kg", "7"], "different units"),
        (["(5)", "(7)"], "all numbers in column 'a' are in parentheses, such as '(5)'"),
    ],
)
def test_what_can_not_be_settled_is_told(cells, says):
    found, [problem], _ = settled(a=cells)
    assert says in problem and not found and ";" in problem


def test_another_column_tells_and_it_is_said():
    found, problems, notes = settled(price=["7,602", "1,388"], x=["0.5", "1.977"])
    assert not problems and found["price"].written == "1,234.5"
    assert notes == ["column 'price': '7,602' is read as 7602, since column 'x' has a decimal point"]
    found, _, [note] = settled(price=["7.602", "1.388"], x=["0,5", "1,977"])
    assert found["price"].written == "1.234,5" and "is read as 7602, since column 'x' has a decimal comma" in note
    found, _, [note] = settled(price=["7,602", "1,388"], x=["0,5", "1,9"])
    assert found["price"].written == "1234,5" and "is read as 7.602" in note


def test_columns_that_disagree_settle_no_other():
    found, [problem], _ = settled(a=["7,602", "1,388"], b=["0.5", "1"], c=["0,5", "1"])
    assert "the other columns disagree ('b' has a decimal point and 'c' has a decimal comma)" in problem
    assert found["b"].written == "1234.5" and found["c"].written == "1234,5"


def test_the_user_says():
    assert settled("comma", a=["7,602", "1,388"])[0]["a"].written == "1234,5"
    assert settled("point", a=["7,602", "1,388"])[0]["a"].written == "1,234.5"
    assert settled("comma", a=["0.5", "1.388"])[0]["a"].written == "1234.5"  # what the cells leave no doubt of


def test_an_amount_without_its_currency_is_said():
    found, problems, [note] = settled(a=["$5", "7.5"])
    assert not problems and found["a"].unit == "$" and "'7.5' is taken for an amount in $ as well" in note


def again(recorded, **columns):
    rows = table(**columns)
    usual = {name: Settled(*recorded.get(name, ())) for name in rows.header}
    return settle_again([look(rows, name) for name in rows.header], rows, usual)


def test_a_further_table_is_read_as_the_training_was():
    assert again({"a": ("1,234.5",)}, a=["7,602"])[0]["a"].written == "1,234.5"
    assert again({"a": ("1234,5",)}, a=["7,602"])[0]["a"].written == "1234,5"
    assert again({}, a=["7.602"]) == ({"a": Settled()}, [], [])


def test_unless_it_says_otherwise_itself():
    found, problems, notes = again({"a": ("1,234.5",)}, a=["1.388", "900"], b=["0,5", "0,25"])
    assert not problems and found["a"].written == "1.234,5" and found["b"].written == "1234,5"
    assert "t.csv: numbers in column 'a' are read as 1.234,5, in the training they were written as 1,234.5" in notes
    found, problems, notes = again({}, a=["1,5", "2"])
    assert found["a"].written == "1234,5" and not problems and len(notes) == 1
    _, [problem], _ = again({}, a=["7,602"])
    assert "'7,602' in column 'a' may be 7602 or 7.602, and no other number tells" in problem
    found, problems, _ = again({}, a=["7,602"], b=["0.5"])
    assert not problems and found["a"].written == "1,234.5"
    _, [problem], _ = again({}, a=["7,602"], b=["0.5"], c=["0,5"])
    assert "the other columns disagree" in problem
