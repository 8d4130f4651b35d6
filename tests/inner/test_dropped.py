"""Exact gradients through code that computes a gradient by itself: right, or refused by name."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from fastadapt import MAML, SGD, FirstOrder, Task, adapt
from fastadapt.errors import TaskError

pytestmark = pytest.mark.usefixtures("double")
routes = pytest.mark.parametrize("route", ["loop", "vmap"])


def tasks(count=2):
    torch.manual_seed(1)
    return [Task((torch.randn(4, 3), torch.randn(4, 2)), (torch.randn(5, 3), torch.randn(5, 2))) for _ in range(count)]


class Net(nn.Module):
    def __init__(self, between):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.between = nn.Linear(3, 4), nn.Linear(4, 2), between

    def forward(self, x):
        return self.b(self.between(self.a(x)))


def function(forward, backward):
    return type(
        "Own", (torch.autograd.Function,), {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    )


def keeping(**what):
    """Return x^2, whose backward has kept something of x."""

    def forward(ctx, x):
        for name, keep in what.items():
            setattr(ctx, name, keep(x))
        ctx.save_for_backward(x)
        return x**2

    return forward


def swish(ctx, x):
    s = torch.sigmoid(x)
    ctx.save_for_backward(x, s)
    return x * s


def swish_backward(ctx, g):
    x, s = ctx.saved_tensors
    return g * (s + x * s * (1 - s))  # s was computed without a graph


def hooked(hook):
    def between(h):
        h = h.tanh()
        if h.requires_grad:
            h.register_hook(lambda g: hook(g, h))
        return h

    return between


def halves_without_graph(g):
    y = torch.zeros_like(g)
    for _ in range(30):
        y = (0.5 * y).detach() + g
    return y


LOSING = {
    "numpy": function(
        keeping(n=lambda x: x.detach().numpy().copy()), lambda ctx, g: 2 * torch.from_numpy(ctx.n) * g
    ).apply,
    "detached": function(keeping(d=lambda x: x.detach()), lambda ctx, g: 2 * ctx.d * g).apply,
    "number": function(keeping(f=lambda x: float(x.norm())), lambda ctx, g: ctx.f * g).apply,
    "no grad": function(keeping(), lambda ctx, g: (2 * ctx.saved_tensors[0] * g).detach()).apply,
    "an intermediate": function(swish, swish_backward).apply,
    "in a checkpoint": lambda h: checkpoint(LOSING["detached"], h, use_reentrant=False),
    "hook": hooked(lambda g, h: g.detach()),
    "hook in numpy": hooked(lambda g, h: torch.from_numpy(np.clip(g.detach().numpy(), -1, 1))),
    "hook of a solver": hooked(lambda g, h: halves_without_graph(g)),
    "hook by a value": hooked(lambda g, h: g * h.detach()),
    "hook of a node": lambda h: (h := h.tanh(), h.requires_grad and h.grad_fn.register_hook(_detaching))[0],
}


def _detaching(to_inputs, from_outputs):
    return tuple(None if g is None else g.detach() for g in to_inputs)


SOUND = {
    "square": function(keeping(), lambda ctx, g: 2 * ctx.saved_tensors[0] * g).apply,
    "output": function(lambda ctx, x: setattr(ctx, "y", x.exp()) or ctx.y, lambda ctx, g: ctx.y * g).apply,
    "straight through": function(lambda ctx, x: x.round(), lambda ctx, g: g).apply,
    "clipped straight through": function(
        lambda ctx, x: setattr(ctx, "mask", (x.abs() < 1).double()) or x.sign(), lambda ctx, g: g * ctx.mask
    ).apply,
    "reversed": function(lambda ctx, x: x.clone(), lambda ctx, g: -0.5 * g).apply,
    "looks": hooked(lambda g, h: None),
    "scaled": hooked(lambda g, h: 0.5 * g),
    "clipped": hooked(lambda g, h: g.clamp(-0.01, 0.01)),
    "by a value with its graph": hooked(lambda g, h: g * h),
    "stopped": hooked(lambda g, h: torch.zeros_like(g)),
}


def plain(net, task, rate=0.2, steps=2):
    """Return the gradient by torch alone, which is right where the graph is whole."""
    theta = dict(net.named_parameters())
    phi = theta
    for _ in range(steps):
        loss = F.mse_loss(torch.func.functional_call(net, phi, task.support[0]), task.support[1])
        slopes = torch.autograd.grad(loss, list(phi.values()), create_graph=True)
        phi = {name: p - rate * g for (name, p), g in zip(phi.items(), slopes, strict=True)}
    loss = F.mse_loss(torch.func.functional_call(net, phi, task.query[0]), task.query[1])
    return torch.autograd.grad(loss, list(theta.values()))


@routes
@pytest.mark.parametrize("kind", LOSING)
def test_code_that_drops_a_part_of_its_graph_is_refused_by_name(kind, route):
    learner = MAML(Net(LOSING[kind]), rule=SGD(0.2), steps=2, route=route)
    with pytest.raises(TaskError, match=r"(Own|hook).*FirstOrder\(\)"):
        learner(tasks())


@pytest.mark.parametrize("kind", LOSING)
def test_first_order_takes_what_exact_refuses(kind):
    net, batch = Net(LOSING[kind]), tasks(1)
    MAML(net, rule=SGD(0.2), steps=2, meta_gradient=FirstOrder(), route="loop")(batch).loss.backward()
    phi = {name: p.detach().requires_grad_() for name, p in net.named_parameters()}
    for _ in range(2):
        loss = F.mse_loss(torch.func.functional_call(net, phi, batch[0].support[0]), batch[0].support[1])
        slopes = torch.autograd.grad(loss, list(phi.values()))
        phi = {n: (p - 0.2 * g).detach().requires_grad_() for (n, p), g in zip(phi.items(), slopes, strict=True)}
    loss = F.mse_loss(torch.func.functional_call(net, phi, batch[0].query[0]), batch[0].query[1])
    for p, want in zip(net.parameters(), torch.autograd.grad(loss, list(phi.values())), strict=True):
        torch.testing.assert_close(p.grad, want)


@pytest.mark.parametrize("kind", SOUND)
def test_code_whose_graph_is_whole_is_differentiated(kind):
    net, batch = Net(SOUND[kind]), tasks(1)
    want = plain(net, batch[0])
    MAML(net, rule=SGD(0.2), steps=2, route="loop")(batch).loss.backward()
    for p, right in zip(net.parameters(), want, strict=True):
        torch.testing.assert_close(p.grad, right)


def test_a_backward_hook_of_a_module_is_named_as_what_the_user_wrote():
    net = Net(torch.tanh)
    net.b.register_full_backward_hook(lambda module, to_inputs, g: tuple(x.detach() for x in to_inputs))
    with pytest.raises(TaskError, match="register_full_backward_hook"):
        MAML(net, rule=SGD(0.2), steps=2)(tasks())


def test_a_dictionary_that_is_adapted_is_looked_at_too():
    def loss(p, x):
        h = (x @ p["w"]).tanh()
        h.register_hook(lambda g: g.detach())
        return (h * h).mean()

    with pytest.raises(TaskError, match=r"the hook .*lambda"):
        adapt(loss, {"w": torch.ones(3, 2, requires_grad=True)}, torch.randn(4, 3), SGD(0.1), steps=2)


def test_a_float32_network_is_judged_alike():
    torch.set_default_dtype(torch.float32)
    batch = [Task(tuple(t.float() for t in task.support), tuple(t.float() for t in task.query)) for task in tasks()]
    MAML(Net(SOUND["square"]), rule=SGD(0.2), steps=2, route="loop")(batch)
    MAML(Net(SOUND["clipped"]), rule=SGD(0.2), steps=2, route="loop")(batch)
    with pytest.raises(TaskError, match="Own"):
        MAML(Net(LOSING["an intermediate"]), rule=SGD(0.2), steps=2, route="loop")(batch)
