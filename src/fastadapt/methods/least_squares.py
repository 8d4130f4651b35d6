"""Ridge regression onto the classes, in closed form: the head of R2-D2 (Bertinetto et al. 2019)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastadapt.errors import ConfigError
from fastadapt.losses import Loss
from fastadapt.methods.fitted import Fitted
from fastadapt.methods.frozen import FrozenLearner


class RidgeHead(FrozenLearner):
    r"""Fit the classes of the support set by ridge regression on its features, and learn how.

        W = argmin_W ||X W - Y||^2 + lambda ||W||^2 = X^T (X X^T + lambda I)^{-1} Y,      s(x) = alpha t(f(x)) W

    with the transformed features `X: [S, d]` and one-hot classes `Y: [S, N]`. It is solved in the smaller of `S` and
    `d`, exactly, and differentiated. Meta-trained are `log lambda` and `alpha`, and with `frozen=False` the backbone
    as well, through the solution, as R2-D2 does; its batch norm stays with its averages. Without training `s` are
    regression values of about 0 to 1: they rank the classes, and as logits they are nearly uniform. A class with short
    features is shrunk more than the others, and may never be the answer: `unit=True` puts all on one
    footing. The shift that the paper adds to all outputs is left out, as no probability depends on it.

    Args:
        model: the backbone, see `FrozenLearner`.
        loss: on the outputs; default cross-entropy.
        strength: `lambda` > 0 at the start.
        scale: `alpha` > 0 at the start.
        centre: what is taken from all features, `[d]`; None takes nothing.
        unit: bring features to length 1.
        frozen: false trains the backbone too.

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> learner = RidgeHead(nn.Identity(), strength=1.0)
        >>> predict = learner.adapt((torch.tensor([[1.0, 0.0], [0.0, 3.0]]), torch.tensor([0, 1])))
        >>> predict(torch.tensor([[1.0, 1.0]]))
        tensor([[0.5000, 0.3000]])

    References:
        Bertinetto, Henriques, Torr, Vedaldi 2019, R2-D2 (arXiv:1805.08136); Lee, Maji, Ravichandran, Soatto 2019,
        MetaOptNet, which has a ridge head too (arXiv:1904.03758).
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        strength: float = 1.0,
        scale: float = 1.0,
        centre: Tensor | None = None,
        unit: bool = False,
        frozen: bool = True,
    ) -> None:
        super().__init__(model, loss, centre=centre, unit=unit, frozen=frozen)
        for name, value in (("strength", strength), ("scale", scale)):
            if not 0 < value < math.inf:
                raise ConfigError(f"{name} must be a number > 0, got {value!r}")
        like = next((p for p in self.model.parameters() if p.is_floating_point()), torch.zeros(()))
        self.log_strength = nn.Parameter(like.new_tensor(math.log(strength)).detach())
        self.scale = nn.Parameter(like.new_tensor(scale).detach())

    def fit(self, features: Tensor, y: Tensor, ways: int) -> Fitted:
        """Return the solution, a row for each class."""
        targets = F.one_hot(y, ways).to(features.dtype)
        strength = self.log_strength.exp()
        samples, numbers = features.shape
        if samples <= numbers:
            rows = torch.linalg.solve(_ridge(features @ features.T, strength), targets).T @ features
        else:
            rows = torch.linalg.solve(_ridge(features.T @ features, strength), features.T @ targets).T
        zeros = rows.new_zeros(ways)
        return Fitted(self.scale * rows, zeros, torch.arange(ways, device=y.device))


def _ridge(gram: Tensor, strength: Tensor) -> Tensor:
    return gram + strength * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
