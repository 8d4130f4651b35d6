"""A CSV file as text: what is read, and the sentences for what can't be."""

import hashlib
import re

import pytest

from fastadapt.data.tables.csv_rows import MOST_BYTES, read_rows
from fastadapt.data.tables.rows import MOST_COLUMNS
from fastadapt.errors import DataError


def file_of(tmp_path, content):
    path = tmp_path / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,x\n2,y\n",
        "a;b\n1;x\n2;y\n",
        "a\tb\n1\tx\n2\ty\n",
        "\ufeffa,b\r\n1,x\r\n\r\n2,y\r\n",
        ' a , "b"\n 1 , "x"\n\n2,y',
        "\ufeffa,b\n1,x\n2,y\n".encode("utf-16-le"),
        "\n\na,b\n1,x\n2,y\n",
    ],
)
def test_forms_of_the_same_table(tmp_path, content):
    path = file_of(tmp_path, content)
    rows = read_rows(path)
    assert rows.header == ("a", "b") and rows.cells == [["1", "x"], ["2", "y"]]
    assert rows.column("b") == ["x", "y"] and len(rows) == 2
    assert rows.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_lines_are_those_of_the_file(tmp_path):
    rows = read_rows(file_of(tmp_path, 'a,b\n\n1,"two\nlines"\n3,4\n'))
    assert rows.cells[0][1] == "two\nlines" and rows.lines == [4, 5]
    assert rows.where(1).endswith("table.csv, line 5")


def test_an_encoding_is_named_where_it_is_not_unicode(tmp_path):
    path = file_of(tmp_path, "schule,größe\na,1\n".encode("cp1252"))
    with pytest.raises(DataError, match=r"is not UTF-8 text \(byte 9\); .* name its --encoding, for example cp1252$"):
        read_rows(path)
    assert read_rows(path, "cp1252").header == ("schule", "größe")


def test_one_column_is_a_table(tmp_path):
    assert read_rows(file_of(tmp_path, "hours\n1\n2\n")).header == ("hours",)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "^can't read FILE as a table: the file is empty"),
        ("a,b\n", "^FILE has no rows below its header; add some$"),
        ("1,2\n3,4\n", "^FILE, line 1 holds numbers where the header should be"),
        ("a,a,b\n1,2,3\n", "^FILE, line 1: the column 'a' is named twice; name every column differently$"),
        ("a,b\n1\n", "^FILE, line 2 has 1 values, the header has 2; correct the line$"),
        ('a,b\n"1,2\n', "^FILE, line 2 is not valid CSV"),
        (b"PK\x03\x04aaaa", "^FILE is an archive"),
        (b"a,b\n1,\x00\n", "^FILE holds NUL characters"),
        (
            ",".join(f"c{i}" for i in range(MOST_COLUMNS + 1)) + "\n" + "1," * MOST_COLUMNS + "1\n",
            "names 2,001 columns",
        ),
    ],
)
def test_every_problem_has_a_sentence(tmp_path, content, sentence):
    path = file_of(tmp_path, content)
    with pytest.raises(DataError, match=sentence.replace("FILE", re.escape(str(path)))) as caught:
        read_rows(path)
    assert "\n" not in str(caught.value)


def test_all_problems_come_at_once(tmp_path):
    path = file_of(tmp_path, "a,a,\n1,2\n1,2,3\n1,2,3,4\n")
    with pytest.raises(DataError) as caught:
        read_rows(path)
    first, *rest = str(caught.value).splitlines()
    assert first.endswith("has 3 problems:")
    wanted = ("'a' is named twice", "line 2 has 2 values", "line 4 has 4 values")
    assert len(rest) == 3 and all(part in line for part, line in zip(wanted, rest, strict=True))


