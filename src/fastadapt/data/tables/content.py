"""Whether a table is the one that a run was trained on: by what it says, not by how its lines end."""

import codecs
import hashlib
from collections.abc import Iterator
from pathlib import Path

_ENDS = ("\n", "\r\n", "\r")
_WRITTEN = {"utf-8": b"", "utf-8 ": codecs.BOM_UTF8, "utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}
"""How characters are written, with the mark that says so; a text of one is tried in all of them."""


def same_table(path: Path, sha256: str) -> bool:
    r"""Return whether a file is the one with that digest, its line ends, last line end and Unicode form left aside.

    A copy by way of another system, of git or of an editor changes these, and no row.

    Args:
        path: the file.
        sha256: of the bytes of the file that was used before.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     _ = file.write(b"shop,price\r\na,1\r\n"), file.flush()
        ...     same_table(Path(file.name), hashlib.sha256(b"shop,price\na,1\n").hexdigest())
        True
    """
    return any(hashlib.sha256(spelling).hexdigest() == sha256 for spelling in _spellings(path.read_bytes()))


def _spellings(content: bytes) -> Iterator[bytes]:
    """Yield the file, and the same lines as other programs write them."""
    yield content
    own = next((code for code, mark in _WRITTEN.items() if mark and content.startswith(mark)), "utf-8")
    try:
        text = content.removeprefix(_WRITTEN[own]).decode(own.strip())
        codes = dict(_WRITTEN)
    except UnicodeDecodeError:  # of one byte a character, such as cp1252: only its lines are known
        text, codes = content.decode("latin-1"), {"latin-1": b""}
    lines = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")
    for end in _ENDS:
        body = lines.replace("\n", end)
        for code, mark in codes.items():
            for last in ("", end):
                yield mark + (body + last).encode(code.strip())
