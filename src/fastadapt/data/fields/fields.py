"""Tasks that are one signal each: from some of its points, all of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from fastadapt.data.fields.positions import positions
from fastadapt.errors import ConfigError, DataError
from fastadapt.tasks import Task, Tasks

Query = Literal["fresh", "same", "all"]
MOST_CHANNELS = 4
"""Numbers at a point which are believed without being said: red, green, blue and one more."""


@dataclass(frozen=True, eq=False)
class Fields:
    """Draw tasks that are one picture, sound or volume each: `x` is a position, `y` the value there.

    A position is the centre of a cell of the array, each axis over [-1, 1] (`fastadapt.data.fields.positions`).
    Bytes stay bytes in memory and become values 0..1 when they are drawn; floats stay as they are. With the same
    generator a task has the same signal whatever the settings, and its support doesn't depend on the query.

    Args:
        signals: `[M, n_1, ..., n_d, C]`: M signals on d axes with C numbers at each point; sounds are `[M, n, 1]`,
            pictures `[M, height, width, 3]`. A tensor or an array, uint8 or floating.
        points: distinct points of a support set, N; None takes all.
        query: "fresh" draws N further points, none of them in the support; "same" judges the support; "all" judges
            every point of the signal.
        channels: C, to be said where it is above 4, so that grey pictures `[M, height, width]` are not taken for
            sounds.

    Raises:
        ConfigError: for a setting outside its range, or more points than there are.
        DataError: if the signals are of another kind, or not finite.

    Example:
        >>> source = Fields(np.zeros((5, 64, 64, 3), np.uint8), points=512)
        >>> task = source.sample(np.random.default_rng(0))
        >>> [tuple(leaf.shape) for leaf in (*task.support, *task.query)]
        [(512, 2), (512, 3), (512, 2), (512, 3)]

    References:
        Sitzmann, Chan, Tucker, Snavely, Wetzstein 2020, MetaSDF (arXiv:2006.09662); Tancik et al. 2021, Learned
        Initializations for Optimizing Coordinate-Based Neural Representations (arXiv:2012.02189).
    """

    signals: Tensor | np.ndarray = field(repr=False)
    points: int | None = 512
    query: Query = "fresh"
    channels: int | None = None

    def __post_init__(self) -> None:
        """Check the signals and the settings."""
        object.__setattr__(self, "signals", _checked(self.signals, self.channels))
        object.__setattr__(self, "_where", positions(self.sizes))
        if self.query not in get_args(Query):
            raise ConfigError(f"query must be one of {', '.join(get_args(Query))}, got {self.query!r}")
        if self.points is not None and (
            not isinstance(self.points, int) or isinstance(self.points, bool) or self.points < 1
        ):
            raise ConfigError(f"points must be a whole number of at least 1, or None for all, got {self.points!r}")
        if self.taken > self.total:
            fresh = self.query == "fresh"
            what = f"{self.support_points} points to adapt on and as many others to be judged on" if fresh else "points"
            advice = ', or query="same" or "all"' if fresh else ""
            raise ConfigError(
                f"a signal has {self.total} points, and points={self.points} with query={self.query!r} takes "
                f"{self.taken}, {what}; take fewer{advice}"
            )

    @property
    def judges_support(self) -> bool:
        """Whether a query has points of the support, which is meant: a signal is to be fitted."""
        return self.query != "fresh"

    @property
    def sizes(self) -> tuple[int, ...]:
        """Cells along each axis of a signal."""
        return tuple(self.signals.shape[1:-1])

    @property
    def total(self) -> int:
        """Points of a signal."""
        return math.prod(self.sizes)

    @property
    def support_points(self) -> int:
        """Points of a support set."""
        return self.total if self.points is None else self.points

    @property
    def taken(self) -> int:
        """Points that are drawn for a task."""
        return self.support_points * (2 if self.query == "fresh" else 1)

    def __len__(self) -> int:
        """Return how many signals there are."""
        return len(self.signals)

    def sample(self, rng: np.random.Generator) -> Task:
        """Return one task: support `(x: [N, d], y: [N, C])`, and a query of the same form."""
        tasks = self.sample_batch((rng,))
        return Task(tuple(leaf[0] for leaf in tasks.support), tuple(leaf[0] for leaf in tasks.query))

    def sample_batch(self, rngs: Sequence[np.random.Generator]) -> Tasks:
        """Return one task per generator; task `i` is `sample(rngs[i])`."""
        return self._tasks([int(rng.integers(len(self))) for rng in rngs], rngs)

    def whole(self, numbers: Sequence[int]) -> Tasks:
        """Return the signals of these numbers, each with all its points as support and as query."""
        every = torch.arange(self.total).expand(len(numbers), -1)
        both = self._at(numbers, every)
        return Tasks(both, both)

    def _tasks(self, numbers: Sequence[int], rngs: Sequence[np.random.Generator]) -> Tasks:
        everything = self.points is None
        total, count = self.total, self.support_points
        order = [np.arange(total) if everything else rng.choice(total, count, replace=False) for rng in rngs]
        support = torch.from_numpy(np.stack(order))
        if self.query == "same":
            rows = support
        elif self.query == "all":
            rows = torch.arange(total).expand(len(rngs), -1)
        else:
            others = [_others(rng, total, first) for rng, first in zip(rngs, order, strict=True)]
            rows = torch.from_numpy(np.stack(others))
        return Tasks(self._at(numbers, support), self._at(numbers, rows))

    def _at(self, numbers: Sequence[int], rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return positions and values, `[T, N, d]` and `[T, N, C]`, of points `rows: [T, N]` of signals."""
        assert isinstance(self.signals, Tensor)
        flat = torch.stack([self.signals[i].reshape(self.total, -1)[r] for i, r in zip(numbers, rows, strict=True)])
        values = flat.float().div_(255) if flat.dtype == torch.uint8 else flat
        return self._where[rows], values  # type: ignore[attr-defined]


