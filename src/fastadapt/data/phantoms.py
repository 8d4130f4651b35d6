"""Phantoms of heads and their projections: few-view tomography, simulated."""

import math
from functools import lru_cache

import numpy as np

SIZE = 32
"""Pixels along a side."""
_FINE = 3
"""Supersampling along a side."""


def phantom(rng: np.random.Generator) -> np.ndarray:
    """Return a head of ellipses `[SIZE, SIZE]` in [0, 1], about 3 times supersampled.

    A skull of density 1 whose ring has its own size, place, turn and thickness; a brain of 0.2 to 0.4 in it, two darker
    ventricles, and 2 to 5 spots that are lighter or darker.

    Example:
        >>> image = phantom(np.random.default_rng(0))
        >>> image.shape, bool(0 <= image.min() and image.max() <= 1)
        ((32, 32), True)
    """
    x, y = _grid()
    image = np.zeros_like(x)
    cx, cy = rng.normal(0, 0.04, 2)
    wide, high = rng.uniform(0.62, 0.75), rng.uniform(0.78, 0.9)
    turn, thick = rng.normal(0, 0.12), rng.uniform(0.07, 0.13)
    image[_inside(x, y, cx, cy, wide, high, turn)] = 1.0
    brain = rng.uniform(0.2, 0.4)
    inner = _inside(x, y, cx, cy, wide - thick, high - thick, turn)
    image[inner] = brain
    for side in (-1, 1):
        at = side * rng.uniform(0.12, 0.22), rng.uniform(-0.15, 0.15)
        shape = rng.uniform(0.06, 0.12), rng.uniform(0.2, 0.35), turn + side * rng.uniform(0.1, 0.4)
        image[inner & _inside(x, y, cx + at[0], cy + at[1], *shape)] = brain * rng.uniform(0.1, 0.5)
    for _ in range(rng.integers(2, 6)):
        radius, angle = 0.5 * math.sqrt(rng.uniform()), rng.uniform(0, 2 * math.pi)
        shape = rng.uniform(0.05, 0.15), rng.uniform(0.05, 0.15), rng.uniform(0, math.pi)
        spot = _inside(x, y, cx + radius * math.cos(angle), cy + radius * math.sin(angle), *shape)
        image[inner & spot] = min(1.0, max(0.0, brain + rng.uniform(-0.2, 0.35)))
    return image.reshape(SIZE, _FINE, SIZE, _FINE).mean((1, 3))


def phantoms(count: int, seed: int) -> np.ndarray:
    """Return heads `[count, SIZE^2]`, each from a generator of its own."""
    seeds = np.random.SeedSequence(seed).spawn(count)
    return np.stack([phantom(np.random.default_rng(one)).ravel() for one in seeds])


@lru_cache(maxsize=8)
def projections(views: int) -> np.ndarray:
    """Return the parallel projection in so many equally spaced directions as a matrix, `[views * SIZE, SIZE^2]`.

    A ray is the sum of the image along it, between pixels linearly, at half-pixel steps, times the step; rays are a
    pixel apart. At 0 degrees a ray runs along a column.

    Example:
        >>> np.allclose(projections(1) @ np.ones(SIZE * SIZE), SIZE, rtol=0.05)
        True
    """
    rows = np.zeros((views, SIZE, SIZE * SIZE))
    middle = (SIZE - 1) / 2
    along = np.arange(-SIZE, SIZE, 0.5)
    for number in range(views):
        angle = math.pi * number / views
        for ray in range(SIZE):
            across = ray - middle
            u = middle + across * math.cos(angle) - along * math.sin(angle)  # columns
            v = middle + across * math.sin(angle) + along * math.cos(angle)  # rows
            for du in (0, 1):
                for dv in (0, 1):
                    i, j = np.floor(v).astype(int) + dv, np.floor(u).astype(int) + du
                    weight = np.clip(1 - abs(v - i), 0, 1) * np.clip(1 - abs(u - j), 0, 1)
                    kept = (i >= 0) & (i < SIZE) & (j >= 0) & (j < SIZE)
                    np.add.at(rows[number, ray], (i * SIZE + j)[kept], 0.5 * weight[kept])
    return rows.reshape(views * SIZE, SIZE * SIZE)


@lru_cache(maxsize=1)
def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Return the coordinates of the fine pixels' centres, x to the right and y downwards, both in [-1, 1]."""
    centres = (2 * np.arange(SIZE * _FINE) + 1) / (SIZE * _FINE) - 1
    return tuple(np.meshgrid(centres, centres))  # type: ignore[return-value]


def _inside(x: np.ndarray, y: np.ndarray, cx: float, cy: float, a: float, b: float, turn: float) -> np.ndarray:
    """Return which points lie in an ellipse of half axes `a`, `b`, turned by `turn` radians."""
    dx, dy = x - cx, y - cy
    u, v = dx * math.cos(turn) + dy * math.sin(turn), dy * math.cos(turn) - dx * math.sin(turn)
    return (u / a) ** 2 + (v / b) ** 2 <= 1
