"""PPO as an outer step: several updates on the same episodes, with the policies' change clipped; ProMP's objective."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastadapt.errors import ConfigError
from fastadapt.learner import Outcome
from fastadapt.rl.plain import told
from fastadapt.tasks import Tasks
from fastadapt.training.blame import gradient_norm
from fastadapt.training.outer_step import Stepped
from fastadapt.training.settings import Training


@dataclass(frozen=True)
class PPO:
    r"""Update the optimizer a few times on the same episodes, no ratio of probabilities counting beyond its bounds.

        r_t = pi_{theta_i'} / pi_old (a_t|s_t)
        L   = (1/T) sum_i -mean_t min( r_t A_t, clip(r_t, 1 - clip, 1 + clip) A_t )
              + inner_kl sum_j mean_t KL(pi_old^j || pi_{theta_i^j})

    The first term is of the adapted policies, the second of those before each inner step, so that the episodes that the
    inner steps learn from stay those of policies near by. With the inner objective `PolicyGradient("likelihood_ratio")`
    it is ProMP.

    Args:
        clip: how far a ratio may be from 1.
        epochs: updates on the same episodes.
        inner_kl: eta, the weight of the divergence before adaptation.

    Raises:
        ConfigError: for a value outside its range.

    References:
        Schulman, Wolski, Dhariwal, Radford, Klimov 2017, Proximal Policy Optimization Algorithms (arXiv:1707.06347).
        Rothfuss, Lee, Clavera, Asfour, Abbeel 2019, ProMP: Proximal Meta-Policy Search (arXiv:1810.06784), equation 11.
    """

    clip: float = 0.3
    epochs: int = 5
    inner_kl: float = 5e-4

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not (self.clip > 0 and self.inner_kl >= 0 and self.epochs >= 1):
            raise ConfigError(
                f"PPO needs clip > 0, inner_kl >= 0 and epochs of at least 1, got {self.clip}, {self.inner_kl} and "
                f"{self.epochs}"
            )

    def __call__(
        self, learner: Any, tasks: list[Tasks], optimizer: torch.optim.Optimizer, training: Training
    ) -> Stepped:
        """Gather the episodes of a meta-batch and update; the weights stay where a number is not finite."""
        if not hasattr(learner, "clipped"):
            raise ConfigError(f"PPO updates a MetaPolicy or RL2, got a {type(learner).__name__}; leave outer_step out")
        gathered = learner.gather(tasks)
        params = [p for group in optimizer.param_groups for p in group["params"]]
        first: list[Tensor] = []
        norm = torch.zeros(())
        for _ in range(self.epochs):
            optimizer.zero_grad(set_to_none=True)
            losses = learner.clipped(gathered, self.clip, self.inner_kl)
            losses.mean().backward()
            found = gradient_norm([p.grad for p in params if p.grad is not None])
            first = first or [losses.detach(), found]
            norm = found
            if not math.isfinite(float(losses.detach().mean()) + float(norm)):
                break
            training.clip(params)
            optimizer.step()
        with torch.no_grad():
            kl = float(learner.divergence(gathered).mean())
        outcome = Outcome(first[0].mean(), first[0], gathered.metrics)
        return told(Stepped(outcome, bool(torch.isfinite(norm)), first[1], {"kl": kl}))
