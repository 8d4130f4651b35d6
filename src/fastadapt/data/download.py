"""Where data files lie on this machine, and how missing ones are fetched.

* `data_folders`: the folders in which a data set is looked for.
* `download`: fetch one file, resume what is there, check it, then put it in place at once.
"""

import hashlib
import http.client
import logging
import os
import ssl
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

from fastadapt.cache import cache_folder
from fastadapt.errors import ConfigError, DataError, DownloadError

logger = logging.getLogger(__name__)

_BLOCK = 1 << 18


class _TransferError(Exception):
    """The transfer broke in a way that another attempt may mend."""


def data_folders(name: str, root: str | Path | None = None) -> list[Path]:
    """Return the folders in which data set `name` may lie, the first to be tried first.

    Args:
        name: the folder name of the data set, for example "omniglot".
        root: the data set's folder or the folder that contains it; if given, nothing else is
            tried. `None` tries `FASTADAPT_DATA`, then `cache_folder()`.

    Raises:
        DataError: if `root` is given and isn't a folder.

    Example:
        >>> [folder.as_posix() for folder in data_folders("omniglot", ".")]
        ['omniglot', '.']
    """
    if root is not None:
        root = Path(root).expanduser()
        if not root.is_dir():
            raise DataError(f"the data folder {root} does not exist or is not a folder; check the path")
        return [root / name, root]
    given = os.environ.get("FASTADAPT_DATA")
    bases = [Path(given).expanduser()] if given else []
    if (cache := cache_folder()) is not None:
        bases.append(cache)
    return [folder for base in bases for folder in (base / name, base)]


def download(
    url: str,
    path: str | Path,
    *,
    checksum: str,
    algorithm: str = "md5",
    retries: int = 4,
    timeout: float = 30.0,
    backoff: float = 1.0,
) -> Path:
    """Fetch `url` to `path`, continuing an earlier attempt where the server allows it.

    Bytes arrive in `path` + ".part"; only a complete file with the right checksum is renamed to
    `path`. A file already at `path` is returned as it is, so one put there by hand is respected.

    Args:
        url: an http or https address.
        path: the file to write; its folder is created.
        checksum: the published digest, hexadecimal.
        algorithm: the name of the digest in `hashlib`.
        retries: how often a broken transfer is tried again.
        timeout: seconds without a byte after which an attempt counts as broken.
        backoff: seconds before the first retry; doubled for each further one, at most 30.

    Returns:
        `path`.

    Raises:
        ConfigError: if the address or the algorithm isn't supported.
        DownloadError: if the file can't be fetched or written, or has another checksum.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "there.zip")
        >>> _ = path.write_bytes(b"put there by hand")
        >>> download("https://example.org/there.zip", path, checksum="0" * 32) == path
        True
    """
    path = Path(path)
    if not url.lower().startswith(("http://", "https://")):
        raise ConfigError(f"can only download http and https addresses, got {url!r}")
    if algorithm not in hashlib.algorithms_available:
        raise ConfigError(f"hashlib does not know the checksum algorithm {algorithm!r}; use for example 'sha256'")
    if path.exists():
        return path
    part = path.with_name(path.name + ".part")
    advice = f"fetch it by hand and put it at {path}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        problem = "no attempt was made"
        for attempt in range(retries + 1):
            if attempt:
                wait = min(backoff * 2 ** (attempt - 1), 30.0)
                logger.warning("download of %s: %s; next attempt in %.1f s", url, problem, wait)
                time.sleep(wait)
            try:
                resumed = _fetch(url, part, timeout, advice)
            except _TransferError as error:
                problem = str(error)
                continue
            found = _digest(part, algorithm)
            if found == checksum.lower():
                part.replace(path)
                return path
            part.unlink(missing_ok=True)
            problem = f"what arrived has {algorithm} {found}, published is {checksum}"
            if not resumed:  # a whole file that is wrong will be wrong again
                break
    except OSError as error:
        raise DownloadError(f"can't write the download of {url}: {error}; free space or use another folder") from error
    raise DownloadError(f"can't download {url}: {problem}; {advice}")


def _fetch(url: str, part: Path, timeout: float, advice: str) -> bool:
    """Bring `part` to its full length; return whether it began with bytes of an earlier attempt."""
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "fastadapt"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            resumed = response.status == 206
            if resumed and not (response.headers.get("Content-Range") or "").startswith(f"bytes {start}-"):
                part.unlink()
                raise _TransferError("the server answered with another range than asked for")
            _copy(response, part, start if resumed else 0)
            return resumed
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and start:
            return True  # nothing is left to fetch; the checksum tells whether the file is whole
        problem = f"the server answered {error.code} {error.reason}"
        if error.code in (408, 425, 429) or error.code >= 500:
            raise _TransferError(problem) from error
        raise DownloadError(f"can't download {url}: {problem}; {advice}") from error
    except urllib.error.URLError as error:
        raise _TransferError(f"no connection ({error.reason})") from error
    except (TimeoutError, ConnectionError, ssl.SSLError, http.client.HTTPException) as error:
        raise _TransferError(f"the connection broke ({error or type(error).__name__})") from error


def _copy(response: http.client.HTTPResponse, part: Path, start: int) -> None:
    length = response.headers.get("Content-Length")
    size = start
    with part.open("ab" if start else "wb") as file:
        # read(n) returns a short block, not an error, where the connection ends early
        while block := response.read(_BLOCK):
            file.write(block)
            size += len(block)
    if length is not None and size != start + int(length):
        raise _TransferError(f"the connection ended after {size} of {start + int(length)} bytes")


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part.

    Raises:
        OSError: if the folder can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
