"""Files and folders that are either complete or absent, whatever interrupts the writing."""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fastadapt.errors import CheckpointError

_OLD = ".fastadapt.old.tmp"


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk itself."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def explain(error: OSError, path: Path) -> CheckpointError:
    """Return the error a user can act on for a failed write to `path`."""
    parent = next((p for p in [path, *path.parents] if p.exists()), Path("/"))
    free = shutil.disk_usage(parent).free
    reason = {
        errno.ENOSPC: f"the disk is full ({free:,} bytes free)",
        errno.EDQUOT: "the disk quota is used up",
        errno.EROFS: "the file system is read-only",
        errno.EACCES: "permission is denied",
    }.get(error.errno or 0, error.strerror or str(error))
    return CheckpointError(f"could not write {path}: {reason}; what was there before is unchanged")


def write_text(path: Path, text: str, *, shared: bool = False) -> None:
    """Write a small file so that it is never seen half-written.

    Args:
        path: the file.
        text: what goes into it.
        shared: whether several processes may write it at the same time; what one that is killed leaves then stays.

    Raises:
        CheckpointError: if it can't be written; an earlier file at `path` is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp" if shared else f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # a name of other bytes than UTF-8 (Python has them as surrogates) is written with question marks
        with temporary.open("w", encoding="utf-8", errors="replace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise explain(error, path) from error


def write_folder(target: Path, fill: Callable[[Path], None]) -> None:
    """Fill a fresh folder and move it to `target` in one step: written, flushed, renamed, parent flushed.

    An existing `target` is replaced; it stays until the new one is complete.

    Raises:
        CheckpointError: if it can't be written; an earlier folder at `target` is unchanged.
    """
    # names that no one else uses: the target may stand in a folder of the user's
    temporary = target.with_name(f".{target.name}.fastadapt.tmp")
    replaced = target.with_name(f".{target.name}{_OLD}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        fill(temporary)
        for file in temporary.iterdir():
            sync(file)
        sync(temporary)
        if target.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            target.rename(replaced)
        temporary.rename(target)
        sync(target.parent)
        shutil.rmtree(replaced, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if replaced.exists() and not target.exists():
            replaced.rename(target)
        raise explain(error, target) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def put_back(leftover: Path) -> None:
    """Let a folder that was about to be replaced when the process was killed stand where it stood, if nothing does."""
    target = leftover.with_name(leftover.name.removeprefix(".").removesuffix(_OLD))
    if leftover.name.endswith(_OLD) and not target.exists():
        with suppress(OSError):
            leftover.rename(target)
