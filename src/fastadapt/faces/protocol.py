"""Protocols of verification, named and versioned, and the result of one with intervals over identities."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fastadapt.errors import ConfigError, DataError
from fastadapt.faces.resampled import Resampled
from fastadapt.faces.verification import FALSE_ACCEPTS, LEAST_ACCEPTED, Scores, accepted, ten_fold

FOLDS = 10
LEAST_FOR_FOLDS = 4
"""Identities for two folds of two."""


@dataclass(frozen=True)
class FaceProtocol:
    """Fix how faces are measured; change a rule, change the version.

    Args:
        name: "gfr-v1": every identity of a domain, one gallery image each, all other images are probes; the cosine of
            embeddings of the image and its mirror image joined; all pairs of probe and gallery.
        resamples: draws of the bootstrap over identities, at least 100.
        seed: of the bootstrap and the folds.
        level: of the intervals.

    Raises:
        ConfigError: for a setting outside its range.
    """

    name: str = "gfr-v1"
    resamples: int = 1000
    seed: int = 1
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.resamples < 100:
            raise ConfigError(f"intervals need at least 100 resamples, got {self.resamples}")
        if not 0 < self.level < 1:
            raise ConfigError(f"the level of an interval is a share below 1, got {self.level}")


@dataclass(frozen=True)
class Measured:
    """Hold one number and its interval.

    Args:
        value: the number.
        low: lower end of the interval.
        high: upper end.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return the number with its interval."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Verification:
    """Hold how well a network tells the identities of a domain apart.

    Args:
        protocol: how it was measured.
        domain: of whom.
        identities: how many.
        genuine: pairs of one identity.
        impostor: pairs of two.
        numbers: "tar@0.01" and others by name, each with its interval.
        transferred: true and false accept rates at a threshold that was chosen elsewhere; empty without one.
        ten_fold: "accuracy" of accepting balanced pairs, thresholds chosen on other folds of identities, and its
            "deviation" over folds; empty with fewer than four identities.
    """

    protocol: FaceProtocol
    domain: str
    identities: int
    genuine: int
    impostor: int
    numbers: dict[str, Measured]
    transferred: dict[str, float]
    ten_fold: dict[str, float]

    def __str__(self) -> str:
        """Return one line a person can read."""
        told = ", ".join(f"{name} {value}" for name, value in self.numbers.items())
        if self.ten_fold:
            told += f", accuracy {self.ten_fold['accuracy']:.3f} ± {self.ten_fold['deviation']:.3f} over folds"
        return f"{self.domain}: {told} ({self.identities} identities, protocol {self.protocol.name})"

    def to_plain(self) -> dict[str, Any]:
        """Return the result for JSON."""
        return asdict(self)


def verification(
    scores: Scores, domain: str, protocol: FaceProtocol | None = None, threshold: float | None = None
) -> Verification:
    """Return the result of a protocol on scores, with an interval for each number.

    The interval is a percentile bootstrap over identities: they are drawn with replacement, and with each its gallery
    image and its probes, as pairs that share an image are not independent. An identity that is drawn twice meets itself
    only as itself. Rank-1 counts the probes of those that were drawn against the whole gallery: among the distinct ones
    of a draw, which are fewer, everybody is easier to find.

    Args:
        scores: of every probe against the gallery.
        domain: what they are of.
        protocol: how to measure.
        threshold: one chosen on other identities, to be told with the rates it has here.

    Raises:
        DataError: if there are no genuine or no impostor pairs.

    Example:
        >>> scores = Scores(np.eye(3) + 0.1, np.arange(3), np.arange(3))
        >>> verification(scores, "room").numbers["rank-1"]
        Measured(value=1.0, low=1.0, high=1.0)
    """
    protocol = FaceProtocol() if protocol is None else protocol
    impostors, people = len(scores.impostor), len(scores.gallery)
    rates = tuple(far for far in FALSE_ACCEPTS if far * impostors >= LEAST_ACCEPTED)
    resampled = Resampled(scores, rates)
    values = resampled.measure(np.ones(people))
    if values is None:
        raise DataError(
            "there are no genuine or no impostor pairs; verification needs pairs of one identity and of two"
        )
    rng = np.random.default_rng(protocol.seed)
    draws = [
        resampled.measure(np.bincount(rng.integers(people, size=people), minlength=people))
        for _ in range(protocol.resamples)
    ]
    drawn = [draw for draw in draws if draw is not None]
    ends = [50 * (1 - protocol.level), 100 - 50 * (1 - protocol.level)]
    numbers = {}
    for name, value in values.items():
        low, high = np.percentile([draw[name] for draw in drawn], ends) if drawn else (np.nan, np.nan)
        numbers[name] = Measured(value, float(low), float(high))
    transferred = {} if threshold is None else asdict(accepted(scores.genuine, scores.impostor, threshold))
    folds: dict[str, float] = {}
    if people >= LEAST_FOR_FOLDS:
        accuracy, deviation = ten_fold_of(scores, protocol.seed)
        folds = {"accuracy": accuracy, "deviation": deviation}
    return Verification(protocol, domain, people, len(scores.genuine), impostors, numbers, transferred, folds)


def ten_fold_of(scores: Scores, seed: int = 1) -> tuple[float, float]:
    """Return accuracy and its deviation over ten folds of identities, with as many impostor as genuine pairs.

    Each identity is in one fold; an impostor pair is of two identities of one fold, drawn at random.

    Args:
        scores: of probes against a gallery.
        seed: of folds and impostor pairs.

    Raises:
        DataError: if there are too few identities for two folds.
    """
    rng = np.random.default_rng(seed)
    people = len(scores.gallery)
    folds = min(FOLDS, people // 2)
    fold_of = rng.permutation(np.arange(people) % max(folds, 1))
    place = {person: i for i, person in enumerate(scores.gallery.tolist())}
    score, same, fold = [], [], []
    for row, person in enumerate(scores.probe.tolist()):
        if person not in place:
            continue
        own = place[person]
        others = np.flatnonzero((fold_of == fold_of[own]) & (np.arange(people) != own))
        score += [scores.matrix[row, own], scores.matrix[row, rng.choice(others)]] if len(others) else []
        same += [True, False] if len(others) else []
        fold += [fold_of[own]] * 2 if len(others) else []
    return ten_fold(np.array(score), np.array(same, dtype=bool), np.array(fold))
