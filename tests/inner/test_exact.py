import pytest
import torch
from torch import nn
from torch.func import functional_call

from fastadapt import MAML, MLP, MSE, SGD, Adam, Clip, CrossEntropy, Execution, Momentum, Reptile, Task, Tasks
from fastadapt.engine.memory import PeakBytes
from fastadapt.errors import ConfigError
from fastadapt.rules.rates import learned_rates
from reference import difference, grads_of

double = pytest.mark.usefixtures("double")
routes = pytest.mark.parametrize("route", ["vmap", "loop"])


def regression(count=3, shots=5, queries=7):
    def batch(n):
        return torch.randn(n, 2), torch.randn(n, 1)

    return [Task(batch(shots), batch(queries)) for _ in range(count)]


def smooth_net():
    return MLP(2, (5, 4), 1, activation="tanh", init_std=None)


def meta_gradient(net, tasks, route, segment=None, **options):
    learner = MAML(net, route=Execution(route=route, segment=segment), **options)
    learner.zero_grad()
    outcome = learner(tasks)
    outcome.loss.backward()
    return outcome, {name: p.grad.clone() for name, p in learner.named_parameters()}


RULES = [SGD(0.1), Momentum(0.1, 0.8), Momentum(0.1, 0.8, nesterov=True), Adam(0.05, beta1=0.9), Clip(SGD(0.3), 0.5)]


@double
@routes
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("segment", [2, *(pytest.param(n, marks=pytest.mark.long) for n in (1, 4))])
def test_the_sweep_over_segments_gives_the_gradient_of_the_whole_graph(rule, segment, route):
    net, tasks = smooth_net(), regression()
    whole, want = meta_gradient(net, tasks, "loop", segment=7, rule=rule, steps=7)
    swept, got = meta_gradient(net, tasks, route, segment=segment, rule=rule, steps=7)
    torch.testing.assert_close(swept.losses, whole.losses)
    assert difference(got, want) < 1e-10


@double
@routes
@pytest.mark.parametrize("adapt", ["head", "body"])
def test_parameters_that_do_not_adapt_get_the_sum_over_the_steps(adapt, route):
    net, tasks = smooth_net(), regression()
    _, want = meta_gradient(net, tasks, "loop", segment=6, rule=SGD(0.2), steps=6, adapt=adapt)
    _, got = meta_gradient(net, tasks, route, segment=1, rule=SGD(0.2), steps=6, adapt=adapt)
    assert difference(got, want) < 1e-10


def by_hand(net, tasks, rates, weights, first_order=False):
    """Return the mean multi-step objective, with a learned rate for each element, in plain autograd."""
    theta = dict(net.named_parameters())
    total = 0.0
    for task in tasks:
        (x, y), (xq, yq) = task.support, task.query
        phi = theta
        for weight in weights:
            loss = ((functional_call(net, phi, (x,)) - y) ** 2).mean()
            grads = torch.autograd.grad(loss, list(phi.values()), create_graph=not first_order)
            phi = {n: p - rates[n] * g for (n, p), g in zip(phi.items(), grads, strict=True)}
            total = total + weight * ((functional_call(net, phi, (xq,)) - yq) ** 2).mean()
    return total / len(tasks)


@double
@routes
@pytest.mark.parametrize("segment", [None, 1])
@pytest.mark.parametrize("order", ["exact", "first_order"])
def test_a_multi_step_objective_is_the_weighted_sum(segment, route, order):
    net, tasks, weights = smooth_net(), regression(), (0.2, 0.0, 0.3, 0.5)
    rates = {name: torch.tensor(0.1) for name, _ in net.named_parameters()}
    settings = {"rule": SGD(0.1), "steps": 4, "step_weights": weights, "meta_gradient": order}
    outcome, got = meta_gradient(net, tasks, route, segment, **settings)
    net.zero_grad()
    want = by_hand(net, tasks, rates, weights, order == "first_order")
    want.backward()
    torch.testing.assert_close(outcome.loss.detach(), want.detach())
    assert difference({n.removeprefix("model."): g for n, g in got.items()}, grads_of(net)) < 1e-10


@double
@routes
@pytest.mark.parametrize("per", ["element", "tensor"])
@pytest.mark.parametrize("segment", [None, 1])
@pytest.mark.parametrize("order", ["exact", "first_order"])
def test_learned_rates_have_their_gradient(per, segment, route, order):
    net, tasks = smooth_net(), regression()
    rates = learned_rates(net, 0.1, per=per)
    first_order = order == "first_order"
    _, got = meta_gradient(net, tasks, route, segment, rule=SGD(rates), steps=3, meta_gradient=order)
    assert len(got) == 2 * len(rates)
    net.zero_grad()
    for rate in rates.values():
        rate.grad = None
    by_hand(net, tasks, rates, (0.0, 0.0, 1.0), first_order).backward()
    want = {f"model.{n}": p.grad for n, p in net.named_parameters()}
    want |= {f"rates.{i}": rate.grad for i, rate in enumerate(rates.values())}
    assert difference(got, want) < 1e-10


