"""The loss of outputs that are known, for methods that compute them before any loss asks for them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastadapt.errors import TaskError
from fastadapt.judging.loss_values import value_of
from fastadapt.learner import Outcome, Trace
from fastadapt.losses import Loss
from fastadapt.methods.episodes import Episode


def judged(loss: Loss, model: nn.Module, outputs: Tensor, episode: Episode) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of outputs on a query, and its metrics; `model` answers whatever else the loss asks it for."""
    query = (episode.xq, episode.yq)
    value, metrics = value_of(loss(_Answered(model, outputs), query), loss)
    measure: Any = getattr(loss, "metrics", None)
    measured: dict[str, Tensor] = measure(outputs, query) if callable(measure) else {}  # type: ignore[assignment]
    return value, {**measured, **metrics}


def outcome_of(loss: Loss, model: nn.Module, outputs: Sequence[Tensor], episodes: Sequence[Episode]) -> Outcome:
    """Return the mean loss of outputs on the queries of some tasks, with all that is told beside it."""
    rows = [judged(loss, model, output, episode) for output, episode in zip(outputs, episodes, strict=True)]
    losses = torch.stack([value for value, _ in rows])
    metrics = {name: torch.stack([each[name] for _, each in rows]).detach() for name in rows[0][1]}
    return Outcome(losses.mean(), losses, metrics, [output.detach() for output in outputs])


def one_column(outcome: Outcome) -> Trace:
    """Return the trace of a method without inner steps."""
    metrics = {name: value.unsqueeze(1) for name, value in outcome.metrics.items()}
    return Trace(outcome.losses.unsqueeze(1), metrics, [output.unsqueeze(0) for output in outcome.outputs])


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
