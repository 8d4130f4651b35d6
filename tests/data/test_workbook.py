"""Workbooks and Parquet files give the rows that the same table gives as CSV, or a sentence."""

import datetime
import io
import sys

import pytest

from fastadapt.data.tables.csv_rows import read_rows
from fastadapt.errors import DataError, MissingExtraError


@pytest.fixture
def book():
    return pytest.importorskip("openpyxl").Workbook()


def saved(book, path):
    book.save(path)
    return path


ROWS = [
    ("shop", "price", "day", "sold", "colour"),
    ("a", 1.5, datetime.datetime(2024, 3, 31), True, "grün"),
    ("b", 1e-7, datetime.datetime(2024, 4, 1, 6, 30), False, None),
    ("c", 7602, None, True, " red "),
]
TEXTS = [
    ["a", "1.5", "2024-03-31", "true", "grün"],
    ["b", "1e-07", "2024-04-01 06:30:00", "false", ""],
    ["c", "7602", "", "true", "red"],
]


def test_a_sheet_is_read_as_it_is_stored(tmp_path, book):
    for row in ROWS:
        book.active.append(row)
    book.active.cell(row=9, column=9).number_format = "0.00"  # touched, and empty
    rows = read_rows(saved(book, tmp_path / "t.xlsx"))
    assert rows.header == ROWS[0] and rows.cells == TEXTS and rows.lines == [2, 3, 4] and rows.notes == ()


def test_a_table_further_down_and_other_sheets(tmp_path, book):
    book.create_sheet("notes")
    for _ in range(2):
        book.active.append(())
    for row in (("shop", None, "price"), ("a", 3, 1), (None, None, None), ("b", 4, 2)):
        book.active.append(row)
    rows = read_rows(saved(book, tmp_path / "t.xlsx"))
    assert rows.header == ("shop", "column 2", "price")
    assert rows.cells == [["a", "3", "1"], ["", "", ""], ["b", "4", "2"]] and rows.lines == [4, 5, 6]
    assert rows.notes == (f"{tmp_path / 't.xlsx'}: the first sheet, 'Sheet', is read, and not notes",)


def test_a_formula_without_its_value_is_no_missing_value(tmp_path, book):
    for row in (("a", "b"), (1, "=A2*2")):
        book.active.append(row)
    with pytest.raises(DataError, match=r"line 2: the formula '=A2\*2' has no stored value; open and save"):
        read_rows(saved(book, tmp_path / "t.xlsx"))


def test_what_is_wrong_with_a_workbook_is_told(tmp_path, book):
    with pytest.raises(DataError, match="has no rows in its first sheet"):
        read_rows(saved(book, tmp_path / "t.xlsx"))
    book.active.append(("a", "a"))
    book.active.append((1, 2))
    with pytest.raises(DataError, match="line 1: the column 'a' is named twice"):
        read_rows(saved(book, tmp_path / "t.xlsx"))
    content = bytearray((tmp_path / "t.xlsx").read_bytes())
    content[60:400] = bytes(340)
    (tmp_path / "t.xlsx").write_bytes(content)
    with pytest.raises(DataError, match=r"is a damaged workbook|is an archive"):
        read_rows(tmp_path / "t.xlsx")


def test_without_openpyxl_it_is_said_what_to_do(tmp_path, book, monkeypatch):
    book.active.append(("a",))
    saved(book, tmp_path / "t.xlsx")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(MissingExtraError, match=r"t.xlsx is a workbook, .* pip install 'fastadapt\[sheets\]', or save"):
        read_rows(tmp_path / "t.xlsx")


def written(table, path):
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    parquet.write_table(arrow.table(table), path)
    return path


def test_parquet_is_read_as_it_is_stored(tmp_path):
    columns = dict(zip(ROWS[0], map(list, zip(*ROWS[1:], strict=True)), strict=True))
    columns["price"] = [1.5, 1e-7, 7602.0]
    rows = read_rows(written({**columns, "__index_level_0__": [5, 6, 7]}, tmp_path / "t.parquet"))
    assert rows.header == (*ROWS[0], "column 6") and rows.lines == [1, 2, 3]
    assert rows.cells == [[*TEXTS[0], "5"], [*TEXTS[1], "6"], ["c", "7602.0", "", "true", "red", "7"]]


