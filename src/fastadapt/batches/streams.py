"""Streams of random numbers: task `i` of a run depends only on `(seed, split, i)`.

A counter-based generator (Philox) is positioned at `i`, so neither the number of workers, nor a resume, nor what was
drawn before can change a task.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.random.bit_generator import ISeedSequence

from fastadapt.errors import TaskError


class _Key(ISeedSequence):
    """Hand Philox its key as it is; with `Philox(key=...)` each generator would ask the system for unused entropy."""

    def __init__(self, seed: int, split: str) -> None:
        self.words = key_of(seed, split)

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> np.ndarray:
        return self.words


def key_of(seed: int, split: str) -> np.ndarray:
    """Return the two words of Philox's key."""
    digest = hashlib.sha256(split.encode()).digest()
    return np.array([seed, int.from_bytes(digest[:8], "little")], dtype=np.uint64)


def task_rng(seed: int, split: str, index: int) -> np.random.Generator:
    """Return the generator of task `index` of `(seed, split)`.

    The generator is counter-based (Philox, Salmon et al. 2011): the key is `(seed, split)` and the
    counter starts at `index * 2^192`, so streams never overlap and any one is reached at once.

    Args:
        seed: the run's seed, `0..2^63-1`.
        split: the name of the stream, for example "train" or "val".
        index: the number of the task in its stream, from 0.

    Raises:
        TaskError: if `seed` or `index` is negative.

    Example:
        >>> bool(task_rng(0, "train", 7).random() == task_rng(0, "train", 7).random())
        True
    """
    return task_rngs(seed, split, [index])[0]


def task_rngs(seed: int, split: str, indices: Iterable[int]) -> list[np.random.Generator]:
    """Return the generators of several tasks: `task_rng(seed, split, i)` for each `i` of `indices`, in order.

    Raises:
        TaskError: if `seed` or an index is negative.

    Example:
        >>> [rng.integers(100).item() for rng in task_rngs(0, "train", [7, 8])]
        [25, 88]
    """
    if seed < 0:
        raise TaskError(f"seed and task index must be >= 0, got seed={seed}")
    key, counter, rngs = _Key(seed, split), np.zeros(4, dtype=np.uint64), []
    for index in indices:
        if index < 0:
            raise TaskError(f"seed and task index must be >= 0, got index={index}")
        counter[3] = index  # copied by Philox
        philox = np.random.Philox(key, counter=counter)  # type: ignore[arg-type]  # numpy's stub knows SeedSequence only
        rngs.append(np.random.Generator(philox))
    return rngs
