"""Numbers as people write them: each notation gives the number, and what is none is none."""

import pytest

from fastadapt.data.tables.notation import NOTATIONS, looks_odd, plain_numbers, read_number, take_apart, value_of


@pytest.mark.parametrize(
    ("cell", "written", "unit", "number"),
    [
        ("7,602", "1,234.5", "", 7602.0),
        ("1,234,567.25", "1,234.5", "", 1234567.25),
        ("12,34,567.5", "1,234.5", "", 1234567.5),  # lakhs
        ("1.234.567,25", "1.234,5", "", 1234567.25),
        ("1520,4", "1234,5", "", 1520.4),
        ("-0,5", "1234,5", "", -0.5),
        (",5", "1234,5", "", 0.5),
        ("1 234,5", "1 234,5", "", 1234.5),
        ("1\u00a0234\u00a0567", "1 234.5", "", 1234567.0),
        ("1\u202f234,5", "1 234,5", "", 1234.5),
        ("1'234.50", "1'234.5", "", 1234.5),
        ("1’234.50", "1'234.5", "", 1234.5),
        ("\u22125.25", "1234.5", "", -5.25),
        ("–5", "1234.5", "", -5.0),
        ("+5", "1234.5", "", 5.0),
        ("(1,234)", "1,234.5", "", -1234.0),
        ("($5.00)", "1234.5", "$", -5.0),
        ("$(5.00)", "1234.5", "$", -5.0),
        ("-$5", "1234.5", "$", -5.0),
        ("$-5", "1234.5", "$", -5.0),
        ("−€ 5", "1234.5", "€", -5.0),
        ("€5,20", "1234,5", "€", 5.2),
        ("5,20 €", "1234,5", "€", 5.2),
        ("1.500,00 EUR", "1.234,5", "EUR", 1500.0),
        ("CHF 1'500.00", "1'234.5", "CHF", 1500.0),
        ("R$ 1.500,00", "1.234,5", "R$", 1500.0),
        ("₹1,00,000", "1,234.5", "₹", 100000.0),
        ("1 500 kr", "1 234.5", "kr", 1500.0),
        ("12,5 %", "1234,5", "%", 12.5),
        ("12.5%", "1234.5", "%", 12.5),
        ("-3.2 °C", "1234.5", "°C", -3.2),
        ("80 km/h", "1234.5", "km/h", 80.0),
        ("80km/h", "1234.5", "km/h", 80.0),
        ("12 A", "1234.5", "A", 12.0),
        ("1,5e3", "1234,5", "", 1500.0),
        ("1.5E+03", "1234.5", "", 1500.0),
        ("1.5D+03", "1234.5", "", 1500.0),  # Fortran
        ("1.5×10^3", "1234.5", "", 1500.0),
        ("2.5e-1 kg", "1234.5", "kg", 0.25),
        ("12", "1234.5", "$", 12.0),  # a currency may be left out
    ],
)
def test_what_is_written_is_read(cell, written, unit, number):
    assert read_number(cell, written, unit) == number
    parts = take_apart(cell)
    assert parts is not None
    others = {value_of(parts, name) for name in NOTATIONS} - {None}
    assert number in others


@pytest.mark.parametrize(
    ("cell", "written", "unit"),
    [
        ("7,602", "1234.5", ""),
        ("1,23", "1,234.5", ""),
        ("0,123", "1,234.5", ""),  # no thousands begin with 0
        ("01,234", "1,234.5", ""),
        ("1,2345", "1,234.5", ""),
        ("1,234.5", "1.234,5", ""),
        ("$5", "1234.5", ""),
        ("$5", "1234.5", "€"),
        ("5", "1234.5", "%"),  # 5 or 500 per cent
        ("5 kg", "1234.5", "g"),
        ("1_000", "1234.5", ""),
        ("5-", "1234.5", ""),
        ("--5", "1234.5", ""),
        ("(-5)", "1234.5", ""),
        ("(5", "1234.5", ""),
        ("Q1", "1234.5", ""),
        ("1st", "1234.5", ""),
        ("5b", "1234.5", ""),
        ("12A", "1234.5", "A"),  # a seat
        ("00V", "1234.5", "V"),
        ("10-20", "1234.5", ""),
        ("1.2.3", "1234.5", ""),
        ("1.2.3", "1.234,5", ""),
        ("<0.1", "1234.5", ""),
        ("0x10", "1234.5", ""),
        ("½", "1234.5", ""),
        ("12 widgets", "1234.5", ""),
    ],
)
def test_nothing_else_is(cell, written, unit):
    assert read_number(cell, written, unit) is None


@pytest.mark.parametrize("cell", ["5-", "1_000", "<0.1", "12*", "~5", "≈ 7", "1234.–", "½", "8?748,6", "USD1?034?594"])
def test_what_looks_like_a_number(cell):
    assert looks_odd(cell)


@pytest.mark.parametrize("cell", ["red", "Q1", "10-20", "1/2", "12:30", "A1", "5b", "3rd", "x", ""])
def test_what_does_not(cell):
    assert not looks_odd(cell)


def test_columns_of_plain_numbers_at_once():
    values = plain_numbers(["1", "-2.5", "1e3"])
    assert values is not None and values.tolist() == [1.0, -2.5, 1000.0]
    for odd in ("", "nan", "inf", "1_0", "x", "1,5"):
        assert plain_numbers(["1", odd]) is None