@double
def test_one_learned_rate_equals_its_finite_difference():
    net, tasks, rate = smooth_net(), regression(), nn.Parameter(torch.tensor(0.1))

    def loss(value):
        return float(MAML(net, rule=SGD(value), steps=3)(tasks).loss.detach())

    _, got = meta_gradient(net, tasks, "vmap", rule=SGD(rate), steps=3)
    assert abs(float(got["rates.0"]) - (loss(0.1 + 1e-6) - loss(0.1 - 1e-6)) / 2e-6) < 1e-8


def test_learned_rates_train_with_the_network():
    net, tasks = smooth_net(), regression()
    rates = learned_rates(net, 0.01)
    learner = MAML(net, rule=SGD(rates), steps=2)
    optimizer = torch.optim.Adam(learner.parameters(), lr=0.01)
    first = float(learner(tasks).loss.detach())
    for _ in range(20):
        optimizer.zero_grad()
        learner(tasks).loss.backward()
        optimizer.step()
    assert float(learner(tasks).loss.detach()) < first
    assert all(float((rate.detach() - 0.01).abs().max()) > 1e-4 for rate in rates.values())
    assert learner.adapt(tasks[0].support)(tasks[0].query[0]).shape == (7, 1)


def test_rates_that_do_not_fit_are_refused():
    net = smooth_net()
    rates = learned_rates(net, 0.1)
    rates.pop("head.bias")
    with pytest.raises(ConfigError, match=r"head\.bias"):
        MAML(net, rule=SGD(rates))
    with pytest.raises(ConfigError, match="per"):
        learned_rates(net, 0.1, per="layer")
    with pytest.raises(ConfigError, match=">= 0"):
        learned_rates(net, -0.1)


@pytest.mark.parametrize("weights", [(1.0,), (0.5, -0.5), (1.0, 0.0), (float("nan"), 1.0)])
def test_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(ConfigError, match="step_weights"):
        MAML(smooth_net(), steps=2, step_weights=weights)


def stacked(tasks):
    def together(part):
        return tuple(torch.stack([getattr(t, part)[i] for t in tasks]) for i in range(2))

    return Tasks(together("support"), together("query"))


def peak(learner, batch):
    learner(batch)  # what is chosen once is not counted
    with PeakBytes() as memory:
        learner(batch)
    return memory.peak


@pytest.mark.long
@routes
def test_memory_does_not_grow_with_the_steps_but_for_their_parameters(route):
    # activations outweigh the parameters, as they do in real networks
    net, batch = MLP(2, (16, 16), 1, init_std=None), stacked(regression(2, shots=200, queries=200))
    at = {k: peak(MAML(net, rule=SGD(0.01), steps=k, route=route), batch) for k in (5, 50)}
    assert at[50] < 1.5 * at[5]
    unrolled = peak(MAML(net, rule=SGD(0.01), steps=50, route=Execution(route=route, segment=50)), batch)
    assert unrolled > 5 * at[50]


@pytest.mark.parametrize(
    "build",
    [
        lambda net, k: MAML(net, rule=SGD(0.01), steps=k, meta_gradient="first_order"),
        lambda net, k: Reptile(net, rule=SGD(0.01), steps=k),
    ],
    ids=["fomaml", "reptile"],
)
def test_first_order_builds_no_graph_of_the_inner_loop(build):
    net, batch = MLP(2, (16, 16), 1, init_std=None), stacked(regression(2, shots=200, queries=200))
    assert peak(build(net, 20), batch) < 1.5 * peak(build(net, 1), batch)


class CountedBackward(nn.Module):
    """Count how often a gradient passes."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def forward(self, x):
        counter = self

        class Count(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x.clone()

            @staticmethod
            def backward(ctx, g):
                counter.count += 1
                return g

        return Count.apply(x)


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_anil_never_propagates_back_through_the_body_inside_the_inner_loop(steps):
    counted = CountedBackward()
    net = nn.Sequential(nn.Linear(2, 4), counted, nn.Tanh(), nn.Linear(4, 1))
    learner = MAML(net, rule=SGD(0.1), steps=steps, adapt="head", meta_gradient="first_order", route="loop")
    tasks = regression(1)
    learner(tasks)  # how it runs is chosen once
    counted.count = 0
    learner(tasks).loss.backward()
    assert counted.count == 1  # the query's, to the body's own meta-gradient


@routes
def test_dropout_repeats_its_masks_when_a_step_is_computed_again(route):
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(2, 20), nn.Tanh(), nn.Dropout(0.5), nn.Linear(20, 1))
    batch = stacked(regression(2))
    grads = []
    for segment in (6, 1):
        learner = MAML(net, MSE(), rule=SGD(0.1), steps=6, route=Execution(route=route, segment=segment))
        learner(batch)
        torch.manual_seed(0)
        net.zero_grad()
        learner(batch).loss.backward()
        grads.append({n: g.clone() for n, g in grads_of(net).items()})
    assert difference(*grads) < 1e-5


@pytest.mark.long
@double
def test_running_moments_see_every_step_once():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 2))
    batch = [Task((torch.randn(6, 2), torch.arange(6) % 2), (torch.randn(5, 2), torch.arange(5) % 2)) for _ in range(2)]
    moments = []
    for segment in (8, 1):
        learner = MAML(net, CrossEntropy(), rule=SGD(0.1), steps=8, norm="per_step", route=Execution(segment=segment))
        learner(batch)
        moments.append(learner.running.tensors())
    torch.testing.assert_close(moments[0], moments[1])
