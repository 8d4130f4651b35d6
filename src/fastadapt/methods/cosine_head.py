"""A classifier by cosine, fitted to frozen features: the head of Baseline++ (Chen et al. 2019)."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastadapt.errors import ConfigError
from fastadapt.inner.loop import check_steps
from fastadapt.losses import Loss
from fastadapt.methods.fitted import Fitted
from fastadapt.methods.frozen import FrozenLearner


class CosineHead(FrozenLearner):
    r"""Fit a direction for each class by gradient steps on the support set; nothing is trained.

        s_c(x) = kappa cos(w_c, t(f(x))),      w <- (w - eta grad_w mean_j CE(s(x_j), y_j)), brought to length 1

    The features are computed once, and the steps, each over all samples, take these. They begin with the directions of
    the class means (Qi et al. 2018), which is the answer after 0 updates. Chen et al. begin with random weights and
    draw small batches, with momentum and weight decay: here the same support set always gives the same head.

    Args:
        model: the backbone, see `FrozenLearner`.
        loss: on the outputs of the queries; default cross-entropy. The updates always descend the cross-entropy.
        scale: `kappa` > 0; a small one keeps probabilities apart from 0 and 1.
        updates: how many steps.
        lr: `eta` > 0.
        centre: what is taken from all features, `[d]`; None takes nothing.

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> learner = CosineHead(nn.Identity(), scale=1.0, updates=0)
        >>> predict = learner.adapt((torch.tensor([[0.0, 2.0], [3.0, 0.0]]), torch.tensor([0, 1])))
        >>> predict(torch.tensor([[8.0, 6.0]]))
        tensor([[0.6000, 0.8000]])

    References:
        Chen, Liu, Kira, Wang, Huang 2019, A Closer Look at Few-shot Classification (arXiv:1904.04232); Gidaris,
        Komodakis 2018 (arXiv:1804.09458); Qi, Brown, Lowe 2018 (arXiv:1712.07136).
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        scale: float = 10.0,
        updates: int = 100,
        lr: float = 0.1,
        centre: Tensor | None = None,
    ) -> None:
        super().__init__(model, loss, centre=centre, unit=True)
        check_steps(updates, "updates")
        for name, value in (("scale", scale), ("lr", lr)):
            if not 0 < value < math.inf:
                raise ConfigError(f"{name} must be a number > 0, got {value!r}")
        self.scale, self.updates, self.lr = scale, updates, lr

    def signature(self) -> dict[str, Any]:
        """Return the facts of `FrozenLearner.signature`, with those of the updates."""
        return {**super().signature(), "scale": self.scale, "updates": self.updates, "lr": self.lr}

    @torch.no_grad()
    def fit(self, features: Tensor, y: Tensor, ways: int) -> Fitted:
        """Return the directions, a row for each class, times `kappa`."""
        targets = F.one_hot(y, ways).to(features.dtype)
        w = F.normalize(targets.T @ features, dim=1)
        for _ in range(self.updates):
            surplus = (self.scale * features @ w.T).softmax(1) - targets
            slope = self.scale * surplus.T @ features / len(features)  # of the cosines, by w
            along = (slope * w).sum(1, keepdim=True) * w  # a change of length changes no cosine
            w = F.normalize(w - self.lr * (slope - along), dim=1)
        return Fitted(self.scale * w, w.new_zeros(ways), torch.arange(ways, device=y.device))
