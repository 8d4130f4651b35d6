"""Metrics and losses that are modules: with states that they keep, with parameters of their own, without a gradient."""

import copy

import pytest
import torch
import torch.nn.functional as F
import torchmetrics
from pytorch_metric_learning import distances, losses, miners
from torch import nn

import fastadapt as fa
from foreign.by_hand import (
    Case,
    Plain,
    adapted,
    classification,
    every_number,
    exact,
    first_order,
    or_a_sentence,
    refused,
    regression,
    reptile,
    trace,
)


def net(outputs=2):
    return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, outputs))


def mse(model, batch):
    return F.mse_loss(model(batch[0]), batch[1])


# ---- torchmetrics ------------------------------------------------------------------------------------


@every_number
def test_functional_metric_as_loss(number):
    def error(model, batch):
        return torchmetrics.functional.minkowski_distance(model(batch[0]), batch[1], p=4)

    def twin(model, batch):
        return (model(batch[0]) - batch[1]).pow(4).sum().pow(0.25)

    number(Case(net(), error, regression(), twin_loss=twin))


@every_number
def test_metric_module_as_loss(number):
    metric = torchmetrics.MeanSquaredError()
    number(Case(net(), lambda m, b: metric(m(b[0]), b[1]), regression(), twin_loss=mse))


def test_metric_module_handed_over_as_the_loss():
    with or_a_sentence():
        exact(Case(net(), torchmetrics.MeanSquaredError(), regression(), twin_loss=mse))


def test_a_metric_without_a_gradient_is_refused():
    accuracy = torchmetrics.classification.MulticlassAccuracy(3)
    case = Case(net(3), lambda m, b: accuracy(m(b[0]).argmax(-1), b[1]), classification())
    for call in (lambda: case.learner()(case.tasks), lambda: case.learner().adapt(case.tasks[0].support)):
        with refused("gradient", "differentiable", "grad"):
            call()


def test_a_metric_that_is_kept_beside_is_fed():
    """What a loss records with detached values is the loss's own affair, and changes no number."""
    seen = torchmetrics.MeanMetric()

    def loss(model, batch):
        value = mse(model, batch)
        seen.update(value.detach())
        return value

    exact(Case(net(), loss, regression(), twin_loss=mse))


# ---- pytorch-metric-learning -------------------------------------------------------------------------


def embedded(function):
    return lambda model, batch: function(model(batch[0]), batch[1])


def triplet_by_formula(model, batch):
    """The mean over violated triplets of relu(d(a, p) - d(a, n) + margin), on the unit sphere."""
    z, y = F.normalize(model(batch[0]), dim=1), batch[1]
    d = torch.stack([torch.stack([(a - b).square().sum().clamp_min(1e-14).sqrt() for b in z]) for a in z])
    n = range(len(y))
    found = [d[a, p] - d[a, q] + 0.5 for a in n for p in n for q in n if a != p and y[a] == y[p] and y[a] != y[q]]
    found = torch.stack(found).relu()
    return found[found > 0].mean()


def many():
    return classification(2, shots=6, queries=6)


@pytest.mark.parametrize("number", [first_order, adapted, trace, reptile])
def test_triplet_loss(number):
    number(
        Case(net(), embedded(losses.TripletMarginLoss(margin=0.5)), many(), twin_loss=triplet_by_formula, apart=1e-6)
    )


def test_exact_meta_gradient_of_distances_is_right_or_refused():
    """Torch has no second derivative of cdist, on which they are built."""
    case = Case(net(), embedded(losses.TripletMarginLoss(margin=0.5)), many(), twin_loss=triplet_by_formula, apart=1e-6)
    with or_a_sentence("first_order", "first order", "firstorder"):
        exact(case)


LOSSES = {
    "n pairs": losses.NTXentLoss,
    "multi similarity": losses.MultiSimilarityLoss,
    "supervised contrast": losses.SupConLoss,
    "circle": lambda: losses.CircleLoss(gamma=4),
    "by dot product": lambda: losses.NTXentLoss(distance=distances.DotProductSimilarity()),
}


@every_number
@pytest.mark.parametrize("kind", LOSSES)
def test_losses_on_pairs(kind, number):
    # the circle's weights are constants by design
    number(Case(net(), embedded(LOSSES[kind]()), many(), rate=0.05, apart=1e-7, detaches=kind == "circle"))


@pytest.mark.parametrize("number", [first_order, adapted, trace, reptile])
def test_with_a_miner(number):
    mine, judge = miners.MultiSimilarityMiner(epsilon=2.0), losses.TripletMarginLoss(margin=0.5)

    def loss(model, batch):
        z = model(batch[0])
        return judge(z, batch[1], mine(z, batch[1]))

    number(Case(net(), loss, many(), rate=0.02, apart=1e-7))


@every_number
def test_two_tensors_is_how_such_a_loss_is_called(number):
    number(Case(net(), losses.NTXentLoss(), many(), rate=0.05, twin_loss=embedded(losses.NTXentLoss()), apart=1e-7))


class Proxies(nn.Module):
    """A learned inner loss."""

    def __init__(self):
        super().__init__()
        self.judge = losses.ProxyAnchorLoss(3, 2).double()

    def forward(self, model, batch):
        return self.judge(model(batch[0]), batch[1])


class Both(nn.Module):
    def __init__(self, model, inner):
        super().__init__()
        self.model, self.inner = model, inner


@pytest.mark.parametrize("order", ["exact", "first_order"])
def test_proxies_of_an_inner_loss_are_learned(order):
    """They move the adapted weights, so the exact meta-gradient reaches them; a first-order one has nothing to say."""
    model, inner, tasks = net(), Proxies(), many()

    def outer(m, b):
        z = m(b[0])
        return (z - b[1][:, None].to(z.dtype)).square().mean()

    if order == "first_order":  # where they would never learn, which is said
        with pytest.raises(fa.FastadaptError, match="would never learn"):
            fa.MAML(model, outer, inner_loss=inner, rule=fa.SGD(0.2), steps=2, meta_gradient=order)
        return
    learner = fa.MAML(model, outer, inner_loss=inner, rule=fa.SGD(0.2), steps=2, meta_gradient=order)
    assert any(p is inner.judge.proxies for p in learner.parameters())
    learner(tasks).loss.backward()
    got = inner.judge.proxies.grad

    def after(proxies):
        loss = copy.deepcopy(inner)
        loss.judge.proxies.data.copy_(proxies)
        plain = Plain(copy.deepcopy(model), loss, tasks, 0.2)
        ends = [(plain.descended(t.support, 2), t.query) for t in tasks]
        return sum(outer(end, query).item() for end, query in ends) / len(tasks)

    if order == "first_order":
        assert got is None or not got.any()
        return
    at, direction, h = inner.judge.proxies.detach(), torch.randn(3, 2), 1e-5
    slope = (after(at + h * direction) - after(at - h * direction)) / (2 * h)
    assert (got * direction).sum().item() == pytest.approx(slope, rel=1e-6)
