"""The small language model: causal, of the published size, and right to the second derivative."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

import fastadapt as fa
from fastadapt.errors import ConfigError
from fastadapt.losses import BitsPerCharacter
from fastadapt.nets import Decoder

pytestmark = pytest.mark.usefixtures("double")
LOSS = BitsPerCharacter()


def small():
    return Decoder(7, context=6, width=8, depth=2, heads=2)


def tasks(count=3):
    def drawn():
        return torch.randint(0, 7, (2, 6)), torch.randint(0, 7, (2, 6))

    return [fa.Task(drawn(), drawn()) for _ in range(count)]


def by_hand(net, tasks, rate, steps, exact):
    """Return meta-objective and gradient by plain autograd through `functional_call`."""
    start = {name: p.detach().clone().requires_grad_() for name, p in net.named_parameters()}
    total = 0.0
    with sdpa_kernel(SDPBackend.MATH):
        for task in tasks:
            theta = dict(start)
            for _ in range(steps):
                loss = F.cross_entropy(functional_call(net, theta, (task.support[0],)), task.support[1])
                grads = torch.autograd.grad(loss, list(theta.values()), create_graph=exact)
                theta = {name: p - rate * g for (name, p), g in zip(theta.items(), grads, strict=True)}
            total = total + F.cross_entropy(functional_call(net, theta, (task.query[0],)), task.query[1]) / len(tasks)
        return total.detach(), torch.autograd.grad(total, list(start.values()))


def test_it_has_the_size_of_the_showcase():
    assert sum(p.numel() for p in Decoder(112).parameters()) == 118_640


def test_no_place_sees_what_comes_after_it():
    net, x = small(), torch.randint(0, 7, (2, 6))
    changed = x.clone()
    changed[:, 4:] = (changed[:, 4:] + 1) % 7
    a, b = net(x), net(changed)
    torch.testing.assert_close(a[..., :4], b[..., :4])
    assert not torch.allclose(a[..., 4], b[..., 4])
    torch.testing.assert_close(net(x[:, :3]), a[..., :3])  # shorter texts too


@pytest.mark.parametrize("route", ["loop", pytest.param("vmap", marks=pytest.mark.long)])
@pytest.mark.parametrize("order", ["exact", "first_order"])
def test_its_meta_gradient_is_that_of_plain_autograd(route, order):
    net, drawn = small(), tasks()
    want, gradient = by_hand(copy.deepcopy(net), drawn, 0.5, 3, order == "exact")
    learner = fa.MAML(net, LOSS, rule=fa.SGD(0.5), steps=3, meta_gradient=order, route=route)
    outcome = learner(drawn)
    outcome.loss.backward()
    torch.testing.assert_close(outcome.loss.detach(), want, rtol=1e-9, atol=0)
    for p, g in zip(net.parameters(), gradient, strict=True):
        torch.testing.assert_close(p.grad, g, rtol=1e-9, atol=1e-9)
    assert {plan.route for plan in learner.engine.plans.values()} == {route}


def test_settings_that_make_no_model_are_refused():
    for words, settings in {"symbols=1": {"symbols": 1}, "width=9": {"symbols": 5, "width": 9}}.items():
        with pytest.raises(ConfigError, match=words):
            Decoder(**settings)
    with pytest.raises(ConfigError, match="reads 6 symbols at once, and the text has 7"):
        small()(torch.zeros(1, 7, dtype=torch.long))


def test_bits_per_character_are_those_of_the_chances():
    logits, y = torch.randn(2, 7, 5), torch.randint(0, 7, (2, 5))
    want = -logits.softmax(1).gather(1, y.unsqueeze(1)).log2().mean()
    torch.testing.assert_close(LOSS.metrics(logits, (None, y))["bits per character"], want)
    uniform = LOSS.metrics(torch.zeros(1, 112, 3), (None, torch.zeros(1, 3, dtype=torch.long)))
    assert round(float(uniform["bits per character"]), 3) == 6.807
    assert LOSS.higher_is_better is False
