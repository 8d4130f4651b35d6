"""A learned tensor beside the network gets its gradient wherever the network keeps it, and is left as it was."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastadapt import MAML, SGD, Exact, Execution, FirstOrder, Implicit, Reptile, Task, adapt, mse
from fastadapt.errors import TaskError
from fastadapt.methods import FOML, ProtoNet

pytestmark = pytest.mark.usefixtures("double")
RATE = 0.2


class Net(nn.Module):
    """Two layers with a modulation of the first, which another network has made."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)
        self.register_buffer("film", None)

    def found(self):
        return self.film

    def forward(self, x):
        return self.last(self.first(x).tanh() * self.found())


class InDict(Net):
    def found(self):
        return self.films["deep"][0][0]


class InList(Net):
    def found(self):
        return self.films[1]


class Nested(nn.Module):
    """The tensor is a buffer of a part."""

    def __init__(self):
        super().__init__()
        self.body = Net()

    def forward(self, x):
        return self.body(x)


def put(net, film):
    """Give the network the tensor, in the place of its kind."""
    if isinstance(net, InDict):
        net.films = {"deep": [(film,), 1]}
    elif isinstance(net, InList):
        net.films = [torch.ones(4), film]
    else:
        (net.body if isinstance(net, Nested) else net).film = film
    return net


PLACES = [Net, Nested, InDict, InList]
MADE = {"computed": lambda e: e.exp(), "itself": lambda e: e}


def tasks():
    return [Task((torch.randn(4, 3), torch.randn(4, 2)), (torch.randn(5, 3), torch.randn(5, 2))) for _ in range(3)]


def written_out(p, film, batch):
    a, b, c, d = p
    return F.mse_loss((batch[0] @ a.T + b).tanh() * film @ c.T + d, batch[1])


def twin(net, e, made, tasks, steps, first_order=False, weights=(1 / 3, 1 / 3, 1 / 3)):
    """Return the meta-gradient by every tensor, with no module and no library."""
    start = [p.detach().clone().requires_grad_() for p in net.parameters()]
    leaf = e.detach().clone().requires_grad_()
    total = 0.0
    for task, weight in zip(tasks, weights, strict=True):
        p = start
        for _ in range(steps):
            grads = torch.autograd.grad(written_out(p, made(leaf), task.support), p, create_graph=True)
            p = [q - RATE * (g.detach() if first_order else g) for q, g in zip(p, grads, strict=True)]
        total = total + weight * written_out(p, made(leaf), task.query)
    return torch.autograd.grad(total, [*start, leaf])


EVERYWHERE = [(2, Exact(), "vmap", place, made) for place in PLACES for made in MADE]
EVERY_WAY = [
    (2, Exact(), "loop", InDict, "computed"),
    (1, Exact(), "auto", InList, "computed"),
    (6, Exact(), "loop", Net, "computed"),
    (3, Exact(segment=1), "auto", InDict, "computed"),
    (2, FirstOrder(), "loop", InList, "computed"),
    (1, FirstOrder(), "vmap", Nested, "computed"),
    (2, Exact(), Execution(compile="trace"), Nested, "itself"),
]


@pytest.mark.parametrize("steps, kind, route, place, made", [*EVERYWHERE, *EVERY_WAY])
def test_it_gets_the_gradient_of_the_computation_written_out(steps, kind, route, place, made):
    e = torch.rand(4, requires_grad=True)
    film = MADE[made](e)
    net, some = put(place(), film), tasks()
    learner = MAML(net, mse, rule=SGD(RATE), steps=steps, meta_gradient=kind, route=route)
    for _ in range(2):
        for p in (e, *net.parameters()):
            p.grad = None
        learner(some).loss.backward()
    got = [*(p.grad for p in net.parameters()), e.grad]
    want = twin(net, e, MADE[made], some, steps, isinstance(kind, FirstOrder))
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w, rtol=1e-10, atol=1e-12)
    kept = net.films["deep"][0][0] if place is InDict else net.films[1] if place is InList else film
    assert kept is film and film.requires_grad


@pytest.mark.parametrize("place", PLACES)
def test_weighted_losses_and_the_loop_in_the_users_hands_give_it_too(place):
    e = torch.rand(4, requires_grad=True)
    net, some = put(place(), e.exp()), tasks()
    losses = MAML(net, mse, rule=SGD(RATE), steps=2)(some).losses
    (0.5 * losses[0] + 2 * losses[2]).backward()
    torch.testing.assert_close(e.grad, twin(net, e, torch.exp, some, 2, weights=(0.5, 0.0, 2.0))[-1])

    e.grad = None
    phi = adapt(mse, put(net, e.exp()), some[0].support, SGD(RATE), steps=2)
    phi.loss(mse, some[0].query).backward()
    torch.testing.assert_close(e.grad, twin(net, e, torch.exp, some[:1], 2, weights=(1.0,))[-1])


@pytest.mark.parametrize("place", [Net, InDict])
def test_the_implicit_gradient_reaches_it(place):
    e = torch.rand(4, requires_grad=True)
    net, some = put(place(), e.exp()), tasks()

    def loss():
        kind = Implicit(strength=4.0, cg_steps=20, damping=0.0)
        return MAML(net, mse, rule=SGD(0.08), steps=60, meta_gradient=kind)(some[:1]).loss

    loss().backward()
    along, step, values = torch.randn(4), 1e-4, []
    for sign in (1, -1):
        put(net, (e.detach() + sign * step * along).exp())
        values.append(float(loss().detach()))
    assert abs((values[0] - values[1]) / 2 / step - float(e.grad @ along)) < 1e-4


@pytest.mark.parametrize("place", PLACES)
def test_adapting_and_tracing_leave_it_as_it_was(place):
    e = torch.rand(4, requires_grad=True)
    film = e.exp()
    net, some = put(place(), film), tasks()
    learner = MAML(net, mse, rule=SGD(RATE), steps=2)
    predictor, traced = learner.adapt(some[0].support), learner.trace(some).losses
    assert film.requires_grad and not traced.requires_grad
    moved = {n: p.detach() for n, p in predictor.model.named_parameters()}
    p = [moved[n] for n, _ in net.named_parameters()]
    torch.testing.assert_close(mse(predictor, some[0].query), written_out(p, film.detach(), some[0].query))
    torch.testing.assert_close(traced[0, 2], written_out(p, film.detach(), some[0].query))


@pytest.mark.parametrize("method, route", [(Reptile, "loop"), (Reptile, "vmap"), (FOML, "vmap")])
@pytest.mark.parametrize("place", [Nested, InDict])
def test_a_displacement_has_no_gradient_for_it_and_says_so(place, method, route):
    e = torch.rand(4, requires_grad=True)
    with pytest.raises(TaskError, match="inner gradients are taken as constants"):
        method(put(place(), e.exp()), mse, rule=SGD(RATE), steps=2, route=route)(tasks())


def test_an_embedding_of_a_metric_method_gives_it_too():
    e = torch.rand(4, requires_grad=True)
    net = put(Net(), e.exp())
    x, y = torch.randn(6, 3), torch.tensor([0, 1, 0, 1, 0, 1])
    task = Task((x, y), (torch.randn(4, 3), torch.tensor([0, 1, 1, 0])))
    learner = ProtoNet(net)
    learner([task]).loss.backward()
    along, step, values = torch.randn(4), 1e-5, []
    for sign in (1, -1):
        put(net, (e.detach() + sign * step * along).exp())
        values.append(float(learner([task]).loss.detach()))
    assert abs((values[0] - values[1]) / 2 / step - float(e.grad @ along)) < 1e-8
