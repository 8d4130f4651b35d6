"""A Gaussian prior over the linear coefficients of tasks, in closed form: the straight line to try first."""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from fastadapt.errors import TaskError
from fastadapt.inner.loop import check_after, check_steps
from fastadapt.inner.unchanged import unchanged
from fastadapt.judging.loss_values import called
from fastadapt.judging.not_finite import not_finite
from fastadapt.layers.copied import copied
from fastadapt.layers.norm import Norm
from fastadapt.layers.supported import as_module
from fastadapt.layers.turns import turn
from fastadapt.learner import Learner, MetaBatch, Outcome, Trace
from fastadapt.losses import MSE, Loss, as_loss
from fastadapt.methods.amounts import amounts, amounts_of
from fastadapt.methods.features import check_averages, check_norm, features_of
from fastadapt.methods.given_prior import given_covariance
from fastadapt.methods.judged import one_column, outcome_of
from fastadapt.methods.task_prior import Shape, TaskPrior, fit_prior
from fastadapt.nets.linear_head import LinearHead
from fastadapt.predictor import Predictor
from fastadapt.tasks import as_support


class GaussianPrior(Learner):
    r"""Answer with the posterior mean of a linear model whose coefficients vary between tasks as a Gaussian says.

        y = W^T a(x) + e,   a(x) = [f(x), 1],   vec W ~ N(mu, Sigma),   e ~ N(0, s2 I)
        E[W | support] = mu + Sigma A^T (A Sigma A^T + s2 I)^{-1} (y - A mu)

    Where tasks differ by a few numbers that act nearly linearly, this is the rival to beat. Nothing is trained by
    gradient steps: `fit` takes `mu`, `Sigma` and `s2` from the samples of training tasks. With `Sigma = tau^2 I` that
    are given, `GaussianPrior(model, mean=w0, covariance=tau**2, noise=s2)`, it is ridge regression towards `w0` with
    `lambda = s2 / tau^2`. It is computed in float64. There are no inner steps, and a trace has one column.

    Args:
        model: what gives the features `f(x): [n, d]`, such as `nn.Identity()`; run in evaluation mode and frozen.
        loss: of the answers on the query; default `MSE()`.
        mean: `mu: [d + 1, o]`, the last row the constant's; `[d, o]` with `constant=False`. Before `fit` often zeros.
        covariance: `Sigma: [m, m]` of the `m` numbers of `mean` row by row, or a variance > 0 for all of them.
        noise: `s2` > 0.
        constant: whether a constant stands beside the features.

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> learner = GaussianPrior(nn.Identity(), mean=torch.tensor([[1.0], [0.0]]), covariance=1.0, noise=2.0)
        >>> predict = learner.adapt((torch.tensor([[1.0]]), torch.tensor([[3.0]])))
        >>> predict(torch.tensor([[1.0]]))
        tensor([[2.]])

    References:
        Bishop 2006, Pattern Recognition and Machine Learning, section 3.3; Laird, Ware 1982 (Biometrics 38).
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        mean: Tensor,
        covariance: Tensor | float = 1.0,
        noise: float = 1.0,
        constant: bool = True,
    ) -> None:
        super().__init__()
        self.model = as_module(model)
        self.loss = MSE() if loss is None else as_loss(loss)
        self.norm: Norm = "running"
        self.test_steps = 0
        self.constant = constant
        check_averages(self.model)
        self.model.requires_grad_(False)
        given = given_covariance(mean, covariance, noise, constant=constant)
        self.mean: Tensor
        self.covariance: Tensor
        self.noise: Tensor
        self.register_buffer("mean", mean.detach().clone())
        self.register_buffer("covariance", given.detach().clone())
        self.register_buffer("noise", mean.new_tensor(noise))

    def signature(self) -> dict[str, Any]:
        """Return the facts of `Learner.signature`, with the constant and the loss."""
        return {**super().signature(), "constant": self.constant, "losses": [called(self.loss)]}

    @torch.no_grad()
    def fit(self, tasks: MetaBatch, *, shape: Shape = "full", noise: float | None = None) -> Self:
        """Take `mu`, `Sigma` and `s2` from the samples of training tasks, support and query together.

        Args:
            tasks: the training tasks, such as `draw(source, seed=0, split="train", indices=range(1000))`.
            shape: of `Sigma`: "full", "diagonal" or "scalar", see `fit_prior`.
            noise: `s2` where it is known; None learns it.

        Returns:
            The learner.

        Raises:
            TaskError: for tasks that are not of numbers, or fewer than two.
        """
        episodes = amounts_of(tasks, self.mean.shape[1], "GaussianPrior")
        with turn(self.model):
            samples = []
            for e in episodes:
                x, y = torch.cat((e.x, e.xq)), torch.cat((e.y, e.yq))
                samples.append((self._stacked(self._features(x)), y.double().flatten()))
        prior = fit_prior(samples, shape=shape, noise=noise)
        self.mean.copy_(prior.mean.view_as(self.mean))
        self.covariance.copy_(prior.covariance)
        self.noise.fill_(prior.noise)
        return self

    # ---- the contract --------------------------------------------------------------------------

    def forward(self, tasks: MetaBatch) -> Outcome:
        """Return the mean loss of the answers on the queries; there is nothing to differentiate it by."""
        episodes = amounts_of(tasks, self.mean.shape[1], "GaussianPrior")
        outputs = []
        with turn(self.model), unchanged([(e.x, e.xq) for e in episodes], self.model):
            for episode in episodes:
                if not len(episode.xq):
                    raise TaskError("a task has no query samples to be judged on; draw at least one")
                weight, bias = self.lines(episode.x, episode.y)
                outputs.append(features_of(self.model, episode.xq) @ weight.T + bias)
            return outcome_of(self.loss, self.model, outputs, episodes)

    @torch.no_grad()
    def trace(
        self, tasks: MetaBatch, steps: int | None = None, norm: Norm | None = None, after: Sequence[int] | None = None
    ) -> Trace:
        """Return losses, metrics and outputs on the queries; there are no inner steps, and one column."""
        check_steps(0 if steps is None else steps)
        check_after(after, 0 if steps is None else steps)
        check_norm(norm, type(self).__name__)
        return one_column(self(tasks))

    @torch.no_grad()
    def adapt(self, support: Any, steps: int | None = None, norm: Norm | None = None) -> Predictor:
        """Return features and posterior mean in one module, see `Learner.adapt`; `steps` change nothing."""
        if isinstance(steps, Tensor):
            raise TaskError("adapt takes the support set as one pair, and this is a second tensor; write adapt((x, y))")
        check_steps(0 if steps is None else steps)
        check_norm(norm, type(self).__name__)
        x, y = amounts(as_support(support), self.mean.shape[1], "GaussianPrior", "support")
        with turn(self.model), unchanged((x, y), self.model):
            weight, bias = self.lines(x, y)
            twin = copied(self.model).requires_grad_(False)
        network = LinearHead(twin, features=weight.shape[1], outputs=len(weight))
        network.put(weight, bias)
        return Predictor(network, "running").eval()

    # ---- one task ------------------------------------------------------------------------------

    def lines(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the posterior means of weights and constants, in the type of `mean`.

        Args:
            x: samples `[n, ...]`.
            y: their numbers `[n, o]`, or `[T, n, o]` of tasks that were seen at the same samples: one solution for all.

        Returns:
            `[o, d]` and `[o]`, with `T` ahead where `y` has it.

        Raises:
            TaskError: for samples that are not finite, or of another number of features than `mean` is for.
        """
        a = self._features(x)
        if not bool(torch.isfinite(a).all() and torch.isfinite(y).all()):
            fault = not_finite((x, y), "support") or "the features of the support set are not finite"
            raise TaskError(f"{fault}: no posterior can be computed from such samples; leave them out")
        prior = TaskPrior(self.mean.double().flatten(), self.covariance.double(), float(self.noise))
        found = prior.posterior_mean(self._stacked(a), y.double().flatten(-2)).to(self.mean.dtype)
        rows = found.unflatten(-1, self.mean.shape).mT
        if self.constant:
            return rows[..., :-1], rows[..., -1]
        return rows, torch.zeros_like(rows[..., 0])

    def _features(self, x: Tensor) -> Tensor:
        """Return `a(x): [n, d + 1]`, in float64."""
        with torch.no_grad():
            a = features_of(self.model, x).double()
        a = torch.cat((a, torch.ones_like(a[:, :1])), 1) if self.constant else a
        if a.shape[1] != len(self.mean):
            beside = " beside the constant" if self.constant else ""
            raise TaskError(
                f"there are {a.shape[1] - self.constant} features, and mean has rows for "
                f"{len(self.mean) - self.constant}{beside}; give a mean [{a.shape[1]}, {self.mean.shape[1]}]"
            )
        return a

    def _stacked(self, a: Tensor) -> Tensor:
        """Return the samples of all outputs as rows on the flattened `mean`, `[n o, m]`."""
        return torch.kron(a, torch.eye(self.mean.shape[1]).to(a))
