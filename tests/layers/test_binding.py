"""Tensors are put in a module's places and taken out again, whatever happens in between."""

import copy
import gc
import random
import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from fastadapt import MAML, SGD, Reptile, Task, adapt, mse
from fastadapt.errors import TaskError
from fastadapt.layers.bound import Bound, inside
from fastadapt.layers.scope import held

pytestmark = pytest.mark.usefixtures("double")


class Net(nn.Module):
    def __init__(self, run_again=False):
        super().__init__()
        self.run_again = run_again
        self.first, self.middle = nn.Linear(3, 6), nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh())
        self.last = nn.Linear(6, 2)

    def forward(self, x):
        h = torch.tanh(self.first(x))
        return self.last(checkpoint(self.middle, h, use_reentrant=False) if self.run_again else self.middle(h))


def tasks(count=3):
    return [Task((torch.randn(4, 3), torch.randn(4, 2)), (torch.randn(5, 3), torch.randn(5, 2))) for _ in range(count)]


def places(net):
    return {
        name: (id(part._parameters), [id(p) for p in part._parameters.values()]) for name, part in net.named_modules()
    }


def values(net):
    return {name: p.detach().clone() for name, p in net.state_dict().items()}


def test_the_model_of_a_loss_passes_for_the_module():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    given = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    model = Bound(net, given, {})
    assert isinstance(model, nn.Sequential) and len(model) == 3 and model.training
    with held(), inside(model).in_place():
        assert [p is given[name] for name, p in model.named_parameters()] == [True] * 4
        assert model[0].weight is given["0.weight"] and next(iter(model)) is net[0]
        assert torch.equal(net(torch.ones(1, 3)), torch.zeros(1, 2))  # also for who holds the module itself
    assert all(isinstance(p, nn.Parameter) for p in net.parameters())


@pytest.mark.parametrize("route", ["loop", "vmap"])
def test_a_model_can_t_be_copied_inside_a_loss_and_a_sentence_says_so(route):
    def loss(model, batch):
        return mse(copy.deepcopy(model), batch)

    with pytest.raises(TaskError, match=r"the Net inside a loss can't be copied.*p\.detach\(\)"):
        MAML(Net(), loss, rule=SGD(0.1), steps=1, route=route)(tasks())


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("kind", [MAML, Reptile])
def test_whatever_is_raised_in_between_the_module_is_as_it_was(error, kind):
    net = Net()
    before, held_before = values(net), places(net)
    calls = []

    def loss(model, batch):
        calls.append(0)
        if len(calls) == 3:
            raise error("in the middle")
        return mse(model, batch)

    with pytest.raises(error, match="in the middle"):
        kind(net, loss, rule=SGD(0.1), steps=4, route="loop")(tasks())
    assert places(net) == held_before
    assert all(torch.equal(before[name], value) for name, value in values(net).items())


def test_what_a_module_keeps_on_itself_stays_without_its_graph():
    class Keeping(Net):
        def forward(self, x):
            self.features = super().forward(x)
            return self.features

    net = Keeping()
    learner = MAML(net, rule=SGD(0.1), route="loop")
    learner(tasks()).loss.backward()
    assert net.features.grad_fn is None and net.features.shape == (5, 2)
    learner.adapt(tasks()[0].support)
    vmapped = Keeping()
    MAML(vmapped, rule=SGD(0.1), route="vmap")(tasks()).loss.backward()
    assert not hasattr(vmapped, "features") or vmapped.features.dim() == 2


def twin_gradient(theta, support, query, rate, steps):
    """Differentiate a loss of the adapted network, written out without modules."""
    names = list(theta)

    def forward(p, x):
        a, b, c, d, e, f, g, h = (p[n] for n in names)
        z = torch.tanh(x @ a.T + b)
        z = torch.tanh(torch.tanh(z @ c.T + d) @ e.T + f)
        return z @ g.T + h

    phi = {n: p.clone().requires_grad_() for n, p in theta.items()}
    leaves = phi
    for _ in range(steps):
        loss = F.mse_loss(forward(phi, support[0]), support[1])
        grads = torch.autograd.grad(loss, list(phi.values()), create_graph=True)
        phi = {n: p - rate * g for (n, p), g in zip(phi.items(), grads, strict=True)}
    return torch.autograd.grad(F.mse_loss(forward(phi, query[0]), query[1]), list(leaves.values()))


