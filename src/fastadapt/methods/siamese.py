"""Siamese networks: whether two samples are of one class, and by that of which class one is (Koch et al. 2015)."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastadapt.errors import ConfigError
from fastadapt.layers.norm import Norm
from fastadapt.losses import Loss
from fastadapt.methods.compared import Comparison, Memory, check_shape
from fastadapt.methods.episodes import Episode
from fastadapt.methods.metric import MetricLearner, counted
from fastadapt.methods.one_pass import Answer

Over = Literal["max", "mean"]


class Pairs(Comparison):
    r"""Judge a query beside each support sample, `p(x, x_j) = sigmoid(w . |f(x) - f(x_j)| + b)`.

    Args:
        features: numbers of the embedding.
        over: what a class is given of its samples: the "max" of their `p`, or the "mean".
    """

    def __init__(self, features: int, over: Over = "max") -> None:
        super().__init__(features=features, over=over)
        if features < 1 or over not in get_args(Over):
            raise ConfigError(f"pairs need features >= 1 and over 'max' or 'mean', got {features} and {over!r}")
        self.over = over
        self.weigh = nn.Linear(features, 1)

    def remember(self, features: Tensor, y: Tensor, ways: int) -> Memory:
        """Return `{"samples": [S, d], "labels": [S, N]}`, the embedded support set and the classes it belongs to."""
        check_shape(features.flatten(1), (self.weigh.in_features,), "features")
        return {"samples": features.flatten(1), "labels": F.one_hot(y, ways).to(features.dtype)}

    def forward(self, features: Tensor, memory: Memory) -> Tensor:
        """Return `logit p(x, x_j)` of each query and each sample, `[n, S]`."""
        return self.weigh((features.flatten(1).unsqueeze(1) - memory["samples"]).abs()).squeeze(2)

    def outputs(self, scores: Tensor, memory: Memory) -> Tensor:
        """Return the logarithm of the largest or mean `p` of each class, `[n, N]`."""
        labels = memory["labels"]
        logs = -F.softplus(-scores).unsqueeze(2)
        logs = logs.masked_fill(labels == 0, torch.finfo(logs.dtype).min / 2)
        return logs.amax(1) if self.over == "max" else torch.logsumexp(logs, 1) - labels.sum(0).log()


class SiameseNet(MetricLearner):
    r"""Learn whether two samples are of one class; answer with the class of the sample that is most alike.

        p(x, x') = sigmoid(w . |f(x) - f(x')| + b),      s_c(x) = max_{j: y_j = c} p(x, x_j)

    The loss is the binary cross-entropy over all pairs of a query and a support sample of the task, where pairs of one
    class count as much together as those of two:

        loss = -1/2 mean_{same} log p(x, x_j) - 1/2 mean_{other} log(1 - p(x, x_j))

    The outputs are `log s_c`, so that their softmax is each class's share of the sum of all `s_c`. The paper compares
    with one sample a class; with several, `over` says what counts. It draws pairs from the whole training set rather
    than from tasks, and its network, `fastadapt.nets.KochNet`, is trained by other rates in every layer.

    Args:
        model: the embedding `f`, see `MetricLearner`; features are flattened.
        loss: on the outputs, for traces and evaluation; default cross-entropy.
        features: numbers of the embedding.
        over: what a class is given of its samples: the "max" of their `p`, or the "mean".
        norm: the batch-norm mode; any but "per_step".

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> learner = SiameseNet(nn.Identity(), features=2)
        >>> predict = learner.adapt((torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1])))
        >>> torch.allclose(predict(torch.zeros(1, 2))[0, 0].exp(), learner.comparison.weigh.bias.sigmoid())
        True

    References:
        Koch, Zemel, Salakhutdinov 2015, Siamese Neural Networks for One-shot Image Recognition (ICML deep learning
        workshop); Vinyals et al. 2016 (arXiv:1606.04080) for the tasks of classes drawn at random.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        features: int,
        over: Over = "max",
        norm: Norm = "running",
    ) -> None:
        super().__init__(model, Pairs(features, over), loss, norm)

    def objective(self, answer: Answer, episode: Episode) -> Tensor:
        """Return the binary cross-entropy over all pairs of query and support, both kinds with half of the weight."""
        logits, y = counted(answer.scores, episode.yq)
        same = (y.unsqueeze(1) == episode.y).to(logits.dtype)
        costs = F.binary_cross_entropy_with_logits(logits, same, reduction="none")
        halves = [(costs * kind).sum() / kind.sum().clamp(min=1) for kind in (same, 1 - same)]
        return (halves[0] + halves[1]) / 2
