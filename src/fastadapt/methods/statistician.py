"""The neural statistician: a class is a hidden context that generates its samples (Edwards & Storkey 2017)."""

from collections.abc import Sequence
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastadapt.errors import ConfigError, TaskError
from fastadapt.judging.labels import IGNORED
from fastadapt.layers.norm import Norm
from fastadapt.learner import MetaBatch, Outcome
from fastadapt.losses import Loss
from fastadapt.methods.compared import Comparison, Memory, check_shape, class_means
from fastadapt.methods.episodes import Episode
from fastadapt.methods.metric import MetricLearner
from fastadapt.methods.one_pass import Answer, check_one_pass
from fastadapt.nets.normals import Normal
from fastadapt.nets.statistician import Statistic

From = Literal["class", "query"]
Likelihood = Literal["bernoulli", "normal"]


class Contexts(Comparison):
    r"""Compare the context of a query, as a set of one, with that of each class, `s_c(x) = -KL(q_c || q_x)`.

    Args:
        features: the shape of an embedded sample, see `Statistic`; None takes `statistic`.
        hidden: see `Statistic`.
        context: see `Statistic`.
        divergence: "class" is `KL(q(c | D_k) || q(c | {x}))`, "query" is `KL(q(c | {x}) || q(c | D_k))`.
        statistic: a module with `each(h)` and `of(pooled)`, in place of a `Statistic`.
    """

    studies = True

    def __init__(
        self,
        features: Sequence[int] | None = None,
        hidden: int = 256,
        context: int = 512,
        divergence: From = "class",
        statistic: nn.Module | None = None,
    ) -> None:
        sizes = {"features": list(features), "hidden": hidden, "context": context} if features is not None else {}
        super().__init__(**sizes, divergence=divergence)
        if (features is None) == (statistic is None):
            raise ConfigError("a statistician needs the shape of the embedding, features=(C, H, W), or a statistic=")
        if divergence not in get_args(From):
            raise ConfigError(f"divergence must be 'class' or 'query', got {divergence!r}")
        self.divergence = divergence
        made = Statistic(features, hidden=hidden, context=context) if features is not None else statistic
        self.statistic = cast(Statistic, made)

    def remember(self, features: Tensor, y: Tensor, ways: int) -> Memory:
        """Return `q(c | D_k)` of each class, `{"means": [N, d], "logs": [N, d]}`."""
        if "features" in self.settings:
            check_shape(features, self.settings["features"], "features")
        q = self.statistic.of(class_means(self.statistic.each(features), y, ways))
        return {"means": q.mean, "logs": q.log}

    def forward(self, features: Tensor, memory: Memory) -> Tensor:
        """Return minus the divergences, `[n, N]`."""
        q = self.statistic.of(self.statistic.each(features))
        asked, known = Normal(q.mean.unsqueeze(1), q.log.unsqueeze(1)), Normal(memory["means"], memory["logs"])
        return -(known.divergence(asked) if self.divergence == "class" else asked.divergence(known))

    def study(self, features: Tensor, y: Tensor, ways: int) -> Memory:
        """Return `q(c | D)` of all samples of each class, the embedded samples and the class of each."""
        return {**self.remember(features, y, ways), "features": features, "classes": y}


