"""The measures of verification for identities that count any number of times, as a bootstrap draws them.

Scores are sorted once; what is drawn only changes how often a pair counts. With every identity once the numbers are
those of `fastadapt.faces.verification`.
"""

import numpy as np

from fastadapt.faces.verification import Scores


class Resampled:
    """Measure scores whose identities count `times` each.

    Args:
        scores: of every probe against the gallery.
        rates: false accept rates at which a true accept rate is told.

    Example:
        >>> scores = Scores(np.array([[0.9, 0.1], [0.4, 0.3]]), np.arange(2), np.arange(2))
        >>> Resampled(scores, (0.1,)).measure(np.ones(2))
        {'tar@0.1': 0.5, 'rank-1': 0.5, 'auc': 0.75, 'eer': 0.5}
    """

    def __init__(self, scores: Scores, rates: tuple[float, ...]) -> None:
        self.scores, self.rates = scores, rates
        same = scores.same
        self.mated = same.any(1)
        place = {person: number for number, person in enumerate(scores.gallery.tolist())}
        self.row = np.array([place.get(person, -1) for person in scores.probe.tolist()])
        rows, columns = np.nonzero(~same)
        order = np.argsort(scores.impostor, kind="stable")
        self.impostor = scores.impostor[order]
        self.of_row, self.of_column = self.row[rows[order]], columns[order]
        own = np.nonzero(same)[1]
        order = np.argsort(scores.genuine, kind="stable")
        self.genuine, self.of_genuine = scores.genuine[order], own[order]
        # where a genuine score lies among impostors, and each threshold among both
        self.below = np.searchsorted(self.impostor, self.genuine, "left")
        self.up_to = np.searchsorted(self.impostor, self.genuine, "right")
        thresholds = np.unique(np.concatenate((self.genuine, self.impostor)))[::-1]
        self.false_at = np.searchsorted(self.impostor, thresholds, "left")
        self.true_at = np.searchsorted(self.genuine, thresholds, "left")
        self.found = scores.matrix[same] > np.where(same, -np.inf, scores.matrix)[self.mated].max(1)

    def measure(self, times: np.ndarray) -> dict[str, float] | None:
        """Return every number by name; None where no genuine or no impostor pair is left.

        Args:
            times: how often each identity of the gallery counts.
        """
        times = np.asarray(times, dtype=np.float64)
        of_row = np.append(times, 1.0)  # a probe of nobody in the gallery counts once
        impostors = np.concatenate(([0.0], np.cumsum(of_row[self.of_row] * times[self.of_column])))
        weight = times[self.of_genuine]
        genuine = np.concatenate(([0.0], np.cumsum(weight)))
        all_impostors, all_genuine = impostors[-1], genuine[-1]
        if all_impostors == 0 or all_genuine == 0:
            return None
        told = {f"tar@{far:g}": self._tar(far, impostors, genuine) for far in self.rates}
        told["rank-1"] = self._rank_one(
            times
        )  # against the whole gallery: one that is drawn has fewer people to mistake
        half = (impostors[self.below] + impostors[self.up_to]) / 2
        told["auc"] = float((weight * half).sum() / all_genuine / all_impostors)
        told["eer"] = self._equal_error(impostors, genuine)
        return told

    def _tar(self, far: float, impostors: np.ndarray, genuine: np.ndarray) -> float:
        number = np.floor(far * impostors[-1] + 1e-9)
        # counted from the top: the first impostor with more than `number` at or above it
        above = impostors[-1] - impostors[:-1]
        index = int(np.flatnonzero(above > number)[-1])
        after = np.searchsorted(self.genuine, self.impostor[index], "right")
        return float((genuine[-1] - genuine[after]) / genuine[-1])

    def _rank_one(self, times: np.ndarray) -> float:
        weight = times[self.row[self.mated]]
        return float((self.found * weight).sum() / weight.sum())

    def _equal_error(self, impostors: np.ndarray, genuine: np.ndarray) -> float:
        false = np.concatenate(([0.0], 1 - impostors[self.false_at] / impostors[-1]))
        missed = np.concatenate(([1.0], genuine[self.true_at] / genuine[-1]))
        gap = missed - false
        after = int(np.argmax(gap <= 0))
        share = gap[after - 1] / (gap[after - 1] - gap[after])
        return float(false[after - 1] + share * (false[after] - false[after - 1]))
