"""Dates: each form gives the day, what is ambiguous is told, and the parts are those of the calendar."""

import datetime

import pytest

from fastadapt.data.tables.csv_rows import read_rows
from fastadapt.data.tables.dates import PARTS, forms_of, read_date
from fastadapt.data.tables.fit_columns import Reading, fit_preparation
from fastadapt.data.tables.rows import Rows
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
