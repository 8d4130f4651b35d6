"""Nearest class mean of frozen features; centred and of length 1 it is SimpleShot (Wang et al. 2019)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastadapt.losses import Loss
from fastadapt.methods.fitted import Fitted, nearest
from fastadapt.methods.frozen import FrozenLearner


class NearestCentroid(FrozenLearner):
    r"""Answer with the class whose mean feature is nearest; nothing is trained.

        m_c = mean_{j: y_j = c} t(f(x_j)),      s_c(x) = -||t(f(x)) - m_c||^2 + ||t(f(x)) - m||^2,      m = mean_c m_c

    The second term is the same for all classes, so that answers and probabilities are those of the distances alone.
    With `unit` the features have length 1 (L2N); with `unit` and `centre=mean_feature(model, training_images)` this is
    SimpleShot (CL2N), which Wang et al. find best of the three. The means are not brought to length 1 again.

    Args:
        model: the backbone, see `FrozenLearner`.
        loss: on the outputs; default cross-entropy.
        centre: what is taken from all features, `[d]`; None takes nothing.
        unit: bring features to length 1.

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> learner = NearestCentroid(nn.Identity(), unit=True)
        >>> predict = learner.adapt((torch.tensor([[0.0, 2.0], [3.0, 0.0]]), torch.tensor([0, 1])))
        >>> predict(torch.tensor([[8.0, 6.0]]))
        tensor([[-0.7000, -0.3000]])

    References:
        Wang, Chao, Weinberger, van der Maaten 2019, SimpleShot (arXiv:1911.04623).
    """

    def __init__(
        self, model: nn.Module, loss: Loss | None = None, *, centre: Tensor | None = None, unit: bool = False
    ) -> None:
        super().__init__(model, loss, centre=centre, unit=unit)

    def fit(self, features: Tensor, y: Tensor, ways: int) -> Fitted:
        """Return a row for each class mean."""
        members = F.one_hot(y, ways).to(features.dtype)
        means = (members / members.sum(0)).T @ features
        return nearest(means, torch.arange(ways, device=y.device))