class NeuralStatistician(MetricLearner):
    r"""Learn how a hidden context generates the samples of a class; answer with the class whose context is nearest.

        q(c | D) = N(c; g(mean_j e(f(x_j)))),      s_k(x) = -KL(q(c | D_k) || q(c | {x}))

    The outputs are the `s_k`. Training never tells two classes apart. It fits a model in which a class has a context c,
    each of its samples a further z, and these generate the sample x, by the bound on the likelihood of the class

        log p(D) >= E[sum_x log p(x | z, c)] - KL(q(c | D) || p(c)) - E[sum_x KL(q(z | x, c) || p(z | c))]

    with `p(c) = N(0, 1)`. Divided by the number of samples, R being the first sum and KL the rest, the loss is

        -(1 + a) R + KL / (1 + a),      a = alpha 2^(-floor(steps / halved_every))

    Support and query of a class are one set D in training, so `shots + queries` is its size; tasks of many classes are
    large batches. The numbers of images are the probabilities of a pixel ("bernoulli"): the mean over binarised images
    is taken exactly.

    Args:
        model: the embedding `f`, see `MetricLearner`; `fastadapt.nets.StatisticianEncoder` as published.
        loss: on the outputs, for traces and evaluation; default cross-entropy.
        generator: a `fastadapt.nets.Generator`, or a module with its three methods; it has no part in an answer.
        features: the shape of an embedded sample; e and g are a `fastadapt.nets.Statistic` for it.
        hidden: numbers between the layers of e and g.
        context: numbers of c.
        statistic: a module with `each(h)` and `of(pooled)` for e and g, in place of that.
        divergence: whose distribution comes first: "class" as above, "query" is `KL(q(c | {x}) || q(c | D_k))`.
        likelihood: "bernoulli" for samples in 0..1, or "normal", with variance 1.
        alpha: what R weighs more at first, >= 0; 0 is the bound itself.
        halved_every: outer steps after which a is halved, >= 1.
        norm: "running" alone.

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> from fastadapt.nets import Generator
        >>> learner = NeuralStatistician(nn.Identity(), generator=Generator((3,), (3,)), features=(3,)).eval()
        >>> learner.adapt((torch.rand(4, 3), torch.tensor([0, 0, 1, 1])))(torch.rand(5, 3)).shape
        torch.Size([5, 2])

    References:
        Edwards, Storkey 2017, Towards a Neural Statistician (arXiv:1606.02185); the annealing of a public
        re-implementation.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        generator: nn.Module,
        features: Sequence[int] | None = None,
        hidden: int = 256,
        context: int = 512,
        statistic: nn.Module | None = None,
        divergence: From = "class",
        likelihood: Likelihood = "bernoulli",
        alpha: float = 1.0,
        halved_every: int = 300,
        norm: Norm = "running",
    ) -> None:
        super().__init__(model, Contexts(features, hidden, context, divergence, statistic), loss, norm)
        if likelihood not in get_args(Likelihood) or not 0 <= alpha < float("inf") or halved_every < 1:
            raise ConfigError(
                f"likelihood must be 'bernoulli' or 'normal', alpha finite and >= 0 and halved_every >= 1, got "
                f"{likelihood!r}, {alpha} and {halved_every}"
            )
        check_one_pass(type(self).__name__, norm)
        self.generator: Any = generator
        self.likelihood, self.alpha, self.halved_every = likelihood, alpha, halved_every
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def signature(self) -> dict[str, Any]:
        """Return the facts of `MetricLearner.signature`, with the likelihood and the annealing."""
        own = {"likelihood": self.likelihood, "alpha": self.alpha, "halved_every": self.halved_every}
        return {**super().signature(), **own}

    def forward(self, tasks: MetaBatch) -> Outcome:
        """Return the mean objective over the tasks; a step of training counts for the annealing."""
        outcome = super().forward(tasks)
        if self.training and torch.is_grad_enabled():
            self.steps += 1
        return outcome

    def objective(self, answer: Answer, episode: Episode) -> Tensor:
        """Return minus the weighted bound, for each sample."""
        fits, apart = self.bound(answer, episode)
        a = self.alpha * 0.5 ** (self.steps // self.halved_every).to(fits.dtype)
        return (apart / (1 + a) - (1 + a) * fits) / len(answer.studied["classes"])

    def bound(self, answer: Answer, episode: Episode) -> tuple[Tensor, Tensor]:
        """Return R and KL of a task, sums over its samples, with one sample of each c and z."""
        seen, y = answer.studied, answer.studied["classes"]
        x = torch.cat((episode.x, episode.xq))[torch.cat((episode.y, episode.yq)) != IGNORED]
        q = Normal(seen["means"], seen["logs"])
        c = q.sample()
        guessed, expected = self.generator.guessed(seen["features"], c[y]), self.generator.expected(c)
        apart = q.from_standard().sum() + guessed.divergence(Normal(expected.mean[y], expected.log[y])).sum()
        return self._fit(self.generator(guessed.sample(), c[y]), x), apart

    def _fit(self, drawn: Tensor, x: Tensor) -> Tensor:
        """Return `sum log p(x | z, c)`."""
        if drawn.shape != x.shape:
            raise TaskError(
                f"the generator was built for samples of shape {tuple(drawn.shape[1:])}, and those of the task have "
                f"{tuple(x.shape[1:])}; build it for these"
            )
        if self.likelihood == "normal":
            return Normal(drawn, torch.zeros_like(drawn)).log_likelihood(x).sum()
        if bool(((x < 0) | (x > 1)).any()):
            raise TaskError(
                f"likelihood='bernoulli' takes samples in 0..1, and these reach from {float(x.min()):.4g} to "
                f"{float(x.max()):.4g}; scale them, or choose likelihood='normal'"
            )
        return -F.binary_cross_entropy_with_logits(drawn, x, reduction="sum")