@pytest.mark.parametrize("steps", [1, 3, 7])
@pytest.mark.parametrize("run_again", [False, True])
def test_a_graph_that_leaves_adapt_is_right_when_it_runs_the_module_again(steps, run_again):
    net, [task] = Net(run_again), tasks(1)
    phi = adapt(nn.MSELoss(), net, task.support, SGD(0.3), steps)
    value = phi.loss(nn.MSELoss(), task.query)
    adapt(nn.MSELoss(), net, task.query, SGD(0.3), 2)  # something else is bound in between
    net(task.query[0]).sum().backward()
    net.zero_grad()
    value.backward()
    want = twin_gradient({n: p.detach() for n, p in net.named_parameters()}, task.support, task.query, 0.3, steps)
    for p, g in zip(net.parameters(), want, strict=True):
        assert torch.allclose(p.grad, g, rtol=1e-11, atol=1e-14)
    before = places(net)
    del phi, value
    gc.collect()
    with held():
        pass
    assert all(type(part._parameters) is dict for part in net.modules())
    assert set(before) == set(places(net))


@pytest.mark.parametrize("rounds", [50, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.long
def test_four_threads_get_what_one_gets(rounds):
    net, batch = Net(run_again=True), tasks()
    learner = MAML(net, rule=SGD(0.2), steps=2, route="loop")

    def forward():
        outcome = learner(batch)
        grads = torch.autograd.grad(outcome.loss, list(net.parameters()))
        return torch.cat([g.flatten() for g in grads])

    def adapted():
        predict = learner.adapt(batch[0].support)
        return torch.cat([p.detach().flatten() for p in predict.parameters()])

    def traced():
        return learner.trace(batch, 2).losses

    kinds = [forward, adapted, traced]
    want = [kind() for kind in kinds]
    wrong = []

    def work(seed):
        order = random.Random(seed)
        for _ in range(rounds):
            i = order.randrange(3)
            got = kinds[i]()
            if not torch.equal(got, want[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert net.training and all(isinstance(p, nn.Parameter) for p in net.parameters())


class Making(Net):
    """A forward pass makes a parameter and a buffer, in a part that has some and in one that has none."""

    def forward(self, x):
        self.fresh = nn.Parameter(torch.full((3,), 2.0))
        self.first.fresh = nn.Parameter(torch.full((3,), 0.5))
        self.register_buffer("kept", x.mean())
        return super().forward(x * self.fresh * self.first.fresh)


@pytest.mark.parametrize("route", ["loop", "vmap"])
def test_a_parameter_that_a_forward_pass_makes_is_its_own_and_leaves_nothing_behind(route):
    some, net, same = tasks(), Making(), Net()
    same.load_state_dict(net.state_dict())
    for kind in (MAML, Reptile):
        for model in (net, same):
            model.zero_grad()
            learner = kind(model, mse, rule=SGD(0.1), steps=2, route=route)
            learner(some).loss.backward()
        for p, q in zip(net.parameters(), same.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad)
    got, want = (MAML(m, mse, rule=SGD(0.1), steps=2, route=route) for m in (net, same))
    torch.testing.assert_close(got.trace(some).losses, want.trace(some).losses)
    x = some[0].query[0]
    torch.testing.assert_close(got.adapt(some[0].support)(x), want.adapt(some[0].support)(x))
    assert [name for name, _ in net.named_parameters()] == [name for name, _ in same.named_parameters()]


@pytest.mark.parametrize("route", ["loop", "vmap"])
def test_the_dictionary_of_a_loss_s_model_is_that_of_the_module(route):
    net, some = Net(), tasks()
    net.beta = 2.0

    def loss(model, batch):
        weight = vars(model)["_modules"]["last"].weight  # with the adapted values
        assert "beta" in model.__dict__ and vars(model).get("absent") is None
        return model.__dict__["beta"] * mse(model, batch) + weight.square().mean()

    def plainly(model, batch):
        return 2 * mse(model, batch) + model.last.weight.square().mean()

    found = [MAML(net, f, rule=SGD(0.1), steps=2, route=route)(some).losses.detach() for f in (loss, plainly)]
    torch.testing.assert_close(*found)


class Slotted(Net):
    __slots__ = ("part",)

    def __init__(self):
        super().__init__()
        object.__setattr__(self, "part", self.first)

    def forward(self, x):
        return self.last(self.middle(torch.tanh(self.part(x))))


def test_what_a_module_has_in_slots_is_adapted_and_copied():
    net, same, some = Slotted(), Net(), tasks()
    same.load_state_dict(net.state_dict())
    predictors = [MAML(m, mse, rule=SGD(0.1), steps=2).adapt(some[0].support) for m in (net, same)]
    assert predictors[0].model.part is predictors[0].model.first
    torch.testing.assert_close(*(p(some[0].query[0]) for p in predictors))
