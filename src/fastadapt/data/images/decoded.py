"""A decoded copy of many images: one file of raw bytes that is mapped into memory, and an index beside it.

Pages are read from the disk when an image on them is first drawn, and processes share them. The index comes last and
has a checksum of every block, so a copy is complete or it is not used; opening one looks at a few blocks, not at all.
"""

import json
import logging
import math
import os
import random
import shutil
import time
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastadapt.data.download import write_atomically
from fastadapt.data.files import shown

logger = logging.getLogger(__name__)

_CHECKED = 16  # blocks that are read at each opening
_ABANDONED = 3600.0  # seconds after which a draft that nobody writes to belongs to a process that is gone


def write_decoded(path: Path, blocks: Iterable[np.ndarray], shape: tuple[int, ...], facts: dict[str, Any]) -> None:
    """Write images, block by block, so that a reader sees all of them or none.

    The file is written from front to back rather than through a map: on a full disk that is an error one can
    catch, where a map ends the process.

    Args:
        path: where to; the index is `path` with the suffix ".json".
        blocks: uint8 arrays `[b, ...]`, of equal `b` but for the last.
        shape: of all images together, `[M, ...]`.
        facts: what else the index is to keep, as JSON has it.

    Raises:
        OSError: if it can't be written; what was there before is unchanged.
        ValueError: if the blocks together don't have `shape`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    sums: list[int] = []
    sizes: list[int] = []
    try:
        with draft.open("wb") as file:
            for block in blocks:
                content = np.ascontiguousarray(block).data.cast("B")
                file.write(content)
                sums.append(zlib.crc32(content))
                sizes.append(len(content))
            file.flush()
            os.fsync(file.fileno())
        if sum(sizes) != math.prod(shape):
            raise ValueError(f"{sum(sizes)} bytes were decoded where {list(shape)} needs {math.prod(shape)}")
        draft.replace(path)
        index = {"shape": shape, "block": sizes[0], "crc32": sums, **facts}
        write_atomically(path.with_suffix(".json"), json.dumps(index).encode())
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def read_decoded(path: Path) -> tuple[Tensor, dict[str, Any]] | None:
    """Return the images and the index, or None where there is none or it is damaged.

    The size and up to 16 blocks drawn at random are checked: what a crash, a full disk or a copy cut off leaves is
    found at once, a flipped bit elsewhere perhaps at a later start.

    Args:
        path: what `write_decoded` was given.

    Returns:
        The images, mapped: writing to the tensor changes this process's copy and never the file; and the index.
    """
    try:
        index = json.loads(path.with_suffix(".json").read_bytes())
        shape, block, sums = [int(side) for side in index["shape"]], int(index["block"]), index["crc32"]
        size, found = math.prod(shape), path.stat().st_size
        if found != size or min(*shape, block) < 1 or len(sums) != -(-size // block):
            raise ValueError(f"it has {found} bytes, its index speaks of {size} in {len(sums)} blocks")
        with path.open("rb") as file:
            # a generator of its own: no one's seed is touched, and every start looks elsewhere
            for number in random.SystemRandom().sample(range(len(sums)), min(_CHECKED, len(sums))):
                file.seek(number * block)
                if zlib.crc32(file.read(block)) != sums[number]:
                    raise ValueError(f"the checksum of block {number} differs")
        return torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8).view(shape), index
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        logger.warning("the decoded copy %s can't be used (%s): decoding again", shown(path), error)
        return None


def room_for(folder: Path, size: int) -> str | None:
    """Return None if `size` bytes fit on the disk of `folder`, else how many are needed and free."""
    place = next((path for path in (folder, *folder.parents) if path.is_dir()), None)
    try:
        free = shutil.disk_usage(place).free if place is not None else 0
    except OSError:
        return None
    return None if free > size else f"it takes {size / 1e6:,.0f} MB and {free / 1e6:,.0f} MB are free"


def _sweep(folder: Path) -> None:
    """Remove drafts of processes that were killed: they are large."""
    with suppress(OSError):
        for path in folder.glob(".*.tmp"):
            if time.time() - path.stat().st_mtime > _ABANDONED:
                path.unlink(missing_ok=True)