def test_other_types_of_parquet(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    times = arrow.array([1711843200000000001, None], arrow.timestamp("ns"))
    table = {"t": times, "c": arrow.array(["a", "b"]).dictionary_encode(), "x": arrow.array([None, float("nan")])}
    rows = read_rows(written({**table, "d": arrow.array([1, 2], arrow.decimal128(9, 2))}, tmp_path / "t.parquet"))
    assert rows.cells == [["2024-03-31", "a", "", "1.00"], ["", "b", "", "2.00"]]


def test_what_is_wrong_with_a_parquet_file_is_told(tmp_path):
    path = written({"a": [[1, 2], [3]], "b": [1, 2]}, tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"column 'a' holds list<.*, no single values; leave it out"):
        read_rows(path)
    path.write_bytes(b"PAR1" + bytes(40) + b"PAR1")
    with pytest.raises(DataError, match="is a damaged Parquet file"):
        read_rows(path)


def test_without_pyarrow_it_is_said_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "t.parquet").write_bytes(b"PAR1" + bytes(40) + b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"is a Parquet file, .* pip install 'fastadapt\[parquet\]', or save"):
        read_rows(tmp_path / "t.parquet")


def test_another_archive_is_no_workbook(tmp_path):
    import zipfile

    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("t.csv", "a,b\n1,2\n")
    (tmp_path / "t.zip").write_bytes(held.getvalue())
    with pytest.raises(DataError, match="is an archive"):
        read_rows(tmp_path / "t.zip")


def with_xml(path, old, new):
    """Write the first sheet's XML anew."""
    import re
    import zipfile

    with zipfile.ZipFile(path) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    sheet = "xl/worksheets/sheet1.xml"
    changed = re.sub(old, new, parts[sheet])
    assert changed != parts[sheet]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**parts, sheet: changed}.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("size", [b"A1", b"A1:B2", b"B2:B3", b"A1:Z999", b"A5:B6"])
def test_what_a_sheet_says_of_its_size_cuts_nothing_off(tmp_path, book, size):
    for row in (("a", "b", "c"), (1, 2, None), (3, 4, 5), (6, 7, 8)):
        book.active.append(row)
    path = with_xml(saved(book, tmp_path / "t.xlsx"), rb'<dimension ref="[^"]*"', b'<dimension ref="' + size + b'"')
    rows = read_rows(path)
    assert rows.header == ("a", "b", "c") and rows.cells == [["1", "2", ""], ["3", "4", "5"], ["6", "7", "8"]]


@pytest.mark.parametrize("place", ["B2:B2", "A2:B2", "B2:B3"])
def test_an_array_formula_without_its_value_is_no_missing_value(tmp_path, book, place):
    from openpyxl.worksheet.formula import ArrayFormula

    for row in (("a", "b"), (1, None), (2, None)):
        book.active.append(row)
    book.active[place.split(":")[0]] = ArrayFormula(place, "=SUM(A2:A3)")
    with pytest.raises(DataError, match=r"line 2: the formula '=SUM\(A2:A3\)' has no stored value") as caught:
        read_rows(saved(book, tmp_path / "t.xlsx"))
    assert "damaged" not in str(caught.value)


def test_a_formula_whose_text_is_empty_is_a_missing_value(tmp_path, book):
    for row in (("a", "b"), (1, "=T(A2)"), (2, "x")):
        book.active.append(row)
    path = saved(book, tmp_path / "t.xlsx")
    with_xml(path, rb'<c r="B2"([^>]*)><f>([^<]*)</f><v ?/?>(</v>)?', rb'<c r="B2" t="str"><f>\2</f><v></v>')
    assert read_rows(path).cells == [["1", ""], ["2", "x"]]


def test_the_value_of_merged_cells_is_that_of_each_row_and_it_is_said(tmp_path, book):
    for row in (("region", "a", "b"), ("n", 1, 2), (None, 3, 4), (None, 5, 6), ("s", 7, 8), (None, 9, None)):
        book.active.append(row)
    for cells in ("A2:A4", "A5:A6"):
        book.active.merge_cells(cells)
    path = saved(book, tmp_path / "t.xlsx")
    rows = read_rows(path)
    assert rows.column("region") == ["n", "n", "n", "s", "s"]
    assert rows.notes == (
        f"{path}: the cells A2:A4, A5:A6 are merged, and their value is taken for each of their rows",
    )
    book.active.merge_cells("B6:C6")
    rows = read_rows(saved(book, path))
    assert rows.cells[-1] == ["s", "9", ""] and "B6:C6 are merged across columns" in rows.notes[1]


def test_merged_cells_above_and_below_the_table_say_nothing(tmp_path, book):
    book.active.append(("a", "b"))
    book.active.append((1, 2))
    book.active.merge_cells("A5:B7")
    rows = read_rows(saved(book, tmp_path / "t.xlsx"))
    assert rows.cells == [["1", "2"]] and rows.notes == ()


def test_a_date_that_no_calendar_has_is_told(tmp_path, book):
    for row in (("a", "day"), (1, datetime.date(2024, 3, 31)), (2, datetime.date(2024, 4, 1))):
        book.active.append(row)
    path = with_xml(saved(book, tmp_path / "t.xlsx"), rb"<v>45382</v>", b"<v>99999999</v>")
    [note] = read_rows(path).notes
    assert "Cell B2 is marked as a date but the serial value 99999999" in note and "counts as missing" in note
