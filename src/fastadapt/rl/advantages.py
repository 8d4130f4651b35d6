"""Returns, the linear baseline, and advantages: what an action was better than expected by."""

import torch
from torch import Tensor

WIDEST = 10.0
"""Bound of the observations that the baseline sees."""
RIDGE, TRIES = 1e-5, 5


def discounted(rewards: Tensor, discount: float) -> Tensor:
    r"""Return `R_t = sum_{l >= 0} discount^l r_{t+l}`, `[..., H]`.

    Example:
        >>> discounted(torch.ones(3), 0.5)
        tensor([1.7500, 1.5000, 1.0000])
    """
    to_go, found = torch.zeros_like(rewards[..., 0]), []
    for reward in rewards.unbind(-1)[::-1]:
        to_go = reward + discount * to_go
        found.append(to_go)
    return torch.stack(found[::-1], -1)


def linear_baseline(observations: Tensor, returns: Tensor, alive: Tensor) -> Tensor:
    """Fit the linear feature baseline to the returns of one task, and return what it predicts for the same steps.

    The features of step `t` at observation `o`, cut at ±10, are `[o, o^2, t/100, (t/100)^2, (t/100)^3, 1]`; the weights
    solve `(F'F + 1e-5 I) w = F'R` in float64, with ten times the ridge wherever that is not finite. It is fitted to the
    batch that it then judges, as the published code does, so it is a little too good; every task and every batch has
    its own.

    Args:
        observations: `[N, H, o]`.
        returns: discounted, `[N, H]`.
        alive: `[N, H]`, the steps that were taken; others are neither fitted nor predicted.

    Returns:
        `[N, H]`, 0 behind the end of an episode.

    References:
        Duan, Chen, Houthooft, Schulman, Abbeel 2016, Benchmarking Deep Reinforcement Learning for Continuous Control
        (arXiv:1604.06778), and the public code of Finn et al. 2017.
    """
    taken = alive > 0
    seen = observations.double().clamp(-WIDEST, WIDEST)
    t = torch.arange(alive.shape[1], dtype=torch.float64, device=alive.device).expand(alive.shape) / 100
    ones = torch.ones_like(t)
    features = torch.cat([seen, seen**2, torch.stack([t, t**2, t**3, ones], -1)], -1)[taken]
    gram, target = features.T @ features, features.T @ returns.double()[taken]
    predicted, ridge = torch.zeros_like(returns), RIDGE
    for _ in range(TRIES):
        eye = ridge * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        weights = torch.linalg.lstsq(gram + eye, target[:, None]).solution[:, 0]
        if bool(torch.isfinite(weights).all()):
            predicted[taken] = (features @ weights).to(returns)
            break
        ridge *= 10
    return predicted


def estimates(rewards: Tensor, baseline: Tensor, alive: Tensor, discount: float, gae_lambda: float) -> Tensor:
    r"""Return generalised advantage estimates, `[..., H]`, 0 behind the end.

        delta_t = r_t + discount V_{t+1} - V_t,      A_t = sum_l (discount lambda)^l delta_{t+l}

    with V = 0 behind the end, be it the environment's or the horizon. For lambda = 1 it is `R_t - V_t`.

    Args:
        rewards: `[..., H]`.
        baseline: V, `[..., H]`.
        alive: `[..., H]`.
        discount: of the return, in (0, 1].
        gae_lambda: in [0, 1].

    References:
        Schulman, Moritz, Levine, Jordan, Abbeel 2016, High-Dimensional Continuous Control Using Generalized Advantage
        Estimation (arXiv:1506.02438).
    """
    ahead = torch.cat([baseline[..., 1:], torch.zeros_like(baseline[..., :1])], -1)
    return discounted(alive * (rewards + discount * ahead - baseline), discount * gae_lambda)


def advantages(rewards: Tensor, baseline: Tensor, alive: Tensor, discount: float, gae_lambda: float) -> Tensor:
    """Return the `estimates` of one task, `[N, H]`, with mean 0 and standard deviation 1 over the steps taken."""
    raw = estimates(rewards, baseline, alive, discount, gae_lambda)
    kept = raw[alive > 0]
    if not len(kept):
        return torch.zeros_like(raw)
    return torch.where(alive > 0, (raw - kept.mean()) / (kept.std(correction=0) + 1e-8), 0.0)
