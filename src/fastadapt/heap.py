"""The free memory that the C library holds back, or gives away too soon (glibc)."""

import ctypes
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGE = 1 << 30


def give_back() -> None:
    """Return free memory to the system where the C library can.

    Threads that compute leave their arenas full of holes, which glibc keeps for them.
    """
    with suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def hold() -> None:
    """Keep the memory of large tensors for the next ones, in this process and until it ends.

    glibc maps what is above 32 MB anew each time, and the system fills every page of it with zeros: a third of the time
    of plain steps on images of 84x84. What is held is at most what the process once had at the same time, and holes
    between. It is a setting of the process, so commands make it and the library does not.
    """
    with suppress(AttributeError, OSError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, _LARGE)
        library.mallopt(_TRIM_THRESHOLD, _LARGE)
