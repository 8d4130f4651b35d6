"""The step sizes of the published evaluation: the first update as in training, shorter ones after it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastadapt.rules.rules import Params, Rate, rate_of


@dataclass(frozen=True)
class Waning:
    """Step by gradient descent with `lr`, and with `later * lr` after the first step.

    Args:
        lr: step size alpha of the first step.
        later: what it is multiplied by from the second step on.

    Example:
        >>> rule = Waning(1.0, later=0.5)
        >>> theta, grads = {"w": torch.tensor(0.0)}, {"w": torch.tensor(-1.0)}
        >>> theta, state = rule.update(theta, grads, rule.init(theta))
        >>> float(rule.update(theta, grads, state)[0]["w"])
        1.5

    References:
        The public code of Finn, Abbeel, Levine 2017 (arXiv:1703.03400).
    """

    lr: Rate = 0.1
    later: float = 0.5

    def init(self, params: Params) -> Any:
        """Return the factor of the first step, 1."""
        return torch.ones(())

    def update(self, params: Params, grads: Params, state: Any) -> tuple[Params, Tensor]:
        """Return the parameters after one step, and the factor of those that follow."""
        moved = {n: p - state.to(p) * rate_of(self.lr, n) * grads[n] for n, p in params.items()}
        return moved, torch.full_like(state, self.later)