def test_a_large_file_is_refused_before_it_is_parsed(tmp_path):
    path = tmp_path / "large.csv"
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(DataError, match="is larger than 50 MB, the limit for a table"):
        read_rows(path)


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ("sep=;\na;b\n1;x\n2;y\n", [3, 4]),
        ('"sep=;"\r\na;b\r\n1;x\r\n2;y\r\n', [3, 4]),
        ("sep=\\t\na\tb\n1\tx\n2\ty\n", [3, 4]),
        ("SEP=|\na|b\n1|x\n2|y\n", [3, 4]),
        ("a|b\n1|x\n2|y\n", [2, 3]),
        ("a,b,\n1,x,\n2,y,\n", [2, 3]),
        ("a,b\n1,x,\n2,y,\n", [2, 3]),
        ("a;b;\r\n1;x;\r\n2;y;\r\n", [2, 3]),
        (",a,b,\n,1,x,\n,2,y,\n", [2, 3]),  # empty columns without a name on either side
    ],
)
def test_marks_of_programs_that_say_nothing(tmp_path, content, lines):
    rows = read_rows(file_of(tmp_path, content))
    assert (rows.header, rows.cells, rows.lines) == (("a", "b"), [["1", "x"], ["2", "y"]], lines)
    assert rows.notes == ()


@pytest.mark.parametrize(
    ("content", "lines", "note"),
    [
        ("# made by a program\na,b\n1,x\n2,y\n", [3, 4], '1 line of "#" before the header left out'),
        ("# made, by a program\n#\n\na,b\n1,x\n2,y\n", [5, 6], '2 lines of "#" before the header left out'),
        ("sep=,\n# made by a program\na,b\n1,x\n2,y\n", [4, 5], '1 line of "#"'),
        ("#a,b\n1,x\n2,y\n", [2, 3], 'line 1 is taken for the header, without its "#"'),
        ("# made by a program\n# a,b\n1,x\n2,y\n", [3, 4], 'line 2 is taken for the header, without its "#"'),
    ],
)
def test_lines_above_the_header_are_left_out_and_it_is_said(tmp_path, content, lines, note):
    rows = read_rows(file_of(tmp_path, content))
    assert (rows.header, rows.cells, rows.lines) == (("a", "b"), [["1", "x"], ["2", "y"]], lines)
    assert note in rows.notes[0] and len(rows.notes) == 1


def test_a_column_without_a_name_is_called_by_its_place(tmp_path):
    rows = read_rows(file_of(tmp_path, ",a,,b\n0,1,,x\n1,2,,y\n"))
    assert rows.header == ("column 1", "a", "b") and rows.column("column 1") == ["0", "1"]


def test_a_row_of_empty_cells_is_a_row(tmp_path):
    rows = read_rows(file_of(tmp_path, "a,b\n1,x\n,\n\n2,y\n,\n"))
    assert rows.cells == [["1", "x"], ["", ""], ["2", "y"], ["", ""]] and rows.lines == [2, 3, 5, 6]
    filled = rows.filled()
    assert filled.lines == [2, 5] and "2 rows without any value (the first in line 3) are left out" in filled.notes[0]
    assert filled.filled() is filled


def test_a_header_that_is_shorter_than_all_rows_is_told_once(tmp_path):
    path = file_of(tmp_path, "a,b\n" + "r1,1,2\n" * 20)  # as R writes names of rows
    with pytest.raises(DataError, match=r"the header has 2 names and every row has 3 values") as caught:
        read_rows(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["a b c\n1 2 3\n4 5 6\n", " 0   0    0\n 1   1    1\n", "59 2 32.1\n48 1 21.6\n"])
def test_columns_that_spaces_separate_are_spoken_of_once(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=r"one column, and 3 words in each of its lines; separate columns by commas"):
        read_rows(tmp_path / "t.csv")


def test_a_header_with_numbers_among_its_names_is_noted_but_not_for_years(tmp_path):
    (tmp_path / "t.csv").write_text("150,4,setosa\n5.1,3.5,0\n4.9,3.0,1\n")
    [note] = read_rows(tmp_path / "t.csv").notes
    assert "line 1 is taken for the header, and names columns '150', '4'" in note
    (tmp_path / "u.csv").write_text("country,2019,2020\na,1,2\nb,3,4\n")
    assert read_rows(tmp_path / "u.csv").notes == ()
