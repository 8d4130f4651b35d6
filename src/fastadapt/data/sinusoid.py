"""Sine waves: the regression problem on which MAML and Reptile are first shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from fastadapt.errors import ConfigError
from fastadapt.tasks import Task, Tasks

Family = Literal["maml", "reptile"]
Half = Literal["left", "right"]

_LEFT, _RIGHT = -5.0, 5.0
_AMPLITUDES = (0.1, 5.0)


@dataclass(frozen=True)
class Sinusoid:
    """Draw regression tasks whose target is one sine wave each.

    With `x ~ U[-5, 5]` and amplitude `A ~ U[0.1, 5]`, a task of the family

    * "maml" is `y = A sin(x - phi)`, `phi ~ U[0, pi]`;
    * "reptile" is `y = a sin(x + b)`, `b ~ U[0, 2 pi]`.

    The best single function for all tasks is `-1.6234 cos x` with mean squared error 3.0056 in the
    first family, and 0 with 4.2517 in the second. One generator gives the same wave whatever the
    settings; its support doesn't depend on the query, and the support of 5 shots is the beginning
    of the support of 10.

    Args:
        family: "maml": A sin(x - phi), phi in [0, pi]; "reptile": a sin(x + b), b in [0, 2 pi].
        shots: support points (K), at least 1.
        queries: query points, at least 0.
        oracle: whether the input also holds the amplitude and the phase, so that `x` is `[n, 3]`.
        grid: whether the query is evenly spaced over [-5, 5], both ends included, for curves.
        half: "left" draws the support from [-5, 0], "right" from [0, 5]; `None` from all.

    Raises:
        ConfigError: if a setting is outside its range.

    Example:
        >>> import numpy as np
        >>> task = Sinusoid(shots=5).sample(np.random.default_rng(0))
        >>> x, y = task.support
        >>> x.shape, y.shape
        (torch.Size([5, 1]), torch.Size([5, 1]))

    References:
        Finn, Abbeel, Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks",
        2017, arXiv:1703.03400, section 5.1; Nichol, Achiam, Schulman, "On First-Order Meta-Learning
        Algorithms", 2018, arXiv:1803.02999, section 4.1.
    """

    family: Family = "maml"
    shots: int = 10
    queries: int = 10
    oracle: bool = False
    grid: bool = False
    half: Half | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.family not in get_args(Family):
            raise ConfigError(f"family must be one of {', '.join(get_args(Family))}, got {self.family!r}")
        for name, least in (("shots", 1), ("queries", 2 if self.grid else 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                why = " for a grid" if name == "queries" and self.grid else ""
                raise ConfigError(f"{name} must be a whole number of at least {least}{why}, got {value!r}")
        if self.half is not None and self.half not in get_args(Half):
            raise ConfigError(f"half must be 'left', 'right' or None, got {self.half!r}")

    def sample(self, rng: np.random.Generator) -> Task:
        """Return one task.

        Returns:
            A `Task` with support `(x, y)`, `x: [shots, 1]` in [-5, 5] (`[shots, 3]` with `oracle`),
            `y: [shots, 1]` in [-5, 5], and a query of the same form.
        """
        tasks = self.sample_batch((rng,))
        (x, y), (xq, yq) = tasks.support, tasks.query
        return Task((x[0], y[0]), (xq[0], yq[0]))

    def sample_batch(self, rngs: Sequence[np.random.Generator]) -> Tasks:
        """Return one task per generator, with one sine over all their points.

        Returns:
            `Tasks` of `T = len(rngs)` tasks whose support is `(x, y)`, both `[T, shots, 1]` (`x: [T, shots, 3]`
            with `oracle`), and a query of the same form; task `i` is `sample(rngs[i])`.
        """
        u = np.empty((len(rngs), self.numbers))
        for rng, row in zip(rngs, u, strict=True):
            rng.random(out=row)
        return self.of_numbers(u)

    @property
    def numbers(self) -> int:
        """How many uniform numbers a task takes: the wave's, then the support's, then the query's."""
        return 2 + self.shots + (0 if self.grid else self.queries)

    def of_numbers(self, u: np.ndarray) -> Tasks:
        """Return the tasks that `sample_batch` makes of the uniform numbers `u: [T, numbers]`."""
        amplitude = _AMPLITUDES[0] + (_AMPLITUDES[1] - _AMPLITUDES[0]) * u[:, :1]
        phase = u[:, 1:2] * (np.pi if self.family == "maml" else 2 * np.pi)
        x = _LEFT + (_RIGHT - _LEFT) * u[:, 2:]
        if self.half is not None:
            x[:, : self.shots] = x[:, : self.shots] / 2 + (_LEFT if self.half == "left" else _RIGHT) / 2
        if self.grid:
            grid = np.linspace(_LEFT, _RIGHT, self.queries)
            x = np.concatenate((x, np.broadcast_to(grid, (len(x), self.queries))), axis=1)

        y = amplitude * np.sin(x - phase if self.family == "maml" else x + phase)
        values = x[:, :, None]
        if self.oracle:
            wave = np.broadcast_to(np.stack((amplitude, phase), axis=2), (*x.shape, 2))
            values = np.concatenate((values, wave), axis=2)
        k = self.shots
        inputs, targets = _split(values, k), _split(y[:, :, None], k)
        return Tasks((inputs[0], targets[0]), (inputs[1], targets[1]))


def _split(values: np.ndarray, shots: int) -> tuple[Tensor, Tensor]:
    """Return the first `shots` points of each task and the others, each contiguous in memory."""
    parts = (values[:, :shots], values[:, shots:])
    support, query = (torch.from_numpy(np.ascontiguousarray(part, dtype=np.float32)) for part in parts)
    return support, query
