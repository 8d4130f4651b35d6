"""Faces too many for memory: pixels in several .npy files that are mapped, what is known of them in one .npz."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastadapt.data.files import shown
from fastadapt.errors import ConfigError, DataError

PEOPLE = "people.npz"
"""The file of a sharded pack that holds everything but the pixels."""


class Shards:
    """Behave as one array `[M, S, S]` of uint8 for row numbers, over files that are read where they are asked for.

    Args:
        parts: arrays `[m, S, S]`, memory-mapped or not, whose rows follow one another.

    Raises:
        DataError: if there are none, or they differ in size or kind.

    Example:
        >>> both = Shards([np.zeros((2, 4, 4), np.uint8), np.ones((3, 4, 4), np.uint8)])
        >>> both.shape, both[np.array([4, 0])][:, 0, 0].tolist()
        ((5, 4, 4), [1, 0])
    """

    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        sizes = {(part.shape[1:], part.dtype.name) for part in parts}
        if len(sizes) != 1 or any(part.ndim != 3 or part.dtype != np.uint8 for part in parts):
            raise DataError(f"shards of faces are [m, S, S] of uint8, all alike, got {sorted(map(str, sizes))}")
        self.parts = list(parts)
        self.ends = np.cumsum([len(part) for part in parts])

    @property
    def shape(self) -> tuple[int, ...]:
        """`(M, S, S)`."""
        return int(self.ends[-1]), *self.parts[0].shape[1:]

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, rows: Any) -> np.ndarray:
        if isinstance(rows, slice):
            rows = np.arange(len(self))[rows]
        numbers = np.atleast_1d(np.asarray(rows))
        if len(numbers) and (numbers.min() < 0 or numbers.max() >= len(self)):
            raise IndexError(f"rows are 0..{len(self) - 1}, got {numbers.min()}..{numbers.max()}")
        found = np.empty((len(numbers), *self.shape[1:]), np.uint8)
        which = np.searchsorted(self.ends, numbers, "right")
        for part in np.unique(which):
            own = which == part
            found[own] = self.parts[part][numbers[own] - (self.ends[part] - len(self.parts[part]))]
        return found if np.ndim(rows) else found[0]


def read_shards(folder: Path) -> Shards:
    """Return the pixels of a sharded pack, mapped: `pixels-*.npy` in the order of their names.

    Raises:
        DataError: if there is none, or one can't be read.
    """
    files = sorted(folder.glob("pixels-*.npy"))
    parts = []
    for file in files:
        try:
            parts.append(np.load(file, mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"can't read {shown(file)} as a shard of faces: {str(error).splitlines()[0]}") from error
    if not parts:
        raise DataError(f"{shown(folder)} has {PEOPLE} and no pixels-*.npy beside it; put the shards there")
    return Shards(parts)


def write_shards(folder: Path, arrays: dict[str, np.ndarray], size: int) -> list[Path]:
    """Write a pack as shards of `size` images each, and return the files.

    Args:
        folder: where they go; made if it is not there.
        arrays: those of a pack, as `fastadapt.data.domains.face_files` reads them.
        size: images of a shard.

    Raises:
        ConfigError: if a shard would hold nothing.
    """
    if size < 1:
        raise ConfigError(f"a shard holds at least 1 image, got {size}")
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    images = arrays["images"]
    for number, first in enumerate(range(0, len(images), size)):
        files.append(folder / f"pixels-{number:05d}.npy")
        np.save(files[-1], images[first : first + size])
    np.savez(folder / PEOPLE, **{name: value for name, value in arrays.items() if name != "images"})  # type: ignore[arg-type]
    return [*files, folder / PEOPLE]
