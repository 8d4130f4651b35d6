"""Encodings: the mark, then UTF-8, then what was named; nothing else in silence."""

import codecs

import pytest

from fastadapt.data.tables.decoding import decoded
from fastadapt.errors import DataError

TEXT = "größe,colour\n1,türkis\n2,grün\n"


@pytest.mark.parametrize("named", ["auto", "cp1252", "utf-16", "latin-1"])
@pytest.mark.parametrize(
    ("mark", "codec"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_a_mark_wins(mark, codec, named):
    assert decoded(mark + TEXT.encode(codec), named, "t.csv") == (TEXT, [])


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_its_mark(codec):
    assert decoded(TEXT.encode(codec), "auto", "t.csv") == (
        TEXT,
        ["t.csv is read as UTF-16, which it looks like without its mark"],
    )
    assert decoded(TEXT.encode(codec), "utf-16", "t.csv") == (TEXT, [])


def test_valid_utf_8_wins_and_it_is_said():
    assert decoded(TEXT.encode(), "auto", "t.csv") == (TEXT, [])
    assert decoded(TEXT.encode(), "cp1252", "t.csv") == (TEXT, ["t.csv is valid UTF-8 and is read so, not as cp1252"])
    assert decoded(b"a,b\n1,2\n", "cp1252", "t.csv") == ("a,b\n1,2\n", [])


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "€,é\n"),
        ("cp1250", "zł,ř\n"),
        ("cp1251", "цена\n"),
        ("mac-roman", "é,ü\n"),
        ("shift-jis", "値段\n"),
        ("gb18030", "价格\n"),
        ("big5", "價格\n"),
        ("euc-kr", "가격\n"),
    ],
)
def test_what_is_named_is_taken(encoding, text):
    content = text.encode(encoding)
    assert decoded(content, encoding, "t.csv")[0] == text
    with pytest.raises(DataError, match=r"t.csv is not UTF-8 text .* name its --encoding"):
        decoded(content, "auto", "t.csv")


def test_a_further_table_is_read_as_that_of_the_training():
    content = TEXT.encode("cp1252")
    told = ["t.csv is not UTF-8 and is read as cp1252, in which the training table was written"]
    assert decoded(content, "auto", "t.csv", usual="cp1252") == (TEXT, told)
    assert decoded(TEXT.encode(), "auto", "t.csv", usual="cp1252") == (TEXT, [])
    with pytest.raises(DataError, match="is not UTF-8 text"):
        decoded(content, "auto", "t.csv", usual="utf-16")


def test_letters_are_composed():
    assert decoded("gru\u0308n".encode(), "auto", "t.csv")[0] == "grün"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x1f\x8b\x08\x00", "is compressed"),
        (b"%PDF-1.7", "is a PDF"),
        (b"\xd0\xcf\x11\xe0", "an old spreadsheet"),
        (b"PK\x03\x04", "is an archive"),
        (b"a,b\n1,\x00\n", "holds NUL characters"),
        (b"\xff\xfea", "is not UTF-16 text"),
    ],
)
def test_what_is_no_text(content, says):
    with pytest.raises(DataError, match=says):
        decoded(content, "auto", "t.csv")
