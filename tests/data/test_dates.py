"""Dates: each form gives the day, what is ambiguous is told, and the parts are those of the calendar."""

import datetime
from dataclasses import replace

import pytest

from fastadapt.data.tables.csv_rows import read_rows
from fastadapt.data.tables.dates import _MORE, PARTS, SHORT_YEAR, by_the_clock, forms_of, read_date
from fastadapt.data.tables.fit_columns import Reading, fit_preparation
from fastadapt.data.tables.rows import Rows
from fastadapt.data.tables.workbook import text_of
from fastadapt.errors import DataError

LAST = datetime.datetime(2024, 3, 31)


@pytest.mark.parametrize(
    ("cells", "form", "first"),
    [
        (["2024-03-31", "2024-04-01"], "2024-03-31", LAST),
        (["2024/03/31", "2024/4/1"], "2024-03-31", LAST),
        (["2024.03.31"], "2024-03-31", LAST),
        (["2024-03-31T14:05:06Z"], "2024-03-31", LAST.replace(hour=14, minute=5, second=6)),
        (["2024-03-31 14:05:06.5+02:00"], "2024-03-31", LAST.replace(hour=14, minute=5, second=6, microsecond=500000)),
        (["31/03/2024", "01/04/2024"], "31/03/2024", LAST),
        (["31.3.2024", "1.4.2024"], "31/03/2024", LAST),
        (["31-03-2024 14:05"], "31/03/2024", LAST.replace(hour=14, minute=5)),
        (["03/31/2024", "04/01/2024"], "03/31/2024", LAST),
        (["3/31/2024 2:05 PM"], "03/31/2024", LAST.replace(hour=14, minute=5)),
        (["3/31/2024 12:05 am"], "03/31/2024", LAST.replace(minute=5)),
        (["31 Mar 2024", "1 April 2024"], "31 Mar 2024", LAST),
        (["31-Mar-2024"], "31 Mar 2024", LAST),
        (["Sunday, 31 March 2024"], "31 Mar 2024", LAST),
        (["Mar 31, 2024", "April 1 2024"], "Mar 31, 2024", LAST),
        (["March 31st, 2024"], "Mar 31, 2024", LAST),
        (["Mar-31-2024", "Apr 1 2024"], "Mar 31, 2024", LAST),
        (["2024-03", "2023-11"], "2024-03", LAST.replace(day=1)),
        (["14:05", "2:10"], "12:30", datetime.datetime(1970, 1, 1, 14, 5)),
        (["2024-03-31", "1 Apr 2024"], "2024-03-31", LAST),  # neither can be mistaken
    ],
)
def test_forms(cells, form, first):
    assert forms_of(cells) == [form]
    found = read_date(cells[0], form)
    assert found is not None and found.at == first


@pytest.mark.parametrize(
    "cells",
    [
        ["1.5"],
        ["red"],
        ["2023-02-29"],
        ["31/04/2024"],
        ["25:10"],
        ["2001-02", "2002-03"],
        ["10-20"],
        ["1/2"],
        ["13:99"],
        [],
    ],
)
def test_what_is_no_date(cells):
    assert forms_of(cells) == []


def test_parts_are_those_of_the_calendar():
    for cell in ("1969-12-31 18:00", "2000-02-29", "2024-03-31 06:30:36"):
        at = datetime.datetime.fromisoformat(cell)
        elapsed = (at - datetime.datetime(1970, 1, 1)).total_seconds() / 86400
        hour = at.hour + at.minute / 60 + at.second / 3600
        found = read_date(cell)
        assert found is not None
        wanted = [at.year, at.month, at.day, at.weekday(), hour, elapsed]
        assert [found.part(part) for part in PARTS] == pytest.approx(wanted)


def test_a_zone_moves_the_days_that_passed_and_not_the_clock():
    a, b = read_date("2024-03-31T01:00:00+02:00"), read_date("2024-03-30T23:00:00Z")
    assert a is not None and b is not None
    assert a.part("elapsed") == b.part("elapsed") and a.part("hour") == 1.0 and b.part("day") == 30.0


def dated(cells):
    lines = [[f"g{i % 2}", cell, f"{i}.5"] for i, cell in enumerate(cells)]
    return Rows("t.csv", ("g", "day", "y"), lines, list(range(2, len(cells) + 2)))


def fit(cells, **settings):
    return fit_preparation(dated(cells), range(len(cells)), task="g", target="y", **settings)


def test_a_column_of_dates_becomes_its_parts_and_it_is_said():
    fitted = fit(["2024-03-01", "2024-03-02", "", "2024-04-05"])
    columns = fitted.preparation.columns
    assert [column.part for column in columns] == ["month", "day", "weekday", "elapsed"]  # the year is one
    assert fitted.notes == (
        "column 'day' holds dates, written as 2024-03-31: its inputs are month, day, weekday, elapsed",
    )
    assert [column.missing for column in columns] == [True, False, False, False]
    x = fitted.preparation.features(dated(["2024-03-01", "", "5 Apr 2024"]))
    assert x[1].tolist() == [0, 1, 0, 0, 0] and x[0, 1] == 0
    with pytest.raises(DataError, match=r"line 2: '05/04/2024' in column 'day' is no date such as 2024-03-31"):
        fitted.preparation.features(dated(["05/04/2024"]))


