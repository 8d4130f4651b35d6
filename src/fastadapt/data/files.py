"""Files that a user names: read within a limit, and spoken of in sentences.

* `read_file`: the bytes of one regular file, or a `DataError` that says why not.
* `shown`: a path as it may be printed; `as_word`: as it may be typed.
* `complain`: one error for one or many problems.
"""

import errno
import os
import shlex
import stat
from collections.abc import Sequence
from pathlib import Path

from fastadapt.errors import DataError

_REASONS = {
    errno.ENOENT: "there is no such file; check the path",
    errno.ENOTDIR: "a part of its path is not a folder; check the path",
    errno.EACCES: "reading it is not permitted; change its permissions",
    errno.EPERM: "reading it is not permitted; change its permissions",
    errno.ELOOP: "it is a symbolic link that leads back to itself; give the file itself",
    errno.ENAMETOOLONG: "its name is longer than the file system allows; check the path",
}
_LONGEST = 160  # characters of a path in a message
_LISTED = 10  # problems in a message


def read_file(path: str | Path, *, limit: int, kind: str) -> bytes:
    """Return the content of a regular file.

    Args:
        path: the file.
        limit: the most bytes it may have.
        kind: what it should be, with its article, for the messages: "an image".

    Raises:
        DataError: if it is missing, a folder, a device, not readable, empty or larger than `limit`.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     _ = file.write(b"x,y"), file.flush()
        ...     read_file(file.name, limit=10, kind="a table")
        b'x,y'
    """
    path = Path(path)
    content = b""
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):  # opening a pipe would wait for ever
            with path.open("rb") as file:
                content = file.read(limit + 1)
    except OSError as error:
        raise DataError(f"can't read {shown(path)}: {reason(error)}") from error
    except ValueError as error:  # a path with a NUL in it
        raise DataError(f"can't read {shown(path)}: {error}; check the path") from error
    if not stat.S_ISREG(mode):
        problem = (
            "it is a folder; give the files in it" if stat.S_ISDIR(mode) else "it is not a regular file; give a file"
        )
        raise DataError(f"can't read {shown(path)} as {kind}: {problem}")
    if not content:
        raise DataError(f"can't read {shown(path)} as {kind}: the file is empty; remove or replace it")
    if len(content) > limit:
        raise DataError(f"{shown(path)} is larger than {limit / 1e6:g} MB, the limit for {kind}; make it smaller")
    return content


def reason(error: OSError) -> str:
    """Return what a failed read means and what to do about it."""
    return _REASONS.get(error.errno or 0, f"{error.strerror or error}; check the disk and the path")


class _Shown(str):
    """A text for a message; in quotes its escapes are not escaped once more."""

    raw: str

    def __repr__(self) -> str:
        return repr(self.raw)


def shown(path: str | Path) -> str:
    r"""Return a path for a message: control and undecodable characters escaped, a very long one shortened.

    Example:
        >>> shown("drawings/alpha/a.png"), shown("two" + chr(10) + "lines.png")
        ('drawings/alpha/a.png', 'two\nlines.png')
    """
    raw = path.raw if isinstance(path, _Shown) else str(path)
    text = _Shown(_shortened("".join(c if c.isprintable() else _escaped(c) for c in raw)))
    text.raw = _shortened(raw)
    return text


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()


def _shortened(text: str) -> str:
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]}...{text[-half:]}"


def as_word(path: str | Path) -> str:
    r"""Return a path as a word of a command line that a shell reads back, however long or odd it is.

    Example:
        >>> as_word("my photos"), as_word("-5"), as_word("two" + chr(10) + "lines")
        ("'my photos'", './-5', "$'two\\x0alines'")
    """
    text = str(path)
    text = f"./{text}" if text.startswith("-") else text
    if text.isprintable():
        return shlex.quote(text)
    plain = range(ord(" "), ord("~") + 1)
    return "$'" + "".join(chr(b) if b in plain and b not in b"'\\" else f"\\x{b:02x}" for b in os.fsencode(text)) + "'"


def complain(problems: Sequence[str], where: str) -> DataError:
    """Return the error for what is wrong: the sentence itself if it is one, a list of the first ten if it is more.

    Args:
        problems: at least one sentence.
        where: what they are problems of, for the first line.

    Example:
        >>> print(complain(["a.png is empty", "b.png is text"], "drawings"))
        drawings has 2 problems:
          a.png is empty
          b.png is text
    """
    if len(problems) == 1:
        return DataError(problems[0])
    rest = len(problems) - _LISTED
    lines = [f"{where} has {len(problems)} problems:", *problems[:_LISTED], *([f"and {rest} more"] if rest > 0 else [])]
    return DataError("\n  ".join(lines))
