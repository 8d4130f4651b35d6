"""Relation Network: a network judges how a query relates to each class (Sung et al. 2018)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastadapt.errors import ConfigError
from fastadapt.layers.norm import Norm
from fastadapt.losses import Loss
from fastadapt.methods.compared import COLUMNS, Comparison, Memory, check_shape
from fastadapt.methods.episodes import Episode
from fastadapt.methods.metric import MetricLearner, counted
from fastadapt.methods.one_pass import Answer
from fastadapt.nets.relation import Relation


class Relations(Comparison):
    r"""Relate a query to the sum of the embedded samples of each class, `r_c(x) = sigmoid(g([sum_j f(x_j), f(x)]))`.

    Args:
        features: the shape of one embedded sample, see `Relation`, which `g` is made as; None takes `relation`.
        width: see `Relation`.
        hidden: see `Relation`.
        padding: see `Relation`.
        relation: a module `[n, 2 C, ...] -> [n]` or `[n, 1]`, in place of one.
    """

    def __init__(
        self,
        features: Sequence[int] | None = None,
        width: int = 64,
        hidden: int = 8,
        padding: int = 1,
        relation: nn.Module | None = None,
    ) -> None:
        shape = None if features is None else list(features)
        super().__init__(**({"features": shape, "width": width, "hidden": hidden, "padding": padding} if shape else {}))
        if (features is None) == (relation is None):
            raise ConfigError(
                "a relation network needs the shape of the embedding, features=(C, H, W), or a relation= module"
            )
        if relation is None:
            assert features is not None
            relation = Relation(features, width=width, hidden=hidden, padding=padding)
        self.relation = relation

    def remember(self, features: Tensor, y: Tensor, ways: int) -> Memory:
        """Return the sum of the maps of each class, `{"sums": [N, C, ...]}`."""
        if self.settings:
            check_shape(features, self.settings["features"], "features")
        members = F.one_hot(y, ways).to(features.dtype)
        return {"sums": (members.T @ features.flatten(1)).view(ways, *features.shape[1:])}

    def forward(self, features: Tensor, memory: Memory) -> Tensor:
        """Return `logit r_c`, `[n, N]`."""
        sums = memory["sums"]
        ways, n = sums.shape[0], features.shape[0]
        queries = features.unsqueeze(1).expand(n, ways, *features.shape[1:])
        both = torch.cat((sums.unsqueeze(0).expand_as(queries), queries), 2)
        return self.relation(both.flatten(0, 1)).view(n, ways)

    def outputs(self, scores: Tensor, memory: Memory) -> Tensor:
        """Return `log r_c`, `[n, N]`."""
        return -F.softplus(-scores)


class RelationNet(MetricLearner):
    r"""Learn an embedding `f` and a network `g` that scores how a query relates to a class.

        r_c(x) = sigmoid(g([sum_{j: y_j = c} f(x_j), f(x)])),      loss = mean_{x, c} (r_c(x) - 1[y = c])^2

    `[,]` stacks the maps of both along the channels. The outputs are `log r_c`: their exponentials are the scores in
    (0, 1), their softmax is each class's share of the sum of them. As published, batch norm is never put into
    evaluation mode, so that the queries of a task share statistics ("transductive"); `g` has batch norm too, over all
    pairs of query and class.

    Args:
        model: the embedding `f`, whose output may have maps `[n, C, H, W]`, as `fastadapt.nets.RelationEncoder`'s, or
            not, as a transformer's `[n, d]`.
        loss: on the outputs, for traces and evaluation; default cross-entropy.
        features: the shape of one embedded sample, `(C, H, W)` or `(d,)`; `g` is a `fastadapt.nets.Relation` for it.
        relation: a module `[n, 2 C, ...] -> [n]` for `g`, in place of that.
        width: filters of a block of `g`.
        hidden: numbers between the two linear layers of `g`.
        padding: of the convolutions of `g`: 1 for small maps, 0 for large ones.
        norm: the batch-norm mode; any but "per_step".

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> from fastadapt.nets import RelationEncoder
        >>> learner = RelationNet(RelationEncoder(1, width=8), features=(8, 5, 5), width=8, norm="support")
        >>> predict = learner.adapt((torch.rand(10, 1, 28, 28), torch.arange(10) % 5))
        >>> predict(torch.rand(3, 1, 28, 28)).shape
        torch.Size([3, 5])

    References:
        Sung, Yang, Zhang, Xiang, Torr, Hospedales 2018 (arXiv:1711.06025) and their public code.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        features: Sequence[int] | None = None,
        relation: nn.Module | None = None,
        width: int = 64,
        hidden: int = 8,
        padding: int = 1,
        norm: Norm = "transductive",
    ) -> None:
        super().__init__(model, Relations(features, width, hidden, padding, relation), loss, norm)

    def objective(self, answer: Answer, episode: Episode) -> Tensor:
        """Return the mean squared error of the scores, 1 being right and 0 wrong."""
        scores, y = counted(answer.scores, episode.yq)
        truth = F.one_hot(answer.memory[COLUMNS][y], scores.shape[1])
        return F.mse_loss(scores.sigmoid(), truth.to(scores.dtype))
