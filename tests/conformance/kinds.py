"""What the conformance suite is run on: every learner x every kind of task. A new learner joins by one line here."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

import fastadapt.methods as methods
from fastadapt import MAML, SGD, Adam, CrossEntropy, Exact, Implicit, Learner, Momentum, Pretrain, Reptile, Task
from fastadapt.faces.cdt import CDT
from fastadapt.faces.mfr import MFR
from fastadapt.faces.objectives import PairLoss
from fastadapt.losses import MSE
from fastadapt.methods import (
    CAVIA,
    FOML,
    MANN,
    SNAIL,
    AdaptiveSubspaces,
    FineTune,
    MatchingNet,
    NearestNeighbour,
    ProtoNet,
    RelationNet,
    SiameseNet,
)
from fastadapt.methods.mldg import MLDG
from fastadapt.nets import FiLM
from fastadapt.nets.normals import Normal
from fastadapt.rules.curvature import MetaCurvature, curvature
from fastadapt.rules.meta_lstm import Gates, MetaLSTM
from fastadapt.rules.rates import learned_rates
from fastadapt.tasks import Stream


@dataclass(frozen=True)
class Entry:
    """Hold a way to build a learner, and what can't be asked of it.

    Args:
        build: `build(model, loss, **settings) -> Learner`.
        shuffles: its training draws minibatches, or what is hidden, so that two calls differ unless the seed is set
            again.
        has_route: it takes `route=`.
        kinds: the kinds of task it is for; None is all that are no pairs.
        has_steps: it takes inner steps.
        setting: it is another setting of a method above.
        trains: it has something to meta-train.
        own_head: it makes a head for each task, so that even without steps it does not answer as its network does.
    """

    build: Callable[..., Learner]
    shuffles: bool = False
    has_route: bool = True
    kinds: tuple[str, ...] | None = None
    has_steps: bool = True
    setting: bool = False
    trains: bool = True
    own_head: bool = False


def head(cls, trains=False, setting=False, **settings):
    """A head on frozen features, for classes, without a route and without steps; its features are two numbers."""
    entry = {"has_route": False, "kinds": CLASSES, "has_steps": False, "setting": setting, "trains": trains}
    return Entry(of(cls, **settings), **entry)


def of(cls, **settings):
    return lambda model, loss, **more: cls(model, loss, **settings, **more)


def noisy(x, generator):
    return x + 0.1 * torch.randn(x.shape, generator=generator).to(x)


def metric(cls, setting=False, **settings):
    """A metric method: for classes, without a route and without steps; its network is an embedding of two numbers."""
    return Entry(of(cls, **settings), has_route=False, kinds=CLASSES, has_steps=False, setting=setting)


def sequence(cls, setting=False, shuffle=True, **settings):
    """A method that reads a task as a sequence: a metric method that shuffles while it trains."""
    entry = {"has_route": False, "kinds": CLASSES, "has_steps": False, "setting": setting, "shuffles": shuffle}
    return Entry(of(cls, ways=3, features=2, shuffle=shuffle, **settings), **entry)


def related():
    """A small network that relates two samples; the published first weights are too small to tell a few tasks apart."""
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 1))


class Sums(nn.Module):
    """What sums up a set of two numbers and generates three, without batch norm: two classes are too few for it."""

    def __init__(self):
        super().__init__()
        self.each, self.sums, self.guess = nn.Linear(2, 6), nn.Linear(6, 6), nn.Linear(5, 4)
        self.prior, self.draw = nn.Linear(3, 4), nn.Linear(5, 3)

    def of(self, pooled):
        return Normal(*self.sums(torch.tanh(pooled)).chunk(2, dim=1))

    def guessed(self, h, c):
        return Normal(*self.guess(torch.cat((h, c), 1)).chunk(2, dim=1))

    def expected(self, c):
        return Normal(*self.prior(c).chunk(2, dim=1))

    def forward(self, z, c):
        return self.draw(torch.cat((z, c), 1))


def statistician(model, loss, **more):
    """One whose first steps are not annealed, so that they minimise the same thing."""
    sums = Sums()
    return methods.NeuralStatistician(
        model, loss, generator=sums, statistic=sums, likelihood="normal", alpha=0.0, **more
    )


def remembering(model, loss, **more):
    """A memory whose map to keys is not as small at first as published, where SGD at this rate would overshoot."""
    learner = methods.MemoryModule(model, loss, features=2, keys=4, margin=1.0, **more)
    nn.init.normal_(learner.comparison.project.weight)
    return learner


def wider(model):
    """The same network with more outputs than a class has samples."""
    model.head = nn.Linear(6, 8)
    return model


def learned_steps(model, loss, meta_gradient="first_order", **settings):
    return MAML(model, loss, rule=MetaLSTM(gates=Gates(4)), steps=2, meta_gradient=meta_gradient, **settings)


def curved(model, loss, **settings):
    rule = MetaCurvature(SGD(learned_rates(model, 0.1, per="tensor")), curvature(model))
    return MAML(model, loss, rule=rule, steps=2, **settings)


def steered(model, loss, **settings):
    """A network with a context behind its hidden layer."""
    model.drop = nn.Sequential(FiLM(6, 2), model.drop)
    return CAVIA(model, loss, steps=2, **settings)


CLASSES = ("classification",)
PAIRS = ("pairs",)
STREAMS = ("streams",)
LEARNERS = {
    "maml": Entry(of(MAML, rule=SGD(0.1), steps=2)),
    "maml_adam": Entry(of(MAML, rule=Adam(0.01, beta1=0.9), steps=2), setting=True),
    "fomaml": Entry(of(MAML, rule=SGD(0.1), steps=2, meta_gradient="first_order")),
    "imaml": Entry(of(MAML, rule=SGD(0.1), steps=8, meta_gradient=Implicit(strength=1.0, cg_steps=5))),
    "maml_segments": Entry(of(MAML, rule=SGD(0.1), steps=3, meta_gradient=Exact(segment=2)), setting=True),
    "maml_minibatch": Entry(of(MAML, rule=SGD(0.1), steps=3, batch=3), shuffles=True, setting=True),
    "anil": Entry(of(MAML, rule=SGD(0.1), steps=2, adapt="head")),
    "boil": Entry(of(MAML, rule=SGD(0.1), steps=2, adapt="body", test_steps=3), setting=True),
    "meta_lstm": Entry(learned_steps, setting=True),
    "meta_lstm_exact": Entry(of(learned_steps, meta_gradient="exact"), setting=True),
    "meta_curvature": Entry(curved, setting=True),
    "cavia": Entry(steered, setting=True),
    "meta_sgd": Entry(
        lambda model, loss, **more: MAML(model, loss, rule=SGD(learned_rates(model, 0.1)), **more), setting=True
    ),
    "mamlpp": Entry(of(methods.MAMLPlusPlus, steps=2)),
    "mamlpp_first_order": Entry(of(methods.MAMLPlusPlus, steps=3, first_order_epochs=1, test_steps=4), setting=True),
    "protomaml": Entry(of(methods.ProtoMAML, rule=SGD(0.1), steps=2), kinds=CLASSES, own_head=True),
    "protomaml_first_order": Entry(
        of(methods.ProtoMAML, rule=SGD(0.1), steps=2, meta_gradient="first_order", norm="running"),
        kinds=CLASSES,
        setting=True,
        own_head=True,
    ),
    "reptile": Entry(of(Reptile, rule=SGD(0.1), steps=3)),
    "reptile_minibatch": Entry(of(Reptile, rule=SGD(0.1), steps=3, batch=3), shuffles=True, setting=True),
    "reptile_mean": Entry(of(Reptile, rule=Momentum(0.1), steps=3, inner_state="mean"), setting=True),
    "reptile_serial": Entry(of(Reptile, rule=SGD(0.1), steps=3, inner_state="serial"), setting=True),
    "foml": Entry(of(FOML, rule=SGD(0.1), steps=3)),
    "foml_tail": Entry(of(FOML, rule=SGD(0.1), steps=3, batch=3, tail=2), shuffles=True, setting=True),
    "pretrain": Entry(of(Pretrain, rule=SGD(0.1), test_steps=2)),
    "nearest_centroid": head(methods.NearestCentroid),
    "simple_shot": head(
        lambda model, loss: methods.NearestCentroid(model, loss, centre=torch.tensor([0.1, -0.2]), unit=True),
        setting=True,
    ),
    "nearest_sample": head(methods.NearestSample),
    "ridge": head(methods.RidgeHead, trains=True),
    "ridge_backbone": head(methods.RidgeHead, trains=True, setting=True, frozen=False),
    "gaussian_prior": Entry(
        lambda model, loss: methods.GaussianPrior(model, loss, mean=torch.full((2, 1), 0.2), noise=0.5),
        has_route=False,
        kinds=("regression", "ragged"),
        has_steps=False,
        trains=False,
    ),
    "pmf": Entry(of(methods.PMF, lr=0.05, augment=noisy), has_route=False, kinds=CLASSES, own_head=True),
    "linear_probe": head(methods.LinearProbe),
    "cosine_head": head(methods.CosineHead, updates=20),
    "fine_tune": Entry(of(FineTune, classes=2, lr=0.1, decay=0.5, test_steps=2), kinds=CLASSES),
    "fine_tune_transductive": Entry(of(FineTune, classes=2, lr=0.1, test_steps=2, norm="transductive"), kinds=CLASSES),
    "nearest": Entry(of(NearestNeighbour, classes=2), kinds=CLASSES, has_steps=False),
    "nearest_support": Entry(of(NearestNeighbour, classes=2, norm="support"), kinds=CLASSES, has_steps=False),
    "protonet": metric(ProtoNet),
    "protonet_support": metric(ProtoNet, norm="support", setting=True),
    "matching": metric(MatchingNet),
    "matching_context": metric(MatchingNet, context=2, scale=3.0, setting=True),
    "matching_sum": metric(MatchingNet, votes="sum", norm="support+query", setting=True),
    "siamese": metric(SiameseNet, features=2),
    "relation": metric(lambda model, loss: RelationNet(model, loss, relation=related())),
    "subspaces": metric(lambda model, loss: AdaptiveSubspaces(wider(model), loss)),
    "subspaces_svd": metric(
        lambda model, loss: AdaptiveSubspaces(wider(model), loss, basis="svd", norm="transductive"), setting=True
    ),
    "snail": sequence(SNAIL, length=7, filters=4, shuffle=False),
    "snail_shuffled": sequence(SNAIL, length=7, filters=4, norm="support", setting=True),
    "mann": sequence(MANN, hidden=8, slots=6, width=3, heads=2, shuffle=False),
    "mann_shuffled": sequence(MANN, hidden=8, slots=6, width=3, heads=2, norm="support+query", setting=True),
    "lstm": sequence(MANN, hidden=8, slots=None, setting=True),
    "statistician": replace(metric(statistician), shuffles=True),
    "memory": metric(remembering),
    "mldg": Entry(of(MLDG, rule=SGD(0.1), test_steps=2)),
    "mldg_first_order": Entry(
        of(MLDG, rule=SGD(0.1), steps=2, meta_gradient="first_order", test_steps=2), setting=True
    ),
    "mfr": Entry(of(MFR, rule=SGD(0.1), test_steps=2, norm="transductive"), kinds=PAIRS),
    "mfr_first_order": Entry(of(MFR, meta_gradient="first_order", test_steps=2), kinds=PAIRS, setting=True),
    "ttt": Entry(of(methods.TTT, rule=SGD(0.1), steps=3), kinds=STREAMS),
    "ttt_first_order": Entry(
        of(methods.TTT, rule=SGD(0.1), steps=3, meta_gradient="first_order"), kinds=STREAMS, setting=True
    ),
    "cdt": Entry(of(CDT, rule=SGD(0.1), test_steps=2, norm="transductive"), kinds=PAIRS),
}


@dataclass(frozen=True)
class Kind:
    """Hold one kind of task: its network, its loss, and a way to draw a meta-batch of four."""

    model: Callable[[], nn.Module]
    loss: Any
    tasks: Callable[[], list[Task]]


class Net(nn.Module):
    """Smooth, with a batch norm, a buffer, a frozen parameter and dropout that is off."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(3, 6)
        self.norm = nn.BatchNorm1d(6)
        self.register_buffer("shift", torch.full((6,), 0.1))
        self.scale = nn.Parameter(torch.full((6,), 1.5), requires_grad=False)
        self.drop = nn.Dropout(0.0)
        self.head = nn.Linear(6, outputs)

    def forward(self, x):
        return self.head(self.drop(torch.tanh(self.norm(self.first(x)) * self.scale + self.shift)))