def test_day_and_month_in_either_order_are_refused_or_told():
    cells = ["03/04/2024", "05/06/2024", "07/08/2024", "01/02/2024"]
    with pytest.raises(
        DataError, match=r"'03/04/2024' in column 'day' has day and month in either order.*--dates day-first"
    ):
        fit(cells)
    for order, month in (("day-first", "31/03/2024"), ("month-first", "03/31/2024")):
        columns = fit(cells, reading=Reading(dates=order)).preparation.columns
        assert {column.written for column in columns} == {month}
    assert fit([*cells, "31/01/2024"]).preparation.columns[0].written == "31/03/2024"


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        (
            ["2024-03-01", "2024-03-02", "2024-03-04", "soon"],
            r"holds dates such as 2024-03-01, but not in line 5 \('soon'\)",
        ),
        (["2024-03-01", "2024-03-02", "2023-02-29", "2024-01-01"], "but not in line 4"),
        (
            ["03/04/24", "05/06/24", "07/08/24", "01/02/24"],
            "'03/04/24' in column 'day' looks like a date whose century",
        ),
        *(
            ([*cells, cells[0].replace("1", "2")], f"'{cells[0]}' in column 'day' looks like a date whose century")
            for cells in (
                ["19-Sep-03", "18-Sep-03", "17-Sep-03"],
                ["1 March 04", "2 March 04", "11 May 04"],
                ["Mar 1, 04", "Mar 2, 04", "May 11, 04"],
                ["Jan-01", "Feb-01", "Mar-02"],
                ["Sept 91", "Oct 91", "Nov 92"],
                ["01.03.04 10:30", "01.03.04 11:30", "02.03.04 10:30"],
            )
        ),
        (["2024-03-01T10:00Z", "2024-03-01T11:00", "2024-03-02", "2024-03-03"], "times with and without their zone"),
    ],
)
def test_dates_that_can_not_be_used(cells, says):
    with pytest.raises(DataError, match=says):
        fit(cells)


def test_dates_as_one_number_are_spoken_of():
    [note] = fit(["20240301", "20240302", "20240401", "20240501"]).notes
    assert note == "column 'day' is read as numbers such as 20240301; if they are dates, write them as 2024-03-01"


