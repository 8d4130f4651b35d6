"""SNAIL: attention and temporal convolutions over the labelled samples and a query (Mishra et al. 2018)."""

import torch
from torch import Tensor, nn

from fastadapt.layers.norm import Norm
from fastadapt.losses import Loss
from fastadapt.methods.compared import Memory
from fastadapt.methods.sequence import SequenceComparison, SequenceLearner
from fastadapt.nets.snail import Snail


class Attends(SequenceComparison):
    """Let a `Snail` read the labelled samples, and then a query with zeros in place of its label.

    No element sees a later one, so what is kept of the samples serves every query.

    Args:
        ways: see `SequenceComparison`.
        features: see `SequenceComparison`.
        length: elements that the convolutions reach, see `Snail`.
        filters: of each convolution.
    """

    def __init__(self, ways: int, features: int, length: int, filters: int = 128) -> None:
        super().__init__(ways, features, length=length, filters=filters)
        self.net = Snail(features + ways, ways, length, filters=filters)

    def read(self, features: Tensor, labels: Tensor) -> Memory:
        """Return keys and values of each attention, and the one element that each convolution looks back to."""
        return self.net.read(torch.cat((features, labels), -1))

    def answer(self, features: Tensor, memory: Memory) -> Tensor:
        """Return the output at each query, `[..., n, N]`."""
        blank = features.new_zeros(*features.shape[:-1], self.ways)
        return self.net.step(torch.cat((features, blank), -1), memory)


class SNAIL(SequenceLearner):
    r"""Read a task as a sequence, samples beside their labels, and answer at its end.

        [f(x_1), y_1], ..., [f(x_S), y_S], [f(x), 0]  ->  attention, convolutions, ...  ->  p(y | x),      loss = -log p

    The loss is at the query alone, and each query ends a sequence of its own, so that no answer depends on other
    queries. Nothing is adapted by gradients. Labels are one-hot: a learner is built for `ways` classes, and takes
    tasks of fewer, better the more alike they are to those of the training.

    The order of the support set matters a little: `adapt` reads it as it is given, training shuffles it.

    Args:
        model: the embedding `f`, see `MetricLearner`; features are flattened.
        loss: on the outputs; default cross-entropy.
        ways: classes that a label can tell apart, N.
        features: numbers of the embedding.
        length: elements of a sequence, `N K + 1` for K shots, which the convolutions reach; other lengths are read too.
        filters: of each convolution.
        shuffle: put the support set of a training task into a random order, drawn from torch's generator.
        norm: the batch-norm mode; any but "per_step".

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> learner = SNAIL(nn.Identity(), ways=5, features=3, length=6)
        >>> learner.adapt((torch.rand(5, 3), torch.arange(5)))(torch.rand(7, 3)).shape
        torch.Size([7, 5])

    References:
        Mishra, Rohaninejad, Chen, Abbeel 2018, A Simple Neural Attentive Meta-Learner (arXiv:1707.03141).
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        ways: int,
        features: int,
        length: int,
        filters: int = 128,
        shuffle: bool = True,
        norm: Norm = "running",
    ) -> None:
        super().__init__(model, Attends(ways, features, length, filters), loss, norm, shuffle)
