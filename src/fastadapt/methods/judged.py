"""The loss of outputs that are known, for methods that compute them before any loss asks for them."""

from typing import Any

from torch import Tensor, nn

from fastadapt.errors import TaskError
from fastadapt.judging.loss_values import value_of
from fastadapt.losses import Loss
from fastadapt.methods.episodes import Episode


def judged(loss: Loss, model: nn.Module, outputs: Tensor, episode: Episode) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of outputs on a query, and its metrics; `model` answers whatever else the loss asks it for."""
    query = (episode.xq, episode.yq)
    value, metrics = value_of(loss(_Answered(model, outputs), query), loss)
    measure: Any = getattr(loss, "metrics", None)
    measured: dict[str, Tensor] = measure(outputs, query) if callable(measure) else {}  # type: ignore[assignment]
    return value, {**measured, **metrics}


class _Answered:
    """Stand in for the network in a loss that asks for its outputs on the query, which are known."""

    def __init__(self, model: nn.Module, outputs: Tensor) -> None:
        self._model, self._outputs = model, outputs

    def __call__(self, x: Tensor) -> Tensor:
        if len(x) != len(self._outputs):
            raise TaskError("the loss of this method is of the outputs on the query; call model(x) with its x")
        return self._outputs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)
