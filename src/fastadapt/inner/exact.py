r"""The exact meta-gradient: every inner step is differentiated.

grad = prod_j (I - alpha H_j) grad L_Q(theta^k)        for SGD, H_j the Hessian of L_S at theta^j
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fastadapt.errors import ConfigError
from fastadapt.inner.runner import Runner
from fastadapt.inner.sweep import sweep
from fastadapt.inner.trajectory import Carry, Loop


@dataclass(frozen=True)
class Exact:
    """Differentiate every inner step: `prod_j (I - alpha H_j) grad L(D^Q; theta^k)` for SGD.

    Args:
        segment: inner steps whose graph is kept at once; the others are computed once more on the way back. 1 keeps
            only the parameters of every step; None keeps all of a loop of up to 5 steps, and 1 of a longer one.

    Raises:
        ConfigError: if `segment` is below 1.

    Example:
        >>> Exact(segment=2)
        Exact(segment=2)

    References:
        Finn, Abbeel, Levine 2017 (arXiv:1703.03400), Algorithm 1; Griewank, Walther 2008, Evaluating Derivatives.
    """

    segment: int | None = None
    name = "exact"
    through = True

    def __post_init__(self) -> None:
        if self.segment is not None and (not isinstance(self.segment, int) or self.segment < 1):
            raise ConfigError(f"segment must be a whole number of at least 1, or None, got {self.segment!r}")

    def gradient(
        self, run: Runner, loop: Loop, start: Carry, fixed: Any, task: Any, weights: Mapping[int, float]
    ) -> tuple[Any, Any, Tensor, Any]:
        """Return `(gradient to theta^0, gradient to f, meta-objective, report)`, see `Differentiation`."""
        return sweep(run, loop, start, fixed, task, weights, segment=self.segment)
