"""One sine wave as a learner sees it: the points it was given, and its function after some steps."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from fastadapt.data.sinusoid import Family, Half, Sinusoid
from fastadapt.errors import DataError
from fastadapt.inner.generators import torch_random_kept
from fastadapt.learner import Learner
from fastadapt.report.style import number
from fastadapt.tasks import task_rng

TALL = 2.5
"""A height that can be seen."""


@dataclass(frozen=True)
class AdaptedWave:
    """Hold a wave and what a learner made of it; it survives a trip through JSON.

    Args:
        index: number of the task in the stream of test tasks.
        height: A, or a in Reptile's family.
        phase: phi, or b in Reptile's family.
        family: whose waves.
        half: the half of the range that all points lie in; None for the whole range.
        points: the support set, K pairs (x, y).
        x: where the functions are given, `[n]`.
        wave: the true function there.
        curves: number of inner steps -> the learner's function there.
    """

    index: int
    height: float
    phase: float
    family: Family
    half: Half | None
    points: list[tuple[float, float]]
    x: list[float]
    wave: list[float]
    curves: dict[int, list[float]]

    @property
    def shots(self) -> int:
        """K."""
        return len(self.points)

    def record(self, digits: int = 4) -> dict[str, Any]:
        """Return it as plain numbers, rounded; what is not finite becomes a text, as JSON needs it."""
        curves = {str(j): [_plain(v, digits) for v in curve] for j, curve in self.curves.items()}
        rounded = {name: [round(v, digits) for v in getattr(self, name)] for name in ("x", "wave")}
        points = [[round(v, digits) for v in point] for point in self.points]
        return {**asdict(self), **rounded, "points": points, "curves": curves}

    @staticmethod
    def from_record(record: dict[str, Any]) -> "AdaptedWave":
        """Return the wave that `record` described.

        Raises:
            DataError: if it is no such record.
        """
        try:
            curves = {int(j): [number(v) for v in curve] for j, curve in record["curves"].items()}
            points = [(float(x), float(y)) for x, y in record["points"]]
            return AdaptedWave(**{**record, "curves": curves, "points": points})
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"this is not the record of an adapted wave ({error!r})") from None


def adapted_wave(
    learner: Learner,
    shots: int,
    *,
    half: Half | None = None,
    steps: Sequence[int] = (0, 1, 10),
    family: Family = "maml",
    oracle: bool = False,
    seed: int = 1,
    index: int | None = None,
) -> AdaptedWave:
    """Adapt a learner to the points of one test wave and return its function after each number of steps.

    Args:
        learner: the learner.
        shots: support points K.
        half: which half of the range they lie in; None for all of it.
        steps: numbers of inner steps.
        family: the family of waves.
        oracle: whether the learner is told height and phase.
        seed: seed of the stream of test tasks.
        index: number of the task; None takes the first that is at least 2.5 high, whatever the learner makes of it.

    Example:
        >>> from fastadapt import MAML, MLP
        >>> wave = adapted_wave(MAML(MLP(1, (8,), 1)), 5, half="right", steps=(0, 1))
        >>> wave.shots, sorted(wave.curves), min(x for x, _ in wave.points) >= 0
        (5, [0, 1], True)
    """
    index = tall_wave(seed, family) if index is None else index
    task = Sinusoid(family, shots=shots, queries=200, oracle=True, grid=True, half=half).sample(
        task_rng(seed, "test", index)
    )
    (given, values), (grid, wave) = task.support, task.query
    device = next((p.device for p in learner.parameters()), torch.device("cpu"))
    columns = 3 if oracle else 1
    support = (given[:, :columns].to(device), values.to(device))
    curves: dict[int, list[float]] = {}
    with torch_random_kept(seed=0), torch.no_grad():
        for j in steps:
            predict = learner.adapt(support, steps=j)
            curves[j] = predict(grid[:, :columns].to(device))[:, 0].double().cpu().tolist()
    return AdaptedWave(
        index=index,
        height=float(given[0, 1]),
        phase=float(given[0, 2]),
        family=family,
        half=half,
        points=list(zip(given[:, 0].tolist(), values[:, 0].tolist(), strict=True)),
        x=grid[:, 0].tolist(),
        wave=wave[:, 0].double().tolist(),
        curves=curves,
    )


def tall_wave(seed: int, family: Family) -> int:
    """Return the number of the first test wave that is at least 2.5 high."""
    source = Sinusoid(family, shots=1, queries=0, oracle=True)
    return next(i for i in range(10_000) if float(source.sample(task_rng(seed, "test", i)).support[0][0, 1]) >= TALL)


def _plain(value: float, digits: int) -> float | str:
    return round(value, digits) if np.isfinite(value) else str(value)
