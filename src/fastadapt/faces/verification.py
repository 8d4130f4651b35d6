"""Verification and identification: how well scores tell pairs of one identity from pairs of two. Numbers, no torch.

A score is the cosine of two embeddings. A matrix of scores has a row for each probe and a column for each gallery
image, one of each identity. Genuine pairs are of one identity, impostor pairs of two.
"""

from dataclasses import dataclass

import numpy as np

from fastadapt.errors import DataError

FALSE_ACCEPTS = (0.1, 0.01, 0.001)
"""The shares of impostor pairs that may be accepted, at which a true accept rate is told."""
LEAST_ACCEPTED = 10
"""Impostor pairs that a false accept rate needs above its threshold: with fewer its rate is noise."""


@dataclass(frozen=True)
class Threshold:
    """Hold a threshold, and the shares of pairs that are accepted: those whose score is above it.

    Args:
        value: the threshold.
        true_accepts: the share of genuine pairs above it (TAR).
        false_accepts: the share of impostor pairs above it (FAR).
    """

    value: float
    true_accepts: float
    false_accepts: float


def tar_at_far(genuine: np.ndarray, impostor: np.ndarray, far: float) -> Threshold:
    r"""Return the true accept rate at a false accept rate.

    Impostor scores in descending order, the threshold is the one with number `floor(far n)` counted from 0, and scores
    above it are accepted: at most `far n` impostors, and ties are rejected.

    Args:
        genuine: scores of pairs of one identity.
        impostor: scores of pairs of two.
        far: the share of impostors that may be accepted, in 0..1.

    Raises:
        DataError: if there are none of either, or a score is not a number.

    Example:
        >>> genuine = np.array([0.9, 0.8, 0.55, 0.3])
        >>> impostor = np.array([0.7, 0.6, 0.5, 0.4, 0.35, 0.2, 0.1, 0.0, -0.1, -0.2])
        >>> tar_at_far(genuine, impostor, 0.2)
        Threshold(value=0.5, true_accepts=0.75, false_accepts=0.2)
    """
    genuine, impostor = _checked(genuine, impostor)
    if not 0 <= far < 1:
        raise DataError(f"a false accept rate is a share below 1, got {far}")
    number = int(far * len(impostor) + 1e-9)
    value = float(np.sort(impostor)[::-1][number])
    return accepted(genuine, impostor, value)


def accepted(genuine: np.ndarray, impostor: np.ndarray, threshold: float) -> Threshold:
    """Return the shares of pairs above a threshold."""
    return Threshold(threshold, float((genuine > threshold).mean()), float((impostor > threshold).mean()))


def area(genuine: np.ndarray, impostor: np.ndarray) -> float:
    """Return the area under the ROC curve: how often a genuine pair has the higher score, ties counting half.

    Example:
        >>> area(np.array([1.0, 0.0]), np.array([0.0]))
        0.75
    """
    genuine, impostor = _checked(genuine, impostor)
    below = np.searchsorted(np.sort(impostor), genuine, "left")
    ties = np.searchsorted(np.sort(impostor), genuine, "right") - below
    return float((below + ties / 2).mean() / len(impostor))


def equal_error(genuine: np.ndarray, impostor: np.ndarray) -> float:
    """Return the equal error rate: where the share of genuine pairs rejected meets that of impostors accepted.

    Between the two thresholds around the crossing both shares are taken to change linearly.

    Example:
        >>> round(equal_error(np.array([0.9, 0.8, 0.2]), np.array([0.5, 0.1, 0.0])), 4)
        0.3333
    """
    false, true = roc(genuine, impostor)
    gap = (1 - true) - false  # falls from 1 to -1
    after = int(np.argmax(gap <= 0))
    a, b = gap[after - 1], gap[after]
    share = a / (a - b)
    return float(false[after - 1] + share * (false[after] - false[after - 1]))


