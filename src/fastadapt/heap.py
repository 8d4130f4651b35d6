"""The free memory that the C library holds back."""

import ctypes
from contextlib import suppress


def give_back() -> None:
    """Return free memory to the system where the C library can (glibc).

    Threads that compute leave their arenas full of holes, which glibc keeps for them.
    """
    with suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
