"""How much one server takes on: of one request, of one user, of all of them."""

import os
import unicodedata
from dataclasses import dataclass, fields

from fastadapt.data.images.images import MOST_BYTES, MOST_PIXELS
from fastadapt.errors import ConfigError
from fastadapt.serve.problems import Problem

_JOINER = "\u200d"  # holds the parts of one emoji together, and is no printable character by itself


def _cores() -> int:
    return max(2, min(8, (os.cpu_count() or 2) - 1))


@dataclass(frozen=True)
class Limits:
    """Hold every limit of a server.

    Args:
        body_bytes: of a request.
        body_seconds: until all of it has arrived.
        image_bytes: of one image file.
        pixels: of one image.
        images: of one task.
        shots: samples of one class.
        queries: images asked about in one request.
        points: rows of a regression task, and points asked about in one request.
        steps: inner steps.
        side: pixels a side at which a photograph is fitted.
        sound_seconds: of a sound that are fitted.
        seconds: of computing for one request.
        job_bytes: of memory that one adaptation may be expected to take.
        name_length: characters of a class's name.
        ttl_seconds: how long an unused task is kept.
        tasks: how many tasks are kept; the one unused for longest goes first.
        store_bytes: of memory that all kept tasks take together.
        archive_bytes: of an uploaded zip when unpacked.
        archive_ratio: how many times larger than packed it may be.
        workers: threads that compute.
        queue: requests that wait for one of them.

    Raises:
        ConfigError: if one is not above 0.
    """

    body_bytes: int = 8_000_000
    body_seconds: float = 60.0
    image_bytes: int = MOST_BYTES
    pixels: int = MOST_PIXELS
    images: int = 400
    shots: int = 10
    queries: int = 64
    points: int = 1000
    steps: int = 50
    side: int = 128
    sound_seconds: float = 3.0
    seconds: float = 10.0
    job_bytes: int = 1_000_000_000
    name_length: int = 60
    ttl_seconds: float = 1800.0
    tasks: int = 100
    store_bytes: int = 256_000_000
    archive_bytes: int = 64_000_000
    archive_ratio: int = 100
    workers: int = _cores()
    queue: int = 64

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise ConfigError(f"the limit {field.name} must be above 0, got {value}")

    def check_count(self, found: int, most: int, what: str, field: str, status: int = 422) -> None:
        """Raise `Problem` "too_many_<what>" if there are more than allowed."""
        if found > most:
            code = f"too_many_{what.replace(' ', '_')}"
            raise Problem(status, code, f"there are {found} {what}, the most allowed are {most}; send fewer", field)

    def check_name(self, name: str, field: str) -> str:
        """Return a class's name, composed (NFC) and without spaces around it.

        It is shown to people and used in archives, and never as a path.

        Raises:
            Problem: if it is empty, too long, or has characters that are control, invisible or part of paths.
        """
        clean = unicodedata.normalize("NFC", name).strip()
        if not clean or len(clean) > self.name_length:
            raise Problem(
                422,
                "bad_name",
                f"a class's name has 1 to {self.name_length} characters, this one has {len(clean)}; choose another",
                field,
            )
        bad = next((c for c in clean if c in "/\\" or not (c.isprintable() or c == _JOINER)), None)
        hidden = clean.startswith(".") or clean == "__MACOSX"  # an archive's readers pass over such folders
        if bad is not None or hidden:
            what = "a dot at its beginning" if bad is None and clean.startswith(".") else ascii(bad or clean)
            raise Problem(
                422,
                "bad_name",
                f"a class's name can't hold {what}: use letters, digits, spaces and signs other than slashes",
                field,
            )
        return clean
