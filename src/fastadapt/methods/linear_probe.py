"""Logistic regression on frozen features, by scikit-learn: the linear probe."""

import logging
import math
import warnings
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from fastadapt.errors import ConfigError, MissingExtraError
from fastadapt.losses import Loss
from fastadapt.methods.fitted import Fitted
from fastadapt.methods.frozen import FrozenLearner

ITERATIONS = 5000
"""Steps of L-BFGS, at most."""
TOLERANCE = 1e-8
"""Of the gradient, in float64: so that the answer is the minimum, whatever the order of the samples."""


class LinearProbe(FrozenLearner):
    r"""Fit a logistic regression to the features of the support set; nothing is trained.

        W, b = argmin  sum_j CE(W t(f(x_j)) + b, y_j) + ||W||^2 / (2 C),      s(x) = W t(f(x)) + b

    It is the `LogisticRegression` of scikit-learn, run to its minimum in float64 on the CPU. No gradient passes through
    it. Tian et al. take it on features of length 1 (`unit=True`), from a backbone that was trained to classify.
    Needs `pip install 'fastadapt[probe]'`.

    Args:
        model: the backbone, see `FrozenLearner`.
        loss: on the outputs; default cross-entropy.
        inverse_strength: `C` > 0; more is less regularisation.
        centre: what is taken from all features, `[d]`; None takes nothing.
        unit: bring features to length 1.

    Raises:
        ConfigError: for a setting outside its range.
        MissingExtraError: if scikit-learn is not installed.

    Example:
        >>> learner = LinearProbe(nn.Identity())
        >>> predict = learner.adapt((torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([0, 0, 1])))
        >>> predict(torch.tensor([[1.0], [4.0]])).argmax(1)
        tensor([0, 1])

    References:
        Tian, Wang, Krishnan, Tenenbaum, Isola 2020 (arXiv:2003.11539).
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        inverse_strength: float = 1.0,
        centre: Tensor | None = None,
        unit: bool = False,
    ) -> None:
        if not 0 < inverse_strength < math.inf:
            raise ConfigError(f"inverse_strength must be a number > 0, got {inverse_strength!r}")
        _regression()
        super().__init__(model, loss, centre=centre, unit=unit)
        self.inverse_strength = inverse_strength

    def signature(self) -> dict[str, Any]:
        """Return the facts of `FrozenLearner.signature`, with the regularisation."""
        return {**super().signature(), "inverse_strength": self.inverse_strength}

    def fit(self, features: Tensor, y: Tensor, ways: int) -> Fitted:
        """Return the minimum, a row for each class; one for two classes is shared out between them."""
        labels = torch.arange(ways, device=y.device)
        if ways == 1:  # there is nothing to tell apart
            return Fitted(features.new_zeros(1, features.shape[1]), features.new_zeros(1), labels)
        fitted = self._solve(features.detach().double().cpu().numpy(), y.cpu().numpy())
        weight, bias = (torch.as_tensor(part).to(features) for part in (fitted.coef_, fitted.intercept_))
        if ways == 2:
            weight, bias = torch.cat((-weight, weight)) / 2, torch.cat((-bias, bias)) / 2
        return Fitted(weight, bias, labels)

    def _solve(self, features: Any, y: Any) -> Any:
        regression = _regression()(C=self.inverse_strength, max_iter=ITERATIONS, tol=TOLERANCE)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            fitted = regression.fit(features, y)
        if int(fitted.n_iter_.max()) >= ITERATIONS:
            _tell_once(
                f"a linear probe is not at its minimum after {ITERATIONS} steps; take unit=True, or a smaller "
                f"inverse_strength than {self.inverse_strength}"
            )
        elif told:
            _tell_once(f"scikit-learn says of a linear probe: {str(told[0].message).splitlines()[0]}")
        return fitted


@lru_cache(maxsize=64)
def _tell_once(message: str) -> None:
    logging.getLogger("fastadapt").warning(message)


def _regression() -> Any:
    try:
        from sklearn.linear_model import LogisticRegression  # type: ignore[import-not-found]
    except ImportError as error:
        raise MissingExtraError("a linear probe needs scikit-learn: pip install 'fastadapt[probe]'") from error
    return LogisticRegression