class WeightedError:
    """Take batches of another structure than `(x, y)`."""

    def __call__(self, model, batch):
        y, weight = batch["target"]
        return (weight * (model(batch["input"]) - y).square().squeeze(-1)).sum() / weight.sum()


def regression_batch(n):
    return torch.randn(n, 3), torch.randn(n, 1)


def classification_batch(n):
    return torch.randn(n, 3), torch.arange(n) % 2


def weighted_batch(n):
    return {"input": torch.randn(n, 3), "target": (torch.randn(n, 1), torch.rand(n))}


def pair_batch(domains):
    """Pairs of so many domains, three identities each, whose two samples are alike."""
    person = torch.randn(domains, 1, 3, 3).expand(domains, 2, 3, 3)
    x = (person + 0.3 * torch.randn(domains, 2, 3, 3)).flatten(0, 2)
    return x, torch.arange(3 * domains).reshape(domains, 1, 3).expand(domains, 2, 3).flatten(), 3


def stream_batch(chunks):
    """A stream as an ordinary task: all chunks but the last, and that one."""
    one = Stream((torch.randn(chunks, 4, 3), torch.arange(4).expand(chunks, 4) % 2))
    return Task(one.support, one.query)


def drawn(batch, sizes):
    return lambda: [Task(batch(support), batch(query)) for support, query in sizes]


EQUAL = [(6, 4)] * 4
RAGGED = [(6, 4), (4, 3), (6, 4), (5, 4)]
KINDS = {
    "regression": Kind(lambda: Net(1), MSE(), drawn(regression_batch, EQUAL)),
    "classification": Kind(lambda: Net(2), CrossEntropy(), drawn(classification_batch, EQUAL)),
    "ragged": Kind(lambda: Net(1), MSE(), drawn(regression_batch, RAGGED)),
    "other_structure": Kind(lambda: Net(1), WeightedError(), drawn(weighted_batch, EQUAL)),
    "streams": Kind(lambda: Net(2), CrossEntropy(), lambda: [stream_batch(4) for _ in range(4)]),
    "pairs": Kind(lambda: Net(3), PairLoss(scale=4.0), drawn(pair_batch, [(3, 1)] * 4)),
}
USUAL = tuple(kind for kind in KINDS if kind not in (*PAIRS, *STREAMS))
