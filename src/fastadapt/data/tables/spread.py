"""How far the numbers of a column lie apart, by their own size: 2e-12 and 8e-12 differ as 2 and 8 do."""

import numpy as np

_ROUNDING = 8  # neighbouring floating-point numbers that a sum may be off by


def are_same(values: np.ndarray) -> bool:
    """Return whether numbers differ in nothing but the last digits that 64-bit arithmetic keeps.

    Args:
        values: `[n]`, finite, at least one.

    Example:
        >>> are_same(np.array([0.3, 0.1 + 0.2])), are_same(np.array([2e-12, 8e-12])), are_same(np.array([1e18, 2e18]))
        (True, False, False)
    """
    low, high = float(values.min()), float(values.max())
    return high - low <= _ROUNDING * float(np.spacing(max(abs(low), abs(high))))


def mean_and_std(values: np.ndarray) -> tuple[float, float]:
    """Return mean and standard deviation, of numbers whose squares are too small or too large as well.

    Args:
        values: `[n]`, finite, not all the same.

    Example:
        >>> mean_and_std(np.array([2.0**-800, 3 * 2.0**-800])) == (2.0**-799, 2.0**-800)
        True
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        mean, std = float(values.mean()), float(values.std())
    if np.isfinite(mean) and np.isfinite(std) and std > np.finfo(float).tiny ** 0.5:
        return mean, std
    scale = float(np.abs(values).max())
    scaled = values / scale
    return float(scaled.mean()) * scale, float(scaled.std()) * scale


def as_range(low: float, high: float, digits: int = 6) -> tuple[str, str]:
    """Return two numbers as text, with as many digits as tell them apart.

    Example:
        >>> as_range(0.0, 2.5), as_range(1711843200000000000.0, 1711843201000000000.0)
        (('0', '2.5'), ('1711843200000000000', '1711843201000000000'))
    """
    short = f"{low:.{digits}g}", f"{high:.{digits}g}"
    return short if low == high or short[0] != short[1] else (f"{low:.19g}", f"{high:.19g}")
