"""One adaptation, step by step: what the loss, the samples and the queries look like after 0, 1, ..., k inner steps.

Where a network has batch norm every query is answered by itself, and never beside another one: with a batch of one row
not even the rounding of an answer depends on what else was asked. Without batch norm queries can't meet; they go
through the network together, and beside others an answer may be rounded otherwise in its last digit.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fastadapt.layers.norm import Norm
from fastadapt.predictor import Predictor
from fastadapt.serve.heads import featuriser, nearest_mean
from fastadapt.serve.offered import NEAREST_MEAN
from fastadapt.serve.problems import Problem
from fastadapt.serve.served import ServedModel

Support = tuple[Tensor, Tensor]
Check = Callable[[], None]
_ALONE: tuple[Norm, ...] = ("running", "per_step")  # modes in which a sample's answer does not need the others


@dataclass(frozen=True)
class Step:
    """What there is after some inner steps.

    Args:
        number: how many.
        predictor: the adapted model.
        loss: on the support: mean cross-entropy, or mean squared error.
        accuracy: on the support; None for a regression.
        answers: `[queries, outputs]`: probabilities, or values.
    """

    number: int
    predictor: Predictor
    loss: float
    accuracy: float | None
    answers: Tensor


def steps_of(
    model: ServedModel, method: str, support: Support, steps: int, rate: float | None, queries: Tensor, check: Check
) -> Iterator[Step]:
    """Yield the state after each inner step, as soon as it is computed.

    Args:
        model: the served model.
        method: one of its methods.
        support: `(x: [n, ...], y)`.
        steps: inner steps; a method that has none yields one state.
        rate: inner rate; None is the method's own.
        queries: `[q, ...]`, may be empty.
        check: is called before each step, and raises to stop.

    Raises:
        Problem: 422 once the numbers are no longer finite; whatever `check` raises.
    """
    predictors = _predictors(model, method, support, steps, rate, check)
    for number, predictor in enumerate(predictors):
        step = _judged(number, predictor, support, queries, check)
        if not bool(step.answers.isfinite().all()) and math.isfinite(step.loss):
            raise too_far()
        if not math.isfinite(step.loss):
            raise Problem(
                422,
                "diverged",
                f"after {number} steps the numbers are no longer finite; use a smaller rate or fewer steps",
                "rate",
            )
        yield step


def too_far() -> Problem:
    """Return the answer for queries whose answers are not finite though the task's own are."""
    return Problem(422, "bad_query", "the answer to a query is not finite; ask nearer to the task's samples", "queries")


def _predictors(
    model: ServedModel, method: str, support: Support, steps: int, rate: float | None, check: Check
) -> Iterator[Predictor]:
    check()
    ways = model.ways_of(support[1])
    learner = model.learner(method, ways)
    if method == NEAREST_MEAN:
        start = next(iter(learner.adapting(support, 0, model.norm)))
        body = featuriser(start)
        assert body is not None  # the method is not offered otherwise
        yield nearest_mean(start, support, _together(body, support[0]))
        return
    for predictor in learner.adapting(support, steps, model.norm, rate):
        yield predictor
        check()


@torch.no_grad()
def _judged(number: int, predictor: Predictor, support: Support, queries: Tensor, check: Check) -> Step:
    x, y = support
    output = _together(predictor, x)
    if y.dtype == torch.long:
        loss, accuracy = F.cross_entropy(output, y), float((output.argmax(-1) == y).double().mean())
    else:
        loss, accuracy = F.mse_loss(output, y), None
    return Step(number, predictor, float(loss), accuracy, answers(predictor, queries, y.dtype == torch.long, check))


@torch.no_grad()
def _together(predictor: Predictor, x: Tensor) -> Tensor:
    """Return the outputs for the support itself, which shares its statistics as in the inner loop."""
    if not predictor.layered or predictor.norm in _ALONE:
        return predictor(x)
    return Predictor(predictor.model, "transductive").eval()(x)


@torch.no_grad()
def answers(predictor: Predictor, queries: Tensor, classify: bool, check: Check) -> Tensor:
    """Return probabilities `[q, ways]`, or values `[q, outputs]`, each query by itself.

    Args:
        predictor: the adapted model.
        queries: `[q, ...]`.
        classify: whether the outputs are logits.
        check: is called now and then, and raises to stop.
    """
    if not len(queries):
        return torch.zeros(0, 1)
    if not predictor.layered:  # no statistics: rows can't meet
        output = predictor(queries)
    else:
        rows = []
        for row in queries.split(1):
            check()
            rows.append(predictor(row))
        output = torch.cat(rows)
    return output.double().softmax(-1) if classify else output.double()


@torch.no_grad()
def nearest(predictor: Predictor, support: Support, queries: Tensor, check: Check) -> list[dict[str, int]]:
    """Return for each query the support image that is nearest in what the network's head sees (or in pixels)."""
    x, y = support
    body = featuriser(predictor)
    if body is None:
        here, there = x.flatten(1), queries.flatten(1)
    else:
        here = _together(body, x).flatten(1)  # an embedding may keep maps
        rows = [_checked(body, row, check).flatten(1) for row in queries.split(1)]
        there = torch.cat(rows) if rows else here[:0]
    found = torch.cdist(there.double(), here.double()).argmin(1).tolist() if len(there) else []
    within = [int((y[:i] == y[i]).sum()) for i in range(len(y))]
    return [{"class": int(y[i]), "image": within[i]} for i in found]


def _checked(body: Predictor, row: Tensor, check: Check) -> Tensor:
    check()
    return body(row)


def held_out(
    model: ServedModel, method: str, support: Support, steps: int, rate: float | None, check: Check
) -> tuple[float, float] | None:
    """Return the accuracy on samples that were left out, before and after; None for a regression or one sample a class.

    One adaptation for each shot: the f-th sample of every class that has more than one is left out and asked about.
    """
    x, y = support
    if y.dtype != torch.long:
        return None
    position = torch.tensor([int((y[:i] == y[i]).sum()) for i in range(len(y))])
    counts = torch.bincount(y)
    before = after = asked = 0
    for fold in range(int(counts.max())):
        out = (position == fold) & (counts[y] > 1)
        if not bool(out.any()):
            continue
        rest = (x[~out], y[~out])
        if len(rest[0]) < 2:
            return None
        states = steps_of(model, method, rest, steps, rate, x[:0], check)
        last = start = next(states)
        for last in states:  # noqa: B007 - the last one counts
            pass
        before += _right(start.predictor, x[out], y[out], check)
        after += _right(last.predictor, x[out], y[out], check)
        asked += int(out.sum())
    return (before / asked, after / asked) if asked else None


def _right(predictor: Predictor, x: Tensor, y: Tensor, check: Check) -> int:
    return int((answers(predictor, x, True, check).argmax(-1) == y).sum())


def copied(predictor: Predictor) -> Predictor:
    """Return a copy that nobody else calls: for a moment a call writes to the module."""
    return copy.deepcopy(predictor)
