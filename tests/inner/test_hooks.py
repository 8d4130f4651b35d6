"""A hook on a parameter changes its gradient at every inner step, as it would in a loop of torch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastadapt import MAML, SGD, Adam, Exact, Execution, FirstOrder, Implicit, Reptile, Task, adapt, mse
from fastadapt.errors import ConfigError, TaskError

pytestmark = pytest.mark.usefixtures("double")
RATE = 0.3
MASK = torch.tensor([0.0, 1.0, 1.0, 1.0]).unsqueeze(1)
HOOKS = {
    "mask": lambda g: g * MASK,
    "bent": lambda g: g / (1 + g.square()).sqrt(),
    "normed": lambda g: g / (1 + g.norm()),
    "silent": lambda g: None,
    "zeros": torch.zeros_like,
}


def net_of():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def tasks():
    return [Task((torch.randn(4, 3), torch.randn(4, 2)), (torch.randn(5, 3), torch.randn(5, 2))) for _ in range(2)]


def written_out(p, batch):
    a, b, c, d = p
    return F.mse_loss((batch[0] @ a.T + b).tanh() @ c.T + d, batch[1])


def descended(p, task, steps, hooks, through=True):
    for _ in range(steps):
        grads = torch.autograd.grad(written_out(p, task.support), p, create_graph=through)
        for hook in hooks:
            found = hook(grads[0])
            grads = [grads[0] if found is None else found, *grads[1:]]
        p = [q - RATE * (g if through else g.detach()) for q, g in zip(p, grads, strict=True)]
    return p


def twin(net, tasks, steps, hooks, through=True):
    start = [p.detach().clone().requires_grad_() for p in net.parameters()]
    losses = [written_out(descended(start, task, steps, hooks, through), task.query) for task in tasks]
    found = list(torch.autograd.grad(torch.stack(losses).mean(), start))
    for hook in hooks:  # once more, on what backward() hands out
        new = hook(found[0])
        found[0] = found[0] if new is None else new
    return found


@pytest.mark.parametrize(
    "name, steps, kind, route",
    [
        *((name, 2, Exact(), "loop") for name in HOOKS),
        ("mask", 2, Exact(), "vmap"),
        ("bent", 1, Exact(), "auto"),
        ("bent", 6, Exact(), "loop"),
        ("normed", 3, Exact(segment=1), "vmap"),
        ("normed", 2, FirstOrder(), "loop"),
        ("mask", 2, FirstOrder(), "vmap"),
        ("bent", 2, Exact(), Execution(compile="trace")),
        ("bent", 2, Exact(), Execution(route="loop", compile="trace")),
    ],
)
def test_a_meta_gradient_goes_through_the_hook(name, steps, kind, route):
    net, some = net_of(), tasks()
    net[0].weight.register_hook(HOOKS[name])
    learner = MAML(net, mse, rule=SGD(RATE), steps=steps, meta_gradient=kind, route=route)
    learner(some).loss.backward()
    want = twin(net, some, steps, [HOOKS[name]], isinstance(kind, Exact))
    for p, w in zip(net.parameters(), want, strict=True):
        torch.testing.assert_close(p.grad, w, rtol=1e-10, atol=1e-12)


def test_several_hooks_run_in_their_order_and_those_that_were_taken_off_do_not():
    net, some = net_of(), tasks()
    gone = net[0].weight.register_hook(HOOKS["zeros"])
    for name in ("normed", "mask"):
        net[0].weight.register_hook(HOOKS[name])
    gone.remove()
    MAML(net, mse, rule=SGD(RATE), steps=2)(some).loss.backward()
    for p, w in zip(net.parameters(), twin(net, some, 2, [HOOKS["normed"], HOOKS["mask"]]), strict=True):
        torch.testing.assert_close(p.grad, w, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("route", ["vmap", Execution(compile="trace")])
def test_a_hook_that_comes_later_is_seen(route):
    net, some = net_of(), tasks()
    learner = MAML(net, mse, rule=SGD(RATE), steps=2, route=route)
    learner(some).loss.backward()
    net.zero_grad()
    net[0].weight.register_hook(HOOKS["bent"])
    learner(some).loss.backward()
    for p, w in zip(net.parameters(), twin(net, some, 2, [HOOKS["bent"]]), strict=True):
        torch.testing.assert_close(p.grad, w, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", [MAML, Reptile])
def test_a_masked_row_stays_where_it_is(kind):
    net, some = net_of(), tasks()
    net[0].weight.register_hook(HOOKS["mask"])
    learner = kind(net, mse, rule=Adam(0.1), steps=3, route="vmap")
    moved = learner.adapt(some[0].support).model[0].weight - net[0].weight
    assert not moved[0].any() and moved[1:].all()
    *_, last = learner.adapting(some[0].support)
    assert torch.equal(last.model[0].weight - net[0].weight, moved)
    end = descended(list(net.parameters()), some[0], 3, [HOOKS["mask"]], through=False)
    traced = MAML(net, mse, rule=SGD(RATE), steps=3, route="vmap").trace(some).losses
    torch.testing.assert_close(traced[0, 3], written_out(end, some[0].query).detach())


@pytest.mark.parametrize("kind", ["exact", "first_order"])
@pytest.mark.parametrize("of", ["module", "dictionary"])
def test_the_loop_in_the_users_hands_goes_through_it_too(of, kind):
    net, [task, _] = net_of(), tasks()
    net[0].weight.register_hook(HOOKS["bent"])
    if of == "module":
        phi = adapt(mse, net, task.support, SGD(RATE), 3, meta_gradient=kind)
        loss = phi.loss(mse, task.query)
    else:
        given = dict(net.named_parameters())
        phi = adapt(
            lambda p, b: written_out(list(p.values()), b), given, task.support, SGD(RATE), 3, meta_gradient=kind
        )
        loss = written_out(list(phi.values()), task.query)
    loss.backward()
    for p, w in zip(net.parameters(), twin(net, [task], 3, [HOOKS["bent"]], kind == "exact"), strict=True):
        torch.testing.assert_close(p.grad, w, rtol=1e-10, atol=1e-12)


def test_what_can_t_be_right_is_refused():
    net, some = net_of(), tasks()
    handle = net[0].weight.register_hook(lambda g: g.detach() * MASK)
    with pytest.raises(TaskError, match=r"'0\.weight' returns a gradient without a graph.*FirstOrder"):
        MAML(net, mse, rule=SGD(RATE), steps=2)(some)
    MAML(net, mse, rule=SGD(RATE), steps=2, meta_gradient="first_order")(some)
    handle.remove()
    net[0].weight.register_hook(HOOKS["mask"])
    with pytest.raises(ConfigError, match=r"'0\.weight' has a hook.*implicit"):
        MAML(net, mse, rule=SGD(RATE), steps=2, meta_gradient=Implicit(1.0))(some)
