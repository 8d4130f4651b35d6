"""Rows that are one value longer than the header: what can be either is refused, the rest is read as it is meant."""

import bz2
import lzma

import pytest

from fastadapt.data.tables.csv_rows import read_rows
from fastadapt.errors import DataError


def file_of(tmp_path, *lines, name="t.csv"):
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    "names", [range(1, 9), range(8), [7, 3, 12, 1, 90, 4], ["Mazda RX4", "Fiat 128", "Lotus", "Volvo"]]
)
@pytest.mark.parametrize("by", [",", ";", "\t"])
def test_names_of_rows_before_an_empty_last_column(tmp_path, names, by):
    rows = [by.join((str(name), f"{i}.5", f"s{i % 2}", "")) for i, name in enumerate(names)]
    with pytest.raises(
        DataError, match=r"one value more than the header has names, .* begin the header with"
    ) as caught:
        read_rows(file_of(tmp_path, by.join(("score", "school", "remark")), *rows))
    assert "end the header with a delimiter too" in str(caught.value) and "\n" not in str(caught.value)
    named = read_rows(file_of(tmp_path, by.join(("row", "score", "school", "remark")), *rows))
    assert named.column("score")[0] == "0.5" and named.column("remark") == [""] * len(rows)
    ended = read_rows(file_of(tmp_path, by.join(("score", "school", "remark", "")), *rows))
    assert ended.column("school")[0] == "0.5" and len(ended.header) == 3


@pytest.mark.parametrize("first", ["id", "pupil_id", "StudentID", "Index", "name", "Full Name", "date", "no"])
def test_a_column_of_names_of_its_own_before_a_delimiter_at_the_end(tmp_path, first):
    rows = read_rows(file_of(tmp_path, f"{first},x", *(f"{i},{i % 3}," for i in range(9))))
    assert rows.header == (first, "x") and rows.cells[4] == ["4", "1"] and len(rows.notes) == 1
    assert f"that the header has not; '{first}' is taken for their first value ('0', '1', ...)" in rows.notes[0]


@pytest.mark.parametrize(
    "cells", [[f"{i}.25" for i in range(9)], [f"s{i % 4}" for i in range(9)], ["1", "2"], ["", "1", "2"]]
)
def test_what_is_no_name_of_a_row(tmp_path, cells):
    rows = read_rows(file_of(tmp_path, "score,x", *(f"{cell},{i}," for i, cell in enumerate(cells))))
    assert rows.column("score") == cells and rows.column("x")[0] == "0"


def test_numbers_of_rows_before_a_column_without_a_name(tmp_path):
    rows = [f"{i},{i}.5,s{i % 2},x" for i in range(9)]
    with pytest.raises(
        DataError, match=r"the last column has values and no name, .* if they are 'score', name the last"
    ):
        read_rows(file_of(tmp_path, "score,school,remark,", *rows))
    for header, lines in (("id,school,remark,", rows), (",school,remark,", rows), ("score,a,b,", rows[:2])):
        assert read_rows(file_of(tmp_path, header, *lines)).header[-1] == "column 4"


def swallowed(column, lines=20):
    rows = [[f"s{i}", f"{i}.5", "good", "x"] for i in range(60)]
    rows[10][column] = f'"{rows[10][column]}'
    rows[10 + lines][column] = f'{rows[10 + lines][column]}"'
    return [",".join(row) for row in rows]


@pytest.mark.parametrize("column", range(4))
@pytest.mark.parametrize("lines", [1, 2, 20])
def test_rows_in_a_stray_quotation_mark_are_told(tmp_path, column, lines):
    rows = read_rows(file_of(tmp_path, "school,hours,remark,more", *swallowed(column, lines)))
    assert len(rows) == 60 - lines and len(rows.notes) == 1
    where = f"lines 12 to {12 + lines} are one row, as a cell in column '{rows.header[column]}' spans {lines + 1} lines"
    assert f"{where} that look like rows; if a quotation mark is stray" in rows.notes[0]


@pytest.mark.parametrize(
    "lines", [['s1,1,x,"', "s2,2,y,a", 's3,3,z,"', "s4,4,x,b"], ['s1,1,x,"a', 's2,2,y,"', "s4,4,x,b"]]
)
def test_a_quotation_mark_in_an_empty_cell(tmp_path, lines):
    [note] = read_rows(file_of(tmp_path, "school,hours,remark,more", *lines)).notes
    assert f"spans {len(lines) - 1} lines that look like rows" in note


def test_a_quotation_mark_in_the_header(tmp_path):
    path = file_of(tmp_path, 'school,"hours,remark', 's1",1,x', "s2,2,y", "s3,3,z")
    with pytest.raises(DataError, match=r"lines 1 to 2 are the header; is a quotation mark in it stray\?"):
        read_rows(path)
    rows = read_rows(file_of(tmp_path, 'school,"hours\n(weekly)"', "s1,1", "s2,2"))
    assert rows.header == ("school", "hours\n(weekly)") and rows.notes == ()


def test_a_quotation_mark_that_never_closes_is_told_where_it_opens(tmp_path):
    lines = ["school,hours,remark", "a,1,x", 'b,2,"y', "c,3,z", "d,4,z"]
    with pytest.raises(DataError, match=r"lines 3 to 5 are not valid CSV .*; is a quotation mark in line 3 stray\?"):
        read_rows(file_of(tmp_path, *lines))
    lines[4] = 'd,4,z"z'
    with pytest.raises(DataError, match=r"lines 3 to 5 are not valid CSV"):
        read_rows(file_of(tmp_path, *lines))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("two\nlines", False),
        ("a, b\nand c", False),
        ("\n".join("a line"[: 1 + i % 6] for i in range(9)), False),
        ("\n".join("a line"[: 1 + i % 6] for i in range(10)), True),
    ],
)
def test_texts_of_several_lines_are_no_matter_unless_they_are_long(tmp_path, text, told):
    lines = [f'{i},{i},{i},"{text if i in (7, 8) else "ok"}"' for i in range(40)]
    rows = read_rows(file_of(tmp_path, "id,a,b,review", *lines))
    assert rows.column("review")[7] == text and len(rows) == 40 and len(rows.notes) == 2 * told
    lines = [f'{i},{i},{i},"{text}"' for i in range(40)]  # as in every row
    assert read_rows(file_of(tmp_path, "id,a,b,review", *lines)).notes == ()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (bz2.compress(b"a,b\n1,2\n"), r"is compressed \(.bz2\)"),
        (lzma.compress(b"a,b\n1,2\n"), r"is compressed \(.xz\)"),
        (b"\x28\xb5\x2f\xfd\x04", r"is compressed \(.zst\)"),
        (b"7z\xbc\xaf\x27\x1c\x00", r"is an archive \(.7z\)"),
    ],
    ids=["bz2", "xz", "zst", "7z"],
)
def test_what_is_compressed_is_told(tmp_path, content, told):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=rf"t.csv {told}; save the table as CSV"):
        read_rows(tmp_path / "t.csv")
