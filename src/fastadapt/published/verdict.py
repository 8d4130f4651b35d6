"""Our number beside the published one: inside the two intervals, or outside and by how much."""

import math
from dataclasses import dataclass

from fastadapt.published.experiment import Claim


@dataclass(frozen=True)
class Verdict:
    """Hold how a measured number compares with a published one.

    Args:
        inside: whether the difference is within the two spreads taken together.
        difference: ours minus the published number.
        allowed: the two spreads together, `sqrt(ours^2 + theirs^2)`.
        better: whether ours is on the better side.
        vague: whether our interval is wider than the published number, as it is where single tasks diverge: then
            nothing is said.
    """

    inside: bool
    difference: float
    allowed: float
    better: bool
    vague: bool = False

    def text(self, *, percent: bool) -> str:
        """Return the verdict in words."""
        if not math.isfinite(self.difference):
            return "outside: our mean is not finite"
        if self.vague:
            return "not judged: our interval is wider than the published number; a few tasks decide it"
        scale, unit = (100, " points") if percent else (1, "")
        words = f"{'+' if self.difference >= 0 else '−'}{scale * abs(self.difference):.2f}{unit}"
        if self.inside:
            return f"inside ({words}, ±{scale * self.allowed:.2f} allowed)"
        beyond = scale * (abs(self.difference) - self.allowed)
        return f"outside, {'better' if self.better else 'worse'} ({words}, {beyond:.2f} beyond the intervals)"


def judge(ours: float, half: float, claim: Claim, *, higher_is_better: bool) -> Verdict:
    """Compare a measured mean with a published one.

    Args:
        ours: the measured mean.
        half: half-width of its 95 % interval, >= 0.
        claim: the published number.
        higher_is_better: the metric's direction.

    Returns:
        The verdict; a number that is not finite is outside and worse.

    Example:
        >>> claim = Claim(0.987, 0.004, source="Finn et al. 2017, table 1")
        >>> judge(0.985, 0.003, claim, higher_is_better=True).text(percent=True)
        'inside (−0.20 points, ±0.50 allowed)'
        >>> judge(0.960, 0.003, claim, higher_is_better=True).text(percent=True)
        'outside, worse (−2.70 points, 2.20 beyond the intervals)'
    """
    allowed = math.hypot(half, claim.spread or 0.0)
    difference = ours - claim.value
    if not math.isfinite(ours):
        return Verdict(False, difference, allowed, better=False)
    vague = half > abs(claim.value)
    inside = abs(difference) <= allowed and not vague
    return Verdict(inside, difference, allowed, (difference >= 0) == higher_is_better, vague)
