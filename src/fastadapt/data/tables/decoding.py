"""Bytes of a table as text: its mark wins, then UTF-8 where it is valid, then the encoding that was named."""

import codecs
import unicodedata
from typing import Literal

from fastadapt.errors import DataError

Encoding = Literal[
    "auto", "utf-8", "utf-16", "cp1250", "cp1251", "cp1252", "latin-1", "mac-roman", "gb18030", "big5", "shift-jis",
    "euc-kr",
]  # fmt: skip
_MARKS = {  # the longer ahead of the one that it begins with
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_KNOWN = {  # what a file begins with that is no text
    b"PK\x03\x04": "is an archive (a workbook of a spreadsheet?)",
    b"\xd0\xcf\x11\xe0": "is a workbook of an old spreadsheet (.xls)",
    b"\x1f\x8b": "is compressed (.gz)",
    b"BZh": "is compressed (.bz2)",
    b"\xfd7zXZ\0": "is compressed (.xz)",
    b"\x28\xb5\x2f\xfd": "is compressed (.zst)",
    b"\x04\x22\x4d\x18": "is compressed (.lz4)",
    b"\x1f\x9d": "is compressed (.Z)",
    b"7z\xbc\xaf\x27\x1c": "is an archive (.7z)",
    b"Rar!\x1a\x07": "is an archive (.rar)",
    b"%PDF": "is a PDF",
}


def decoded(content: bytes, encoding: Encoding, name: str, *, usual: Encoding | None = None) -> tuple[str, list[str]]:
    r"""Return the text, composed (NFC), and a sentence where the encoding is not the one that was named.

    Args:
        content: the file's bytes.
        encoding: what the user named; "auto" for nothing.
        name: the file, for messages.
        usual: the encoding of the file that a run was trained on, taken where nothing is named and UTF-8 is not valid.

    Raises:
        DataError: if the bytes are no text in any of these.

    Example:
        >>> decoded("größe".encode("cp1252"), "cp1252", "t.csv"), decoded(b"\xef\xbb\xbfa", "cp1252", "t.csv")[0]
        (('größe', []), 'a')
    """
    for start, what in _KNOWN.items():
        if content.startswith(start):
            raise DataError(f"{name} {what}; save the table as CSV")
    text, notes = _by_mark_or_rule(content, encoding, name, usual)
    if "\0" in text:
        raise DataError(f"{name} holds NUL characters, so it is not CSV; save the table as CSV in UTF-8")
    return unicodedata.normalize("NFC", text), notes


def _by_mark_or_rule(content: bytes, encoding: Encoding, name: str, usual: Encoding | None) -> tuple[str, list[str]]:
    mark = next((codec for start, codec in _MARKS.items() if content.startswith(start)), None)
    if mark is not None:
        return _decode(content, mark, name), []
    wide = _wide(content)
    if wide is not None:
        told = [] if encoding == "utf-16" else [f"{name} is read as UTF-16, which it looks like without its mark"]
        return _decode(content, wide, name), told
    if encoding == "utf-16":
        return _decode(content, encoding, name), []
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        if encoding == "auto" and usual not in (None, "auto", "utf-8", "utf-16"):
            told = f"{name} is not UTF-8 and is read as {usual}, in which the training table was written"
            return _decode(content, str(usual), name), [told]
        return _decode(content, "utf-8" if encoding == "auto" else encoding, name), []
    if text.isascii() or encoding in ("auto", "utf-8"):
        return text, []
    return text, [f"{name} is valid UTF-8 and is read so, not as {encoding}"]


def _wide(content: bytes) -> str | None:
    """Return the codec of UTF-16 without a mark: where letters are Latin, every other byte is 0."""
    even, odd = content[0:4000:2], content[1:4000:2]
    zeros = even.count(0), odd.count(0)
    if max(zeros) < 0.4 * len(even) or min(zeros) > 0.1 * len(even):
        return None
    return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"


def _decode(content: bytes, codec: str, name: str) -> str:
    try:
        return content.decode(codec)
    except UnicodeDecodeError as error:
        known = codec.removesuffix("-sig").upper()
        hint = "save the table as CSV in UTF-8, or name its --encoding, for example cp1252"
        raise DataError(f"{name} is not {known} text (byte {error.start}); {hint}") from error
