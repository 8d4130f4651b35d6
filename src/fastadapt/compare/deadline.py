"""A time at which measuring ends, asked between two fits of a model."""

import math
import time


class OutOfTime(Exception):  # noqa: N818 - no error: what comes late is left out, and named
    """The deadline has passed."""


class Deadline:
    """Say when it is too late.

    Args:
        seconds: until then.

    Example:
        >>> Deadline().over, Deadline(-1.0).over
        (False, True)
    """

    def __init__(self, seconds: float = math.inf) -> None:
        self.until = time.monotonic() + seconds

    @property
    def over(self) -> bool:
        """Whether it has passed."""
        return time.monotonic() > self.until

    def check(self) -> None:
        """Raise `OutOfTime` if it has passed."""
        if self.over:
            raise OutOfTime
