"""Many images decoded at once: in their order, a few blocks of them in memory, all that is wrong said together."""

import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from fastadapt.data.files import complain
from fastadapt.errors import DataError

_BLOCK = 64  # images that a thread decodes at a time; 1.4 MB of 84x84 pixels
_MOST_THREADS = 8


def decode_blocks(
    keys: Sequence[Any], read: Callable[[Any], np.ndarray], where: str
) -> Generator[np.ndarray, None, None]:
    """Yield the images of `keys` in their order, 64 at a time, decoded by several threads.

    Two blocks for each thread are in memory, and the one in use. Decoders written in C let other threads run, so the
    threads share the work; the result does not depend on their number.

    Args:
        keys: one for each image.
        read: returns the image of a key, uint8, all of one shape; threads call it at once.
        where: what the images are of, for a message.

    Yields:
        `[b, ...]`, uint8, `b = 64` but for the last block.

    Raises:
        DataError: after the last block, for all images that `read` refuses.

    Example:
        >>> rows = np.arange(200, dtype=np.uint8).reshape(100, 2)
        >>> [block.shape for block in decode_blocks(range(100), lambda row: rows[row], "these rows")]
        [(64, 2), (36, 2)]
    """
    threads = min(_MOST_THREADS, os.cpu_count() or 1)
    problems: list[tuple[int, str]] = []

    def decode(first: int) -> list[np.ndarray]:
        images = []
        for place, key in enumerate(keys[first : first + _BLOCK], start=first):
            try:
                images.append(read(key))
            except DataError as error:
                problems.append((place, str(error)))
        return images

    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    waiting: deque[Future[list[np.ndarray]]] = deque()
    ahead, starts = 2 * threads, range(0, len(keys), _BLOCK)
    try:
        waiting.extend(pool.submit(decode, first) for first in starts[:ahead])
        for number in range(len(starts)):
            images = waiting.popleft().result()
            if number + ahead < len(starts):
                waiting.append(pool.submit(decode, starts[number + ahead]))
            if not problems:  # after the first one nothing is kept, but all others are still to be found
                yield np.stack(images)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    if problems:
        raise complain([text for _, text in sorted(problems)], where)
