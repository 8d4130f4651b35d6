"""What two fits come to, in a sentence."""

from collections.abc import Sequence

from fastadapt.showcases.race import counted
from fastadapt.signals.fit import HEADLINES
from fastadapt.signals.starts import Kind


def sentence(kind: Kind, learned: Sequence[float], random: Sequence[float]) -> str:
    """Return how the starts stand after the steps that such a start is learned for, and when the random one is level.

    Args:
        kind: of signal.
        learned: decibels after 0, 1, ... steps.
        random: those from the random start.

    Example:
        >>> sentence("photo", [12, 18, 21, 22], [12, 14, 16, 21])
        'After 2 steps: 21.0 dB from the learned start, 16.0 dB from a random one (+5.0 dB). The random start needs 3 \
steps for that. After 3 steps: 22.0 and 21.0 dB.'
    """
    at, last = min(HEADLINES[kind], len(learned) - 1), len(learned) - 1
    gain = learned[at] - random[at]
    parts = [
        f"After {counted(at)}: {learned[at]:.1f} dB from the learned start, {random[at]:.1f} dB from a random one "
        f"({gain:+.1f} dB)."
    ]
    if gain > 0 and last > at:
        level = next((k for k in range(at, last + 1) if random[k] >= learned[at]), None)
        until = f"needs {counted(level)} for that" if level else f"has not got there after {last}"
        parts.append(f"The random start {until}.")
    if last > at:
        parts.append(f"After {counted(last)}: {learned[last]:.1f} and {random[last]:.1f} dB.")
    return " ".join(parts)
