"""A copy of a module shares nothing with it, whatever refers to what."""

import functools
import weakref

import pytest
import torch
from torch import nn

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
