"""Looks at a learner are no calls of its user: what its code counts and keeps is as the loop alone would leave it."""

from collections import deque
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from fastadapt import MAML, SGD, Execution, Task
from watched import Net

pytestmark = pytest.mark.usefixtures("double")
ROUTES = ["vmap", "auto", Execution(route="vmap", compile="trace")]


def tasks(count=3):
    torch.manual_seed(1)
    return [Task((torch.randn(4, 3), torch.randn(4, 2)), (torch.randn(5, 3), torch.randn(5, 2))) for _ in range(count)]


def mse(m, b):
    return F.mse_loss(m(b[0]), b[1])


def counter_in_a_closure():
    t = torch.zeros(())

    def loss(m, b):
        t.add_(1)
        return mse(m, b) * (1 + 0.1 * t.clone())

    return loss, lambda: t


def counter_of_an_object():
    held = SimpleNamespace(n=torch.zeros(3))

    def loss(m, b):
        held.n += 1
        return mse(m, b) * (1 + 0.1 * held.n.sum())

    return loss, lambda: held.n


def running_mean_in_a_closure():
    held = {"v": torch.zeros(())}

    def loss(m, b):
        value = mse(m, b)
        held["v"] = 0.9 * held["v"] + 0.1 * value.detach()
        return value * (1 + held["v"])

    return loss, lambda: held["v"]


def last_losses():
    held = deque([torch.zeros(()), torch.zeros(())], maxlen=2)

    def loss(m, b):
        value = mse(m, b)
        weight = 1 + held[0]
        held.append(value.detach())
        return value * weight

    return loss, lambda: held[1]


@pytest.mark.parametrize("route", ROUTES, ids=["vmap", "auto", "trace"])
@pytest.mark.parametrize(
    "build",
    [counter_in_a_closure, counter_of_an_object, running_mean_in_a_closure, last_losses],
    ids=lambda f: f.__name__,
)
def test_every_route_counts_as_the_loop_does(build, route):
    found = []
    for way in ("loop", route):
        loss, kept = build()
        torch.manual_seed(0)
        net = Net()
        learner = MAML(net, loss, rule=SGD(0.1), steps=2, route=way)
        losses = [learner(tasks()) for _ in range(2)]
        losses[-1].loss.backward()
        found.append([*(o.losses.detach() for o in losses), kept().clone(), *(p.grad for p in net.parameters())])
    for got, want in zip(*found, strict=True):
        torch.testing.assert_close(got, want)


def test_what_a_forward_pass_keeps_in_a_closure_still_runs_under_vmap():
    seen = {}
    net = Net()
    first = next(m for m in net.modules() if isinstance(m, torch.nn.Linear))
    first.register_forward_hook(lambda module, given, output: seen.update(h=output))
    found = []
    for way in ("loop", "vmap"):
        learner = MAML(net, lambda m, b: mse(m, b) + 0.1 * seen["h"].square().mean(), rule=SGD(0.1), route=way)
        net.zero_grad()
        learner(tasks()).loss.backward()
        found.append([p.grad.clone() for p in net.parameters()])
    assert {plan.strategy for plan in learner.engine.plans.values()} == {"vmapped"}
    for got, want in zip(*found, strict=True):
        torch.testing.assert_close(got, want)
