"""A Gaussian over tasks: what the coefficients of a new task are likely to be, and what samples then say of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from fastadapt.errors import ConfigError, TaskError

Shape = Literal["full", "diagonal", "scalar"]
ROUNDS = 60
"""Rounds of EM at most."""
_NUMBERS = 1 << 27
"""Float64 numbers that the tasks' Gram matrices may have together, 1 GiB."""


@dataclass(frozen=True, eq=False)
class TaskPrior:
    r"""Hold coefficients `w ~ N(mu, Sigma)` of tasks and the noise of their samples, `y = A w + e`, `e ~ N(0, s2 I)`.

    With the samples `A: [n, m]`, `y: [n]` of a task the mean of the posterior is

        E[w | y] = mu + K (y - A mu),      K = Sigma A^T (A Sigma A^T + s2 I)^{-1},

    of all estimates the one with the least squared error where the tasks are as the prior says. For `Sigma = tau^2 I`
    it is ridge regression towards `mu` with `lambda = s2 / tau^2`.

    Args:
        mean: `mu`, `[m]`.
        covariance: `Sigma`, `[m, m]`, symmetric with no eigenvalue below 0.
        noise: `s2`, a variance >= 0; at 0 the samples are met exactly, as far as the prior allows it.

    Example:
        >>> prior = TaskPrior(torch.tensor([1.0, 0.0]), torch.eye(2), noise=1.0)
        >>> prior.posterior_mean(torch.tensor([[1.0, 0.0]]), torch.tensor([3.0]))
        tensor([2., 0.])

    References:
        Bishop 2006, Pattern Recognition and Machine Learning, section 3.3; Kay 1993, Estimation Theory, chapter 12.
    """

    mean: Tensor
    covariance: Tensor
    noise: float

    def gain(self, a: Tensor) -> Tensor:
        """Return `K: [..., m, n]` for samples `a: [..., n, m]`."""
        n, m = a.shape[-2:]
        if self.noise == 0 or n > m:
            root = square_root(self.covariance)
            seen = a @ root
            if self.noise == 0:  # the limit: a pseudo-inverse, as not all that is seen need vary between tasks
                return root @ torch.linalg.pinv(seen, rtol=1e-10)
            gram = seen.mT @ seen + self.noise * torch.eye(m).to(a)
            return root @ torch.linalg.solve(gram, seen.mT)
        cross = a @ self.covariance
        return torch.linalg.solve(cross @ a.mT + self.noise * torch.eye(n).to(a), cross).mT

    def posterior_mean(self, a: Tensor, y: Tensor) -> Tensor:
        """Return `E[w | y]: [..., m]` of tasks with samples `a: [..., n, m]`, `y: [..., n]`.

        Tasks that were seen at the same places share one `a: [n, m]`, and one matrix `K`.
        """
        missed = (y - a @ self.mean).unsqueeze(-1)
        return self.mean + (self.gain(a) @ missed).squeeze(-1)


def square_root(covariance: Tensor) -> Tensor:
    """Return `L` with `L L^T = covariance`; what rounding has made negative counts as 0."""
    values, vectors = torch.linalg.eigh((covariance + covariance.mT) / 2)
    return vectors * values.clamp_min(0).sqrt()


def prior_of_values(values: Tensor, noise: float = 0.0) -> TaskPrior:
    """Return the prior whose coefficients were seen themselves: values of tasks on a common grid, such as pixels.

    Args:
        values: `[T, m]`, a row for each training task, T >= 2; `Sigma` divides by T - 1.
        noise: the variance of samples of a new task.

    Raises:
        TaskError: for fewer than two tasks.

    Example:
        >>> prior_of_values(torch.tensor([[0.0, 0.0], [2.0, 4.0]])).covariance
        tensor([[2., 4.],
                [4., 8.]])
    """
    if values.dim() != 2 or len(values) < 2:
        raise TaskError(f"a covariance needs values [T, m] of at least 2 tasks, got {list(values.shape)}")
    mean = values.mean(0)
    spread = values - mean
    return TaskPrior(mean, spread.T @ spread / (len(values) - 1), noise)