def _others(rng: np.random.Generator, total: int, first: np.ndarray) -> np.ndarray:
    """Return as many further numbers below `total`, none of which is in `first`."""
    left = np.ones(total, bool)
    left[first] = False
    return rng.choice(np.flatnonzero(left), len(first), replace=False)


def _checked(signals: Tensor | np.ndarray, channels: int | None) -> Tensor:
    if not isinstance(signals, np.ndarray | Tensor):
        raise DataError(f"signals must be a tensor or an array, got {type(signals).__name__}; stack them")
    if isinstance(signals, np.ndarray) and not signals.flags.writeable:  # as Pillow's are
        signals = signals.copy()
    held = torch.as_tensor(signals)
    shape = tuple(held.shape)
    if held.dim() < 3 or 0 in shape:
        raise DataError(
            f"signals are [M, n_1, ..., n_d, C], with at least one axis of points and one of the numbers at a point, "
            f"got shape {shape}; sounds [M, n] become signals[..., None]"
        )
    if shape[-1] != channels if channels is not None else shape[-1] > MOST_CHANNELS:
        told = f"and channels={channels}" if channels is not None else f"more than {MOST_CHANNELS}"
        raise DataError(
            f"the last axis of signals holds the numbers at a point, and it has {shape[-1]}, {told}; grey pictures "
            f"and sounds need an axis for theirs, signals[..., None]; otherwise say channels={shape[-1]}"
        )
    if held.dtype == torch.uint8:
        return held
    if not held.is_floating_point():
        raise DataError(
            f"signals are bytes (uint8) or floating numbers, got {held.dtype}; divide by the largest value, such as "
            "32768 for sound of 16 bits"
        )
    if held.dtype in (torch.float16, torch.bfloat16):
        held = held.float()
    bad = (~torch.isfinite(held)).flatten(1).any(1).nonzero()
    if len(bad):
        raise DataError(f"signal {int(bad[0])} of {shape[0]} has values that are not finite; leave it out, or mend it")
    return held