def test_a_date_is_no_target(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("g,a,y\n" + "\n".join(f"g{i % 2},{i}.5,2024-01-{i + 1:02d}" for i in range(8)))
    rows = read_rows(path)
    with pytest.raises(DataError, match=r"the target 'y' holds dates \(2024-03-31\); make it a number"):
        fit_preparation(rows, range(8), task="g", target="y")


@pytest.mark.parametrize("cells", [["Mar 2024", "April 2024", "May 2024"], ["03/2024", "04/2024", "05/2024"]])
def test_a_month_of_a_year_is_a_date(cells):
    assert forms_of(cells) and [read_date(cell, forms_of(cells)[0]).part("month") for cell in cells] == [3.0, 4.0, 5.0]


def test_no_name_of_a_month_is_two_months():
    for names in _MORE:
        for number, name in enumerate(names.split(), 1):
            assert read_date(f"1 {name} 2024", "31 Mar 2024").at == datetime.datetime(2024, number, 1)


@pytest.mark.parametrize(
    ("cells", "first"),
    [
        (["2024-03-31 10:00:00+00", "2024-04-01 10:00:00+00"], (10, 0.0)),
        (["2024-03-31 10:00:00.25-05"], (10, -5.0)),
        (["20240331T1000"], (10, None)),
        (["20240331T100000Z"], (10, 0.0)),
        (["31. März 2024", "1. Mai 2024"], (0, None)),
        (["31 mar 2024", "1 ene 2024", "3 dic 2023"], (0, None)),
        (["31 de marzo de 2024"], (0, None)),
        (["dim. 31 mars 2024"], (0, None)),
        (["31. Mrz. 2024"], (0, None)),
        (["Sun, 31 Mar 2024 10:00:00 +0000"], (10, 0.0)),
    ],
)
def test_further_forms_are_read(cells, first):
    [form] = forms_of(cells)
    found = read_date(cells[0], form)
    assert (found.at.date(), found.at.hour, found.zone) == (datetime.date(2024, 3, 31), *first)


@pytest.mark.parametrize("cell", ["2024-03-31 10:00+15:00", "2024-03-31 10:00-13", "10:00-12", "gen 12", "set 10"])
def test_what_is_no_zone_and_no_month_is_no_date(cell):
    assert not forms_of([cell]) and not SHORT_YEAR.fullmatch(cell)


def of_column(cells):
    """The cells of a column beside a number, each in two tasks."""
    lines = [[f"g{i % 2}", cell, f"{i}.5"] for i, cell in enumerate([c for cell in cells for c in (cell, cell)])]
    return Rows("t.csv", ("g", "when", "y"), lines, list(range(2, len(lines) + 2)))


def fitted_to(cells):
    rows = of_column(cells)
    rows = Rows(rows.name, (*rows.header, "x"), [[*row, f"{i}.25"] for i, row in enumerate(rows.cells)], rows.lines)
    return fit_preparation(rows, range(len(rows)), task="g", target="y")


@pytest.mark.parametrize(
    "cells",
    [
        [f"2024-03-{d} 10:00:00 CET" for d in range(10, 15)],
        [f"2024-03-{d}T10:00+01:00[Europe/Berlin]" for d in range(10, 15)],
        [f"2024-W{d:02d}" for d in range(5, 9)],
        [f"2024-Q{d}" for d in range(1, 5)],
        [f"{d} marca 2024" for d in range(1, 5)],
        [f"2024年3月{d}日" for d in range(1, 5)],
        [f"Sun Mar {d} 10:00:00 2024" for d in range(10, 14)],
        [f"{d}/Mar/2024:10:00:00 +0000" for d in range(10, 14)],
        [f"10:00 {d}/03/2024" for d in range(10, 14)],
        [f"{d}:30 Uhr" for d in range(10, 14)],
        [f"{d} ene 24" for d in range(10, 14)],
        ["ene-24", "abr-24", "dic-23"],
    ],
)
def test_dates_in_a_form_that_is_not_read_are_told(cells):
    assert any("looks like a date in a form that is not read" in note for note in fitted_to(cells).notes)


@pytest.mark.parametrize(
    "cells",
    [
        ["red", "blue"],
        ["set 10", "set 20"],
        ["A-12", "B-13"],
        ["20101010.10", "20101011.25"],
        ["room 2024", "hall 2023"],
    ],
)
def test_words_are_not_told_as_dates(cells):
    assert not any("date" in note for note in fitted_to(cells).notes)


def test_an_hour_and_minutes_are_told_as_a_length_of_time():
    assert any("a length of time" in note for note in fitted_to(["1h30", "2h05", "0h45", "3h10"]).notes)


TRAINED = [f"2024-03-{d:02d}T{d % 24:02d}:30" for d in range(1, 29)]


def asked(preparation, cell):
    return preparation.features(Rows("q.csv", ("when", "x"), [[cell, "1"]], [2])).tolist()


def test_one_instant_is_one_value_whatever_its_zone():
    preparation = fitted_to([f"{cell}+02:00" for cell in TRAINED]).preparation
    wanted = asked(preparation, "2024-03-05T01:00:00+02:00")
    for same in ("2024-03-04T23:00Z", "2024-03-05 00:00+01", "20240304T180000-0500", "March 5, 2024 1:00 am +02:00"):
        assert asked(preparation, same) == wanted
    for cell in ("2024-03-05T01:00", "2024-03-05"):
        with pytest.raises(DataError, match=r"has no zone, and in the training all have one \(\+02:00\)"):
            asked(preparation, cell)
    plain = fitted_to(TRAINED).preparation
    with pytest.raises(DataError, match="has a zone, and in the training none has"):
        asked(plain, "2024-03-05T01:00Z")
    assert asked(plain, "2024-03-05T01:00") != asked(plain, "2024-03-05T02:00")


def test_several_zones_are_told_and_no_other_is_taken():
    fitted = fitted_to([f"{cell}+0{1 + (i > 13)}:00" for i, cell in enumerate(TRAINED)])
    assert any("times in several zones (+01:00, +02:00)" in note for note in fitted.notes)
    assert asked(fitted.preparation, "2024-03-05T01:00+01:00") != asked(fitted.preparation, "2024-03-05T01:00+02:00")
    with pytest.raises(DataError, match=r"has the zone \+00:00, and the training has others \(\+01:00, \+02:00\)"):
        asked(fitted.preparation, "2024-03-05T01:00Z")


def test_a_time_of_day_has_no_day_in_another_zone():
    assert by_the_clock(read_date("23:30Z", "12:30"), "+02:00", "12:30").at == datetime.datetime(1970, 1, 1, 1, 30)


def test_a_run_that_knows_no_zones_reads_as_it_did():
    preparation = fitted_to([f"{cell}+02:00" for cell in TRAINED]).preparation
    old = replace(preparation, columns=tuple(replace(column, zones="") for column in preparation.columns))
    assert len(asked(old, "2024-03-05T01:00")[0]) == len(asked(old, "2024-03-05T01:00Z")[0])  # neither is refused
    plain = old.to_plain()
    for column in plain["columns"]:
        del column["zones"]
    assert asked(type(old).from_plain(plain), "2024-03-05T01:00") == asked(old, "2024-03-05T01:00")


def test_midnight_keeps_its_zone_and_a_day_alone_has_no_time():
    zone = datetime.timezone(datetime.timedelta(hours=2))
    assert text_of(datetime.datetime(2024, 3, 31, tzinfo=zone)) == "2024-03-31 00:00:00+02:00"
    assert text_of(datetime.datetime(2024, 3, 31)) == "2024-03-31"