def fit_prior(
    samples: Sequence[tuple[Tensor, Tensor]],
    *,
    shape: Shape = "full",
    noise: float | None = None,
    each: Callable[[], None] = lambda: None,
) -> TaskPrior:
    r"""Return the prior under which the samples of training tasks are most likely, by EM from the pooled solution.

    With posterior means `m_t` and covariances `V_t` of the tasks, a round is

        mu = mean_t m_t,   Sigma = mean_t V_t + (m_t - mu)(m_t - mu)^T,
        s2 = sum_t |y_t - A_t m_t|^2 + tr(A_t V_t A_t^T)  /  number of samples

    so that a task of few samples counts for what it can say, and there may be fewer samples than coefficients. It
    ends when no number changes by a thousandth of its scale, at the latest after `ROUNDS`.

    Args:
        samples: `(a: [n, m], y: [n])` of each training task; numbers of samples may differ.
        shape: of `Sigma`: "full", "diagonal", or "scalar" for `tau^2 I`.
        noise: `s2` where it is known; None learns it.
        each: called before every round; may raise to end it all.

    Raises:
        ConfigError: for an unknown shape, a noise <= 0, or more numbers than fit into memory.
        TaskError: for fewer than two tasks, or what is not finite.

    References:
        Dempster, Laird, Rubin 1977, Maximum Likelihood from Incomplete Data via the EM Algorithm (JRSS B 39); Laird,
        Ware 1982, Random-Effects Models for Longitudinal Data (Biometrics 38).
    """
    _check(samples, shape, noise)
    a_all, y_all = (torch.cat([pair[i] for pair in samples]) for i in (0, 1))
    m, count = a_all.shape[1], a_all.shape[0]
    gram = torch.stack([a.T @ a for a, _ in samples])
    cross = torch.stack([a.T @ y for a, y in samples])
    squares = torch.stack([y @ y for _, y in samples])
    ridge = 1e-6 * max(float(torch.trace(gram.sum(0))) / m, 1e-300) * torch.eye(m).to(a_all)
    mean = torch.linalg.solve(gram.sum(0) + ridge, cross.sum(0))
    missed = float((y_all - a_all @ mean).square().mean()) or 1e-12
    scale = float(a_all.square().sum(1).mean()) or 1.0
    covariance = torch.eye(m).to(a_all) * (missed / 2 / scale)
    s2 = missed / 2 if noise is None else noise
    for _ in range(ROUNDS):
        each()
        root = square_root(covariance)
        inner = torch.eye(m).to(a_all) + root.T @ gram @ root / s2
        posterior = root @ torch.linalg.solve(inner, root.T.expand_as(gram))
        means = mean + (posterior @ (cross - gram @ mean).unsqueeze(-1)).squeeze(-1) / s2
        new_mean = means.mean(0)
        spread = means - new_mean
        new = _shaped(posterior.mean(0) + spread.T @ spread / len(means), shape)
        if noise is None:
            fit = squares - 2 * (means * cross).sum(1) + (means * (gram @ means.unsqueeze(-1)).squeeze(-1)).sum(1)
            new_s2 = float((fit.sum() + (posterior * gram).sum()) / count)
            new_s2 = max(new_s2, 1e-12 * missed)
        else:
            new_s2 = noise
        moved = max(
            float((new_mean - mean).abs().max()) / (float(new.diagonal().max()) ** 0.5 + 1e-300),
            float((new - covariance).abs().max()) / (float(new.diagonal().max()) + 1e-300),
            abs(new_s2 - s2) / new_s2,
        )
        mean, covariance, s2 = new_mean, new, new_s2
        if moved < 1e-3:
            break
    return TaskPrior(mean, covariance, s2)


def _shaped(covariance: Tensor, shape: Shape) -> Tensor:
    if shape == "full":
        return covariance
    spread = covariance.diagonal()
    return torch.diag(spread if shape == "diagonal" else spread.mean().expand_as(spread))


def _check(samples: Sequence[tuple[Tensor, Tensor]], shape: str, noise: float | None) -> None:
    if shape not in get_args(Shape):
        raise ConfigError(f"the shape of a covariance is one of {', '.join(get_args(Shape))}, got {shape!r}")
    if noise is not None and not 0 < noise < float("inf"):
        raise ConfigError(f"noise is a variance > 0 to fit a prior with, or None to learn it, got {noise!r}")
    if len(samples) < 2:
        raise TaskError(f"a prior over tasks needs at least 2 training tasks, got {len(samples)}")
    numbers = len(samples) * samples[0][0].shape[1] ** 2
    if numbers > _NUMBERS:
        raise ConfigError(
            f"{len(samples)} tasks of {samples[0][0].shape[1]} coefficients make Gram matrices of {numbers:,} numbers, "
            f"more than {_NUMBERS:,}; give fewer tasks or features"
        )
    for number, (a, y) in enumerate(samples):
        if not bool(torch.isfinite(a).all() and torch.isfinite(y).all()):
            raise TaskError(f"training task {number} has samples that are not finite; leave them out")
