"""Features of a folder of pictures, written once: batch by batch, so that a kill costs no more than one batch."""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from fastadapt.atomic import explain, sync, write_text
from fastadapt.backbones.backbone import Backbone
from fastadapt.data.embeddings.arrays import as_bytes
from fastadapt.data.embeddings.embeddings import Embeddings
from fastadapt.data.files import shown
from fastadapt.data.images.decode import decode_blocks
from fastadapt.errors import ConfigError, DataError
from fastadapt.methods.features import features_of
from fastadapt.version import __version__

logger = logging.getLogger(__name__)
ENDINGS = (".safetensors", ".npz")
BATCH = 64
"""Pictures that go through at once, as `decode_blocks` yields them."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """Hold which pictures there are.

    Args:
        paths: the files, class by class.
        classes: the class of each.
        names: what each is called.
        digests: of the content of each.
        where: what they are pictures of, for messages.
        parts: the part of the split of each class, where the folder divides them.
    """

    paths: list[Path] = field(repr=False)
    classes: list[str] = field(repr=False)
    names: list[str] = field(repr=False)
    digests: list[str] = field(repr=False)
    where: str
    parts: dict[str, str] = field(default_factory=dict, repr=False)

    def only(self, numbers: "list[int] | range") -> "Pictures":
        """Return some of them."""
        classes, names, digests = ([column[i] for i in numbers] for column in (self.classes, self.names, self.digests))
        return Pictures([self.paths[i] for i in numbers], classes, names, digests, self.where, self.parts)

    def embeddings(self, features: np.ndarray, backbone: str) -> Embeddings:
        """Return the features with all that is known of the pictures."""
        words = sorted(set(self.classes))
        place = {word: number for number, word in enumerate(words)}
        labels = np.array([place[word] for word in self.classes], dtype=np.int64)
        return Embeddings(torch.from_numpy(features), labels, tuple(words), tuple(self.names), backbone, self.parts)


def check_out(out: Path) -> None:
    """Refuse a file that can't be written, before hours are spent.

    Raises:
        ConfigError: for another ending, or a folder in its place.
    """
    if out.suffix.lower() not in ENDINGS:
        raise ConfigError(f"embeddings are written as {' or '.join(ENDINGS)}, and --out is {shown(out)}; rename it")
    if out.is_dir():
        raise ConfigError(f"--out {shown(out)} is a folder; name a file")


def embed(
    pictures: Pictures, backbone: Backbone, out: Path, progress: Callable[[int, int], None] = lambda done, of: None
) -> Embeddings:
    """Write the features of all pictures to one file, going on where an earlier call was killed.

    Until all are there they lie beside it, in `.NAME.partial/`; what of it belongs to other pictures or to another
    backbone is thrown away.

    Args:
        pictures: of which.
        backbone: by which.
        out: `.safetensors` or `.npz`.
        progress: told how many of how many are done.

    Returns:
        What was written.

    Raises:
        DataError: for a picture that can't be read, or features that are not finite.
        CheckpointError: if the file can't be written.
    """
    check_out(out)
    partial = out.with_name(f".{out.name}.partial")
    try:
        rows = _compute(pictures, backbone, partial, progress)
        made = pictures.embeddings(rows, backbone.name)
        draft = partial / "whole"
        draft.write_bytes(as_bytes(made, out.suffix.lower()))
        sync(draft)
        draft.replace(out)
        sync(out.parent)
    except OSError as error:
        raise explain(error, out) from error
    shutil.rmtree(partial, ignore_errors=True)
    return made


def _compute(pictures: Pictures, backbone: Backbone, partial: Path, progress: Callable[[int, int], None]) -> np.ndarray:
    """Return `[M, d]`, float32, appending each batch to the file of those that are done."""
    facts, rows, count = partial / "facts.json", partial / "rows", len(pictures.paths)
    key = _key(pictures, backbone)
    width = _width_of(facts, key)
    if width is None:
        if facts.exists():
            logger.info("what was begun before is of other pictures or another backbone: beginning anew")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        done = 0
    else:
        done = min(count, rows.stat().st_size // (4 * width) if rows.exists() else 0)
        done -= 0 if done == count else done % BATCH
        logger.info("going on behind the first %d of %d pictures", done, count)
    with rows.open("ab") as file:
        file.truncate(4 * (width or 0) * done)
        progress(done, count)
        blocks = decode_blocks(pictures.paths[done:], backbone.sight.read, pictures.where)
        for block in blocks:
            with torch.no_grad():
                found = features_of(backbone.net, backbone.sight.values(torch.from_numpy(block)))
            if not bool(found.isfinite().all()):
                bad = int((~found.isfinite().all(1)).nonzero()[0])
                raise DataError(
                    f"the features of {shown(pictures.paths[done + bad])} are not finite; leave it out, or look "
                    "at --values"
                )
            if width is None:
                width = found.shape[1]
                write_text(facts, json.dumps({"key": key, "width": width}))
            file.write(found.float().contiguous().numpy().astype("<f4").tobytes())
            file.flush()
            os.fsync(file.fileno())
            done += len(block)
            progress(done, count)
    return np.fromfile(rows, dtype="<f4").reshape(count, width or 0).astype(np.float32)


def _key(pictures: Pictures, backbone: Backbone) -> str:
    told = [__version__, torch.__version__, backbone.name, json.dumps(backbone.sight.to_plain()), *pictures.classes]
    return hashlib.sha256("\n".join([*told, *pictures.digests]).encode("utf-8", "surrogatepass")).hexdigest()


def _width_of(facts: Path, key: str) -> int | None:
    try:
        found = json.loads(facts.read_text(encoding="utf-8"))
        return int(found["width"]) if found["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Told:
    """Say how far it is: a line every ten seconds, and one at the end.

    Args:
        every: seconds between two lines.
    """

    def __init__(self, every: float = 10.0) -> None:
        self.every, self.last = every, time.monotonic()
        self._first: tuple[float, int] | None = None

    def __call__(self, done: int, of: int) -> None:
        """Take note of how many are done."""
        now = time.monotonic()
        since, before = self._first = self._first or (now, done)
        if done < of and now - self.last < self.every:
            return
        self.last = now
        left = f", {(of - done) * (now - since) / (done - before):.0f} s left" if before < done < of else ""
        logger.info("embedded %d of %d pictures%s", done, of, left)
