"""A copy of a module shares nothing with it, whatever refers to what."""

import collections
import functools
import threading
import types
import weakref

import pytest
import torch
from torch import nn

from fastadapt import MAML, Task
from fastadapt.errors import TaskError
from fastadapt.layers.copied import copied


class Keeps(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        layer = self.layer
        self.functions = {
            "closure": lambda x: 1 * self.layer(x),
            "variable": lambda x: 1 * layer(x),
            "default": lambda x, layer=layer: layer(x),
            "weight": (lambda weight: lambda x: x @ weight.T)(layer.weight),
            "method": self.layer.forward,
            "partial": functools.partial(lambda layer, x: layer(x), layer),
            "nested": (lambda inner: lambda x: 1 * inner(x))(lambda x: 1 * layer(x)),
            "listed": (lambda layers: lambda x: 1 * layers[0](x))([layer]),
        }
        self.reference = weakref.ref(layer)
        self.proxy = weakref.proxy(layer)

    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize("name", ["closure", "variable", "default", "weight", "method", "partial", "nested", "listed"])
def test_a_function_that_it_keeps_uses_the_copy(name):
    net = Keeps()
    twin = copied(net)
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
    x = torch.ones(1, 2)
    assert torch.equal(twin.functions[name](x), torch.zeros(1, 2))
    assert not torch.equal(net.functions[name](x), torch.zeros(1, 2))


def test_weak_references_are_to_the_copy():
    net = Keeps()
    twin = copied(net)
    assert twin.reference() is twin.layer and twin.proxy.weight is twin.layer.weight
    assert net.reference() is net.layer


def test_activations_are_copied_without_their_graph():
    net = Keeps()
    net.seen = [net(torch.ones(1, 2))]
    twin = copied(net)
    assert twin.seen[0].grad_fn is None and torch.equal(twin.seen[0], net.seen[0])
    assert net.seen[0].grad_fn is not None


class Act:
    """An object of the user's own that keeps a function."""

    def __init__(self, function):
        self.function = function

    def __call__(self, x):
        return self.function(x)


class Slotted(Act):
    __slots__ = ("held",)

    def __init__(self, function):
        self.held = function

    def __call__(self, x):
        return self.held(x)


Named = collections.namedtuple("Named", "function")
HOLDERS = {
    "object": (Act, lambda kept: kept),
    "slots": (Slotted, lambda kept: kept),
    "object in an object": (lambda f: Act(Act(f)), lambda kept: kept),
    "registry": (lambda f: Act({"relu": [f]}), lambda kept: kept.function["relu"][0]),
    "namespace": (lambda f: types.SimpleNamespace(f=f), lambda kept: kept.f),
    "deque": (lambda f: collections.deque([f]), lambda kept: kept[0]),
    "named tuple": (Named, lambda kept: kept.function),
    "set": (lambda f: {f}, lambda kept: next(iter(kept))),
    "partial": (lambda f: functools.partial(lambda g, x: g(x), f), lambda kept: kept),
    "closure over an object": (lambda f: (lambda act: lambda x: 1 * act(x))(Act(f)), lambda kept: kept),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_function_in_an_object_uses_the_copy_and_the_original_its_own(holder):
    keep, found = HOLDERS[holder]
    net = nn.Linear(2, 2)
    net.kept = keep(lambda x: 1 * net(x))
    twin = copied(net)
    with torch.no_grad():
        twin.weight.zero_(), twin.bias.zero_()
    x = torch.ones(1, 2)
    assert torch.equal(found(twin.kept)(x), torch.zeros(1, 2))
    assert not torch.equal(found(net.kept)(x), torch.zeros(1, 2))


def test_a_hook_that_is_an_object_uses_the_copy():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))

    class Hook:
        def __init__(self, function):
            self.function = function

        def __call__(self, module, inputs, output):
            return self.function(output)

    net[0].register_forward_hook(Hook(lambda x: net[1].weight.sum() * x))
    twin = copied(net)
    with torch.no_grad():
        twin[1].weight.zero_()
    assert not twin(torch.ones(1, 2)).sub(twin[1].bias).any() and net(torch.ones(1, 2)).sub(net[1].bias).any()


def test_functions_that_refer_to_themselves_and_share_a_variable_do_so_in_the_copy():
    net = nn.Linear(1, 1)

    def made():
        count = 0

        def again(times):
            nonlocal count
            count += 1
            return net if not times else again(times - 1)

        return again, lambda: (count, net)

    net.functions = list(made())
    twin = copied(net)
    assert twin.functions[0](3) is twin and twin.functions[1]() == (4, twin) and net.functions[1]() == (0, net)


@pytest.mark.parametrize("kept", [types.SimpleNamespace(), Act(None)], ids=["namespace", "object"])
@pytest.mark.parametrize("route", ["loop", "vmap"])
def test_an_activation_in_an_object_does_not_hinder_adapting(kept, route):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.kept, self.queue = nn.Linear(3, 2), kept, collections.deque(maxlen=2)

        def forward(self, x):
            self.kept.h = self.layer(x)
            self.queue.append({"deep": [(self.kept.h,)]})
            return self.kept.h

    net, task = Net(), Task((torch.randn(4, 3), torch.randn(4, 2)), (torch.randn(5, 3), torch.randn(5, 2)))
    learner = MAML(net, route=route)
    learner(task).loss.backward()
    predictor = learner.adapt(task.support)
    plain = MAML(nn.Linear(3, 2), route=route)
    plain.model.load_state_dict(net.layer.state_dict())
    torch.testing.assert_close(predictor(task.query[0]), plain.adapt(task.support)(task.query[0]))


def test_what_has_no_copy_is_named():
    net = nn.Linear(1, 1)
    net.lock = threading.Lock()
    with pytest.raises(TaskError, match=r"Linear can't be copied.*__deepcopy__"):
        copied(net)
