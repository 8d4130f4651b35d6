"""A task as a zip: read within limits, as it streams out of the packed bytes, and written.

Nothing is unpacked to a disk and no name in an archive becomes a path.
"""

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator

from fastadapt.serve.limits import Limits
from fastadapt.serve.problems import Problem

FIELD = "archive"
_CHUNK = 1 << 16
_END = struct.Struct("<4s4H2LH")  # the end record of a zip
_MOST_LISTING = 1_000_000  # bytes of the list of members
_SMALL = 1_000_000  # below this a high ratio harms nobody
_OVERHEAD = 2  # entries for each image: a folder, or what an operating system adds
_EPOCH = (1980, 1, 1, 0, 0, 0)  # no clock: the same task gives the same bytes


def read_archive(content: bytes, limits: Limits) -> list[tuple[str, str, bytes]]:
    """Return `(class, file name, bytes)` of every `CLASS/NAME` in a zip, in its order.

    One folder around all classes is allowed; hidden files, what an operating system adds, and the `task.json` in which
    the page keeps strokes are passed over.

    Raises:
        Problem: 400 if it is no such zip; 413 if it unpacks to more than is allowed.
    """
    _check_listing(content)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _named(list(_members(archive, limits)))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        raise _bad(f"can't be unpacked ({str(error)[:80] or type(error).__name__})") from None


def write_archive(members: Iterable[tuple[str, bytes]]) -> bytes:
    """Return a zip of `(name, content)`."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def _bad(what: str) -> Problem:
    return Problem(400, "bad_archive", f"the archive {what}; send a zip of images in one folder for each class", FIELD)


def _check_listing(content: bytes) -> None:
    """Refuse a zip by its end record, before the list of members, which may be long, is read."""
    at = content.rfind(b"PK\x05\x06")
    if not content.startswith(b"PK") or at < 0 or len(content) - at < _END.size:
        raise _bad("is not a zip")
    size = _END.unpack_from(content, at)[5]
    if b"PK\x06\x06" in content[max(0, at - 200) : at] or size > _MOST_LISTING:
        raise Problem(413, "archive_too_large", "the archive lists far too many files; send fewer", FIELD)


def _members(archive: zipfile.ZipFile, limits: Limits) -> Iterator[tuple[list[str], bytes]]:
    listed = archive.infolist()
    if len(listed) > _OVERHEAD * limits.images + 100:
        raise Problem(413, "archive_too_large", f"the archive lists {len(listed)} files; send fewer", FIELD)
    total = 0
    for info in listed:
        parts = [part for part in info.filename.split("/") if part]
        if info.is_dir() or not parts or _passed_over(parts):
            continue
        if stat.S_ISLNK(info.external_attr >> 16):
            raise _bad("holds a symbolic link")
        if info.flag_bits & 1:
            raise _bad("is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _bad("is packed by another method than deflate")
        content = _unpacked(archive, info, limits, total)
        total += len(content)
        yield parts, content


def _passed_over(parts: list[str]) -> bool:
    hidden = any((part.startswith(".") and part.strip(".")) or part == "__MACOSX" for part in parts)
    return hidden or parts == ["task.json"]


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limits: Limits, before: int) -> bytes:
    """Return one member: refused at once if it says that it is too large, and not believed if it says otherwise."""
    _check_size(info.file_size, info, limits, before)
    content = bytearray()
    with archive.open(info) as file:
        while chunk := file.read(_CHUNK):
            content += chunk
            _check_size(len(content), info, limits, before)
    return bytes(content)


def _check_size(size: int, info: zipfile.ZipInfo, limits: Limits, before: int) -> None:
    if size > min(limits.image_bytes, limits.archive_bytes - before):
        raise Problem(
            413,
            "archive_too_large",
            f"the archive unpacks to more than {limits.archive_bytes // 1_000_000} MB, or one file in it to "
            f"more than {limits.image_bytes // 1_000_000} MB; send fewer or smaller images",
            FIELD,
        )
    if size > max(_SMALL, limits.archive_ratio * max(1, info.compress_size)):
        raise Problem(
            413,
            "archive_too_large",
            f"a file in the archive is more than {limits.archive_ratio} times larger than packed, "
            "which no image is; send images",
            FIELD,
        )


def _named(members: list[tuple[list[str], bytes]]) -> list[tuple[str, str, bytes]]:
    outer = {parts[0] for parts, _ in members}
    if members and len(outer) == 1 and all(len(parts) == 3 for parts, _ in members):
        members = [(parts[1:], content) for parts, content in members]
    if wrong := next((parts for parts, _ in members if len(parts) != 2), None):
        raise _bad(f"holds {'/'.join(wrong)[:80]!a}, which is not CLASS/NAME")
    if not members:
        raise _bad("holds no images")
    return [(parts[0], parts[1], content) for parts, content in members]
