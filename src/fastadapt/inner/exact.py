r"""The exact meta-gradient: every inner step is differentiated.

grad = prod_j (I - alpha H_j) grad L_Q(theta^k)        for SGD, H_j the Hessian of L_S at theta^j
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from fastadapt.errors import ConfigError
from fastadapt.inner.blocks import recomputing
from fastadapt.inner.calculus import Autograd
from fastadapt.inner.runner import Runner
from fastadapt.inner.sweep import sweep
from fastadapt.inner.trajectory import Carry, Loop


@dataclass(frozen=True)
class Exact:
    """Differentiate every inner step: `prod_j (I - alpha H_j) grad L(D^Q; theta^k)` for SGD.

    Args:
        segment: inner steps whose graph is kept at once; the others are computed once more on the way back. 1 keeps
            only the parameters of every step; None keeps all of a loop of up to 5 steps, and 1 of a longer one, or of
            any with `recompute`.
        recompute: blocks of a large network that are computed again for their derivative, and once more for the second,
            so that only what enters them is kept, see `fastadapt.inner.recomputed`: "blocks" takes what repeats in the
            network (the layers of a transformer); a tuple names parts of it. The tasks then run in a loop.

    Raises:
        ConfigError: if `segment` is below 1; when it runs, if the network has no such blocks.

    Example:
        >>> Exact(segment=2)
        Exact(segment=2, recompute=None)

    References:
        Finn, Abbeel, Levine 2017 (arXiv:1703.03400), Algorithm 1; Griewank, Walther 2008, Evaluating Derivatives.
    """

    segment: int | None = None
    recompute: Literal["blocks"] | tuple[str, ...] | None = None
    name = "exact"
    through = True

    def __post_init__(self) -> None:
        if self.segment is not None and (not isinstance(self.segment, int) or self.segment < 1):
            raise ConfigError(f"segment must be a whole number of at least 1, or None, got {self.segment!r}")
        if isinstance(self.recompute, list):
            object.__setattr__(self, "recompute", tuple(self.recompute))
        names = self.recompute
        if names not in (None, "blocks") and not (isinstance(names, tuple) and names and all(map(_is_text, names))):
            raise ConfigError(
                f"recompute must be 'blocks', a tuple of names of parts of the network, or None, got {names!r}"
            )

    def gradient(
        self, run: Runner, loop: Loop, start: Carry, fixed: Any, task: Any, weights: Mapping[int, float | Tensor]
    ) -> tuple[Any, Any, Tensor, Any]:
        """Return `(gradient to theta^0, gradient to f, meta-objective, report)`, see `Differentiation`."""
        if self.recompute is None:
            return sweep(run, loop, start, fixed, task, weights, segment=self.segment)
        if not isinstance(run.calculus, Autograd):
            raise NotImplementedError("blocks that are computed again take one task after another")
        named = None if self.recompute == "blocks" else self.recompute
        with recomputing(loop.model, named, loop.layout):
            return sweep(run, loop, start, fixed, task, weights, segment=self.segment or run.segment or 1)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
