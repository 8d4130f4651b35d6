"""Modules that draw in their forward pass: each task, and each inner step, draws its own, as in the loop."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from fastadapt import MAML, SGD, Exact, Execution, Tasks
from fastadapt.errors import TaskError
from reference import difference
from watched import Net, mse, result, tasks

pytestmark = pytest.mark.usefixtures("double")
SOURCES = {
    "python": lambda: random.random() < 0.5,
    "numpy": lambda: np.random.rand() < 0.5,
    "gaussian of numpy": lambda: np.random.randn() < 0,  # draws two at once and keeps one
    "torch": lambda: torch.rand(()).item() < 0.5,
    "torch in place": lambda: bool(torch.empty(1).uniform_() < 0.5),
}


class LayerDrop(Net):
    """Skip a layer by chance, in training only where `always` isn't said."""

    def __init__(self, draw, always=False):
        super().__init__()
        self.draw, self.always, self.second = draw, always, nn.Linear(2, 2)

    def forward(self, x):
        x = self.layer(x).tanh()
        dropped = (self.training or self.always) and self.draw()
        return x if dropped else self.second(x)


def seeded(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def ran(net, route, steps, seed=7, **settings):
    seeded(seed)
    learner = MAML(net, mse, rule=SGD(0.1), steps=steps, route=route, **settings)
    return result(learner, tasks(count=4))


@pytest.mark.long
@pytest.mark.parametrize("source", ["python", "gaussian of numpy", "torch", "torch in place"])
@pytest.mark.parametrize("training, always", [(True, False), (False, True), (False, False)])
@pytest.mark.parametrize("steps", [3, 7])
@pytest.mark.parametrize("route", ["auto", Execution("vmap", "trace")], ids=["auto", "programs"])
def test_each_task_draws_its_own_on_every_route(route, steps, training, always, source):
    net = LayerDrop(SOURCES[source], always).train(training)
    got, want = ran(net, route, steps), ran(net, "loop", steps)
    assert difference(got, want) < 1e-10


@pytest.mark.parametrize("source", SOURCES)
def test_a_step_computed_again_draws_what_it_drew(source):
    net = LayerDrop(SOURCES[source])
    whole, *swept = [ran(net, "loop", 8, meta_gradient=Exact(segment=segment)) for segment in (8, None, 1, 3)]
    assert all(difference(each, whole) < 1e-10 for each in swept)


@pytest.mark.parametrize("source", SOURCES)
def test_losses_differentiated_by_themselves_draw_what_they_drew(source):
    net = LayerDrop(SOURCES[source])
    learner = MAML(net, mse, rule=SGD(0.1), steps=3, route="loop")
    grads = []
    for pick in (lambda outcome: outcome.loss, lambda outcome: outcome.losses.mean()):
        seeded(3)
        learner.zero_grad()
        pick(learner(tasks(count=3))).backward()
        grads.append({name: p.grad.clone() for name, p in learner.named_parameters()})
    assert difference(*grads) < 1e-10


@pytest.mark.parametrize(
    "draw",
    [
        lambda: torch.rand(()) < 0.5,
        lambda: torch.bernoulli(torch.tensor([0.5])) > 0,
        lambda: torch.normal(0.0, 1.0, (1,)) > 0,
        lambda: torch.randperm(2)[0] == 0,
        lambda: torch.nn.functional.dropout(torch.ones(1)) > 0,
    ],
    ids=["rand", "bernoulli", "normal", "randperm", "dropout"],
)
def test_what_vmap_draws_it_draws_for_each_task(draw):
    class Chosen(LayerDrop):
        def forward(self, x):
            x = self.layer(x)
            return torch.where(self.draw(), x, self.second(x))

    [one] = [tasks(count=1)]
    same = Tasks(*[tuple(leaf.expand(32, *leaf.shape[1:]) for leaf in half) for half in (one.support, one.query)])
    learner = MAML(Chosen(draw), mse, rule=SGD(0.1), steps=1, route=Execution("vmap", "off"))
    seeded(0)
    losses = learner(same).losses
    assert {plan.route for plan in learner.engine.plans.values()} == {"vmap"}
    assert len(losses.unique()) == 4  # two draws of two kinds each: of the inner step, and of the query


class Late(LayerDrop):
    """Stand for a library's module, into whose code nothing looks: it begins to draw once `odds` say so."""

    odds = 0.0

    def forward(self, x):
        x = self.layer(x).tanh()
        return x if self.odds and vars(random)["random"]() < self.odds else self.second(x)


def test_what_begins_to_draw_later_runs_in_a_loop_from_then_on(monkeypatch, told):
    monkeypatch.setattr("fastadapt.engine.guards.Guards._function", lambda *arguments: None)
    net = Late(None)
    learner = MAML(net, mse, rule=SGD(0.1), steps=2, route=Execution("vmap", "off"))
    result(learner, tasks(count=4))
    assert {plan.route for plan in learner.engine.plans.values()} == {"vmap"}
    net.odds = 0.5
    for seed in range(3):
        seeded(seed)
        assert difference(result(learner, tasks(count=4)), ran(net, "loop", 2, seed)) < 1e-10
    assert any("random numbers now" in line for line in told())


def generator_of_torch():
    generator = torch.Generator().manual_seed(0)
    return lambda: torch.rand((), generator=generator).item() < 0.5


def generator_of_numpy():
    rng = np.random.default_rng(0)
    return lambda: rng.random() < 0.5


def generator_of_python():
    rng = random.Random(0)
    return lambda: rng.random() < 0.5


@pytest.mark.parametrize("source", [generator_of_torch, generator_of_numpy, generator_of_python])
@pytest.mark.parametrize("route", ["loop", "auto"])
def test_a_generator_of_ones_own_is_refused_where_a_step_is_computed_again(route, source):
    with pytest.raises(TaskError, match=r"generator of its own.*Exact\(segment=12\)"):
        ran(LayerDrop(source()), route, 12)
    whole = ran(LayerDrop(source()), route, 12, meta_gradient=Exact(segment=12))
    assert all(value.isfinite().all() for value in whole.values())


def test_what_counts_its_calls_is_refused_where_a_step_is_computed_again():
    class Counting(Net):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return self.layer(x) / self.calls

    with pytest.raises(TaskError, match="counts its calls"):
        ran(Counting(), "loop", 6)
