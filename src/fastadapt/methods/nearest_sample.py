"""Nearest sample of frozen features."""

from torch import Tensor, nn

from fastadapt.losses import Loss
from fastadapt.methods.fitted import Fitted, nearest
from fastadapt.methods.frozen import FrozenLearner


class NearestSample(FrozenLearner):
    r"""Answer with the class of the one support sample whose features are nearest; nothing is trained.

        s_c(x) = max_{j: y_j = c} -||t(f(x)) - t(f(x_j))||^2 + ||t(f(x)) - m||^2,      m the mean of the support

    The second term is the same for all classes. With `unit`, as by default, the nearest is the one of the largest
    cosine. With one sample a class this is `NearestCentroid`. For a network that ends with its classifier, trained in
    the same run, there is `NearestNeighbour`.

    Args:
        model: the backbone, see `FrozenLearner`.
        loss: on the outputs; default cross-entropy.
        centre: what is taken from all features, `[d]`; None takes nothing.
        unit: bring features to length 1.

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> import torch
        >>> learner = NearestSample(nn.Identity(), unit=False)
        >>> predict = learner.adapt((torch.tensor([[0.0], [9.0], [4.0]]), torch.tensor([0, 0, 1])))
        >>> predict(torch.tensor([[1.0], [5.0], [8.0]])).argmax(1)
        tensor([0, 1, 0])

    References:
        Cover, Hart 1967, Nearest Neighbor Pattern Classification (IEEE Transactions on Information Theory 13).
    """

    def __init__(
        self, model: nn.Module, loss: Loss | None = None, *, centre: Tensor | None = None, unit: bool = True
    ) -> None:
        super().__init__(model, loss, centre=centre, unit=unit)

    def fit(self, features: Tensor, y: Tensor, ways: int) -> Fitted:
        """Return a row for each sample."""
        return nearest(features, y)
