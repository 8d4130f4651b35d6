"""E-MAML: how theta changes what is lived through before adaptation, and what that is worth after it."""

import torch
from torch import Tensor

from fastadapt.rl.advantages import discounted, estimates
from fastadapt.rl.experience import Experience
from fastadapt.rl.tasks import Environments

ROUNDING = 1e-5
"""Advantages that are smaller than this share of the returns are rounding."""


def worth(how: Environments, query: Experience) -> Tensor:
    r"""Return what the adapted policy of each task earned, in the units of its surrogate, less what the others did.

        w_i = G_i / (h_i sigma_i),      worth_i = w_i - (1/(T-1)) sum_{j != i} w_j

    with `G_i` the mean discounted return of its episodes, `h_i` the mean steps of one, and `sigma_i` what its
    advantages were divided by: the gradient of its surrogate is that of `E[G_i] / (h_i sigma_i)`. Other tasks say
    nothing of this one's episodes, so that taking their mean away leaves the expected gradient as it is, with less
    variance. It is 0 for a task whose returns differ by no more than rounding, as the advantages say nothing there.

    Args:
        how: the episodes were gathered.
        query: whole episodes of the adapted policies, `[T, F, H, ...]`.

    References:
        Stadie, Yang, Houthooft, Chen, Duan, Wu, Abbeel, Sutskever 2018, Some Considerations on Learning to Explore via
        Meta-Reinforcement Learning (arXiv:1803.01118).
    """
    rewards, baseline, alive = query.rewards, query.baseline, query.alive
    raw, returns = estimates(rewards, baseline, alive, how.discount, how.gae_lambda), discounted(rewards, how.discount)
    over = [(raw, alive)] * len(raw) if how.pooled else list(zip(raw, alive, strict=True))
    sigma = torch.stack([task[taken > 0].std(correction=0) for task, taken in over])
    telling = sigma > ROUNDING * returns.abs().amax((1, 2))
    earned = returns[..., 0].mean(1) / (alive.sum(2).mean(1) * torch.where(telling, sigma + 1e-8, 1.0))
    earned, count = torch.where(telling, earned, 0.0), int(telling.sum())
    others = (earned.sum() - earned) / max(count - 1, 1)
    return torch.where(telling, earned - others, 0.0)
