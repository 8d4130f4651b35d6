"""Matching networks: attention over the support samples, with or without their full context (Vinyals et al. 2016)."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastadapt.errors import ConfigError
from fastadapt.layers.norm import Norm
from fastadapt.losses import Loss
from fastadapt.methods.compared import Comparison, Memory, check_shape
from fastadapt.methods.metric import MetricLearner
from fastadapt.nets.nearest import directions

Votes = Literal["attention", "sum"]


class Matches(Comparison):
    r"""Let every support sample vote for its class, by its cosine with the query.

    Args:
        votes: "attention", `P(c | x) = sum_i a_i 1[y_i = c]` with `a = softmax_i(scale * cos(f(x), g_i))`, the outputs
            being `log P`; "sum", the outputs being `scale * sum_i 1[y_i = c] cos(f(x), g_i)`.
        scale: of the cosines, > 0.
        features: numbers of the embedding, for full context embeddings; None compares the embedding itself.
        reads: steps of the LSTM that reads the support set for a query.
    """

    def __init__(self, votes: Votes = "attention", scale: float = 1.0, features: int | None = None, reads: int = 3):
        super().__init__(votes=votes, scale=scale, features=features, reads=reads)
        if votes not in get_args(Votes) or not scale > 0 or reads < 0 or (features is not None and features < 1):
            raise ConfigError(
                f"matching needs votes 'attention' or 'sum', scale > 0, reads >= 0 and features >= 1 or None, got "
                f"{votes!r}, {scale}, {reads}, {features}"
            )
        self.votes, self.scale, self.reads = votes, scale, reads
        self.context = self.reader = None
        if features is not None:
            self.context = nn.LSTM(features, features, bidirectional=True)
            self.reader = nn.LSTMCell(2 * features, features)

    def remember(self, features: Tensor, y: Tensor, ways: int) -> Memory:
        """Return `{"samples": [S, d], "labels": [S, N]}`: the embedded support set as ordered, and its votes."""
        g = features.flatten(1)
        if self.context is not None:
            check_shape(g, (self.context.input_size,), "context")
            forward, backward = self.context(g)[0].chunk(2, dim=1)
            g = forward + backward + g
        return {"samples": g, "labels": F.one_hot(y, ways).to(g.dtype)}

    def read(self, f: Tensor, samples: Tensor) -> Tensor:
        """Return the query features `[n, d]` after they have read the support set, see `MatchingNet`."""
        if self.reader is None:
            return f
        h, c = torch.zeros_like(f), torch.zeros_like(f)
        for _ in range(self.reads):
            r = (h @ samples.T).softmax(1) @ samples  # the mean of the samples at first
            h, c = self.reader(torch.cat((f, r), 1), (h, c))
            h = h + f
        return h if self.reads else f

    def forward(self, features: Tensor, memory: Memory) -> Tensor:
        """Return `log P`, or the sums of cosines, `[n, N]`."""
        samples, labels = memory["samples"], memory["labels"]
        cosines = self.scale * directions(self.read(features.flatten(1), samples)) @ directions(samples).T
        if self.votes == "sum":
            return cosines @ labels
        attention = cosines.log_softmax(1).unsqueeze(2)
        absent = torch.finfo(cosines.dtype).min / 2
        return torch.logsumexp(attention.masked_fill(labels == 0, absent), 1)


class MatchingNet(MetricLearner):
    r"""Answer with the labels of the support samples, each weighted by how much it resembles the query.

        a_i = softmax_i cos(f(x), g(x_i)),      P(y = c | x) = sum_i a_i 1[y_i = c],      loss = -log P

    Plain, `f = g` is the embedding `f'`. With full context embeddings the support set is read by an LSTM in both
    directions, in the order in which it is given, and each query reads it `reads` times by attention:

        g(x_i) = h_fwd_i + h_bwd_i + f'(x_i)
        r_k = sum_i softmax_i(h_k . g(x_i)) g(x_i),      h_{k+1} = LSTM(f'(x); h_k, r_k) + f'(x),      f(x) = h_K

    The outputs are `log P`, whose softmax is `P`. Without a scale a cosine leaves the probabilities near to each other:
    with five classes none is above 0.65. `votes="sum"` is the classifier of a widely used re-implementation, the
    softmax over classes of the sum of their cosines.

    Args:
        model: the embedding `f'`, see `MetricLearner`; features are flattened.
        loss: on the outputs; default cross-entropy.
        context: numbers of the embedding, for full context embeddings; None is plain.
        reads: how often a query reads the support set, K.
        votes: "attention" or "sum".
        scale: what cosines are multiplied by, > 0.
        norm: the batch-norm mode; any but "per_step".

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> learner = MatchingNet(nn.Identity())
        >>> support = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.0]]), torch.tensor([0, 0, 1, 1])
        >>> learner.adapt(support)(torch.tensor([[1.0, 0.5]])).exp()
        tensor([[0.5728, 0.4272]])

    References:
        Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra 2016 (arXiv:1606.04080); for "sum" the public code of Ravi &
        Larochelle 2017.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        context: int | None = None,
        reads: int = 3,
        votes: Votes = "attention",
        scale: float = 1.0,
        norm: Norm = "running",
    ) -> None:
        super().__init__(model, Matches(votes, scale, context, reads), loss, norm)
