"""What a rule learns by a tensor that only its code refers to: differentiated in every order, or refused."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastadapt import MAML, SGD, Exact, FirstOrder, Implicit, Task
from fastadapt.errors import ConfigError, TaskError

pytestmark = pytest.mark.usefixtures("double")


def tasks(count=2):
    torch.manual_seed(1)
    return [Task((torch.randn(4, 3), torch.randn(4, 2)), (torch.randn(5, 3), torch.randn(5, 2))) for _ in range(count)]


class Rated:
    lr = 0.1

    def init(self, params):
        return ()

    def update(self, params, grads, state):
        return {n: params[n] - self.rate() * grads[n] for n in params}, state


def closed(r):
    return type("Closed", (Rated,), {"rate": lambda self: r.exp()})()


def slotted(r):
    rule = type("Slotted", (Rated,), {"__slots__": ("log",), "rate": lambda self: self.log.exp()})()
    rule.log = r
    return rule


def in_a_namespace(r):
    rule = type("Spaced", (Rated,), {"rate": lambda self: self.config.log.exp()})()
    rule.config = SimpleNamespace(log=r)
    return rule


def made_before(r):
    rate = r.exp()  # no leaf itself
    return type("Made", (Rated,), {"rate": lambda self: rate})()


def by_hand(net, r, batch, steps, first_order):
    theta = dict(net.named_parameters())
    losses = []
    for task in batch:
        phi = theta
        for _ in range(steps):
            loss = F.mse_loss(torch.func.functional_call(net, phi, task.support[0]), task.support[1])
            slopes = torch.autograd.grad(loss, list(phi.values()), create_graph=True)
            slopes = [g.detach() for g in slopes] if first_order else slopes
            phi = {n: p - r.exp() * g for (n, p), g in zip(phi.items(), slopes, strict=True)}
        losses.append(F.mse_loss(torch.func.functional_call(net, phi, task.query[0]), task.query[1]))
    return torch.autograd.grad(torch.stack(losses).mean(), [r, *theta.values()])


@pytest.mark.parametrize("route", ["loop", "vmap", "auto"])
@pytest.mark.parametrize("order", [Exact(), FirstOrder()], ids=["exact", "first order"])
@pytest.mark.parametrize("make", [closed, slotted, in_a_namespace, made_before], ids=lambda f: f.__name__)
def test_a_hidden_rate_gets_its_gradient(make, order, route):
    net, r = nn.Linear(3, 2), torch.tensor(-1.5, requires_grad=True)
    want = by_hand(net, r, tasks(), 2, isinstance(order, FirstOrder))
    MAML(net, rule=make(r), steps=2, meta_gradient=order, route=route)(tasks()).loss.backward()
    for p, right in zip([r, *net.parameters()], want, strict=True):
        torch.testing.assert_close(p.grad, right)


def test_dropout_is_drawn_once_where_the_loop_is_walked_anew():
    net, r = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 2)), torch.tensor(-1.5, requires_grad=True)
    losses = []
    for rule in (closed(r), closed(r.detach())):
        torch.manual_seed(3)
        learner = MAML(net, rule=rule, steps=2, meta_gradient=FirstOrder(), route="loop")
        losses.append(learner(tasks(1)).losses.detach())
        losses.append(torch.rand(1))
    torch.testing.assert_close(losses[0], losses[2])
    torch.testing.assert_close(losses[1], losses[3])


def test_implicit_refuses_a_rule_that_learns_by_a_closure():
    r = torch.tensor(-1.5, requires_grad=True)
    with pytest.raises(ConfigError, match="the rule learns"):
        MAML(nn.Linear(3, 2), rule=closed(r), steps=2, meta_gradient=Implicit(1.0), route="loop")(tasks())


class Counting(SGD):
    def init(self, params):
        return {"steps": 0}


@pytest.mark.parametrize("route", ["loop", "vmap"])
def test_a_number_as_state_is_told_in_a_sentence(route):
    with pytest.raises(TaskError, match=r"state .* holds 0, a int.*torch\.zeros"):
        MAML(nn.Linear(3, 2), rule=Counting(0.1), steps=2, route=route)(tasks())