def roc(genuine: np.ndarray, impostor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return false and true accept rates at every threshold, from nothing accepted to all; ties are one step.

    Example:
        >>> [curve.tolist() for curve in roc(np.array([2.0]), np.array([1.0]))]
        [[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]]
    """
    genuine, impostor = _checked(genuine, impostor)
    thresholds = np.unique(np.concatenate((genuine, impostor)))[::-1]
    at_least = [
        1 - np.searchsorted(np.sort(scores), thresholds, "left") / len(scores) for scores in (impostor, genuine)
    ]
    false, true = (np.concatenate(([0.0], shares)) for shares in at_least)
    return false, true


@dataclass(frozen=True, eq=False)
class Scores:
    """Hold the scores of probes against a gallery, and who is who.

    Args:
        matrix: `[probes, gallery]`.
        probe: `[probes]`, the identity of each.
        gallery: `[gallery]`, the identity of each, all different.

    Raises:
        DataError: if these do not fit together, or a score is not a number.
    """

    matrix: np.ndarray
    probe: np.ndarray
    gallery: np.ndarray

    def __post_init__(self) -> None:
        if self.matrix.shape != (len(self.probe), len(self.gallery)):
            raise DataError(
                f"scores of {len(self.probe)} probes against {len(self.gallery)} gallery images are a matrix of that "
                f"shape, got {self.matrix.shape}"
            )
        if len(set(self.gallery.tolist())) != len(self.gallery):
            raise DataError("an identity has two gallery images; enrol one of each")
        if not np.isfinite(self.matrix).all():
            raise DataError("a score is not finite: an embedding is not, or has length 0; look at the network's output")

    @property
    def same(self) -> np.ndarray:
        """Which pairs are genuine, `[probes, gallery]`."""
        return self.probe[:, None] == self.gallery[None, :]

    @property
    def genuine(self) -> np.ndarray:
        """The scores of genuine pairs."""
        return self.matrix[self.same]

    @property
    def impostor(self) -> np.ndarray:
        """The scores of impostor pairs."""
        return self.matrix[~self.same]

    def rank_one(self) -> float:
        """Return the share of probes whose most similar gallery image is of their identity.

        Probes of nobody in the gallery do not count here; a tie with another identity is a miss.
        """
        mated = self.same.any(1)
        if not mated.any():
            raise DataError("no probe is of an identity in the gallery; there is nobody to be identified")
        scores, same = self.matrix[mated], self.same[mated]
        own = scores[same]
        best_other = np.where(same, -np.inf, scores).max(1)
        return float((own > best_other).mean())


def cosines(probe: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Return the cosine of each embedding `[n, d]` with each of `[m, d]`, `[n, m]` in float64.

    Raises:
        DataError: if an embedding is not finite or has length 0.
    """
    units = []
    for name, rows in (("probe", probe), ("gallery", gallery)):
        rows = np.asarray(rows, dtype=np.float64)
        lengths = np.linalg.norm(rows, axis=1)
        bad = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
        if len(bad):
            raise DataError(f"the embedding of {name} {bad[0]} is not finite, or 0; there is no direction to compare")
        units.append(rows / lengths[:, None])
    return units[0] @ units[1].T


def ten_fold(score: np.ndarray, same: np.ndarray, fold: np.ndarray) -> tuple[float, float]:
    """Return the accuracy of accepting pairs, and its standard deviation over folds.

    The threshold of a fold is the one with the best accuracy on all others, as LFW and CACD-VS are measured. Identities
    should not be in two folds.

    Args:
        score: `[n]`, of pairs.
        same: `[n]`, whether a pair is of one identity.
        fold: `[n]`, the fold of each pair.

    Raises:
        DataError: if there are fewer than two folds.

    Example:
        >>> score, same = np.array([0.9, 0.1, 0.8, 0.3]), np.array([True, False, True, False])
        >>> ten_fold(score, same, np.array([0, 0, 1, 1]))
        (1.0, 0.0)
    """
    folds = np.unique(fold)
    if len(folds) < 2:
        raise DataError(f"a threshold is chosen on other folds, and there are {len(folds)}; make 10")
    accuracies = []
    for each in folds:
        out = fold == each
        threshold = best_threshold(score[~out], same[~out])
        accuracies.append(float(((score[out] > threshold) == same[out]).mean()))
    return float(np.mean(accuracies)), float(np.std(accuracies))


def best_threshold(score: np.ndarray, same: np.ndarray) -> float:
    """Return the threshold with the most pairs on their side, in the middle between two scores.

    Example:
        >>> best_threshold(np.array([0.2, 0.4, 0.8]), np.array([False, False, True]))
        0.6000000000000001
    """
    values = np.unique(score)
    edges = np.concatenate(([values[0] - 1], (values[:-1] + values[1:]) / 2, [values[-1] + 1]))
    genuine, impostor = np.sort(score[same]), np.sort(score[~same])
    right = len(genuine) - np.searchsorted(genuine, edges, "right") + np.searchsorted(impostor, edges, "right")
    return float(edges[int(np.argmax(right))])


def _checked(genuine: np.ndarray, impostor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pairs = np.asarray(genuine, dtype=np.float64).ravel(), np.asarray(impostor, dtype=np.float64).ravel()
    for name, scores in zip(("genuine", "impostor"), pairs, strict=True):
        if not len(scores):
            raise DataError(f"there are no {name} pairs; verification needs pairs of one identity and of two")
        if np.isnan(scores).any():
            raise DataError(f"{int(np.isnan(scores).sum())} scores of {name} pairs are not a number")
    return pairs
