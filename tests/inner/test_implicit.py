"""The implicit meta-gradient beside a dense solve."""

import pytest
import torch
from torch import nn

from fastadapt import MAML, MLP, SGD, Implicit, Task
from fastadapt.errors import ConfigError
from fastadapt.rules.rates import learned_rates

pytestmark = pytest.mark.usefixtures("double")
A, C = torch.tensor([1.0, 3.0], dtype=torch.float64), torch.tensor([0.5, -1.0], dtype=torch.float64)


class Point(nn.Module):
    def __init__(self):
        super().__init__()
        self.at = nn.Parameter(torch.ones(2))

    def forward(self, x):
        return self.at


def bowl(model, batch):
    return 0.5 * (A * (model(batch) - C) ** 2).sum()


TASKS = [Task(torch.zeros(1, 1), torch.zeros(1, 1))] * 2


@pytest.mark.parametrize("route", ["loop", "vmap"])
def test_the_golden_numbers_of_a_quadratic_task(route):
    net = Point()
    learner = MAML(net, bowl, rule=SGD(0.1), steps=300, meta_gradient=Implicit(2.0, cg_steps=2), route=route)
    learner(TASKS).loss.backward()
    found = learner.adapt(TASKS[0].support).model.at
    assert found.tolist() == pytest.approx([0.83333333, -0.2], abs=1e-8)
    assert net.at.grad.tolist() == pytest.approx([0.22222222, 0.96], abs=1e-7)


def flat(tensors):
    return torch.cat([t.flatten() for t in tensors])


@pytest.mark.long
@pytest.mark.parametrize(
    "adapt, route",
    [("all", "loop"), ("head", "loop"), ("head", "vmap"), pytest.param("all", "vmap", marks=pytest.mark.slow)],
)
def test_a_network_agrees_with_the_dense_formula(route, adapt):
    strength, rate = 4.0, 0.2
    net = MLP(2, (4,), 1, activation="tanh", init_std=None).double()
    x, y = torch.randn(2, 6, 2), torch.randn(2, 6, 1)
    task = Task((x[0], y[0]), (x[1], y[1]))
    learner = MAML(
        net, rule=SGD(rate), steps=400, adapt=adapt, route=route, meta_gradient=Implicit(strength, cg_steps=40)
    )
    learner([task, task]).loss.backward()
    # the same written out: a long descent, the dense Hessian, the mixed derivative
    names = [n for n, _ in net.named_parameters()]
    theta = {n: p.detach().clone() for n, p in net.named_parameters()}
    moving = [n for n in names if n in learner.adapted]

    def loss(values, x, y):
        w1, b1, w2, b2 = (values[n] for n in names)
        return ((torch.tanh(x @ w1.T + b1) @ w2.T + b2 - y) ** 2).mean()

    phi = {n: theta[n].clone() for n in moving}
    for _ in range(400):
        at = {n: phi[n].clone().requires_grad_() for n in moving}
        grads = torch.autograd.grad(loss({**theta, **at}, x[0], y[0]), list(at.values()))
        phi = {
            n: at[n].detach() - rate * (g + strength * (at[n].detach() - theta[n]))
            for n, g in zip(at, grads, strict=True)
        }
    everything = {n: phi.get(n, theta[n]).clone().requires_grad_() for n in names}
    inner = torch.autograd.grad(loss(everything, x[0], y[0]), [everything[n] for n in moving], create_graph=True)
    rows = [torch.autograd.grad(v, list(everything.values()), retain_graph=True) for v in flat(inner)]
    hessian = torch.stack([flat([row[names.index(n)] for n in moving]) for row in rows])
    outer = dict(zip(names, torch.autograd.grad(loss(everything, x[1], y[1]), list(everything.values())), strict=True))
    solved = torch.linalg.solve(torch.eye(len(hessian)) + hessian / strength, flat([outer[n] for n in moving]))
    want = dict(zip(moving, solved.split([theta[n].numel() for n in moving]), strict=True))
    for n in set(names) - set(moving):
        mixed = torch.stack([row[names.index(n)].flatten() for row in rows])
        want[n] = outer[n].flatten() - solved @ mixed / strength
    for n, p in net.named_parameters():
        assert torch.allclose(p.grad.flatten(), want[n].flatten(), rtol=1e-6, atol=1e-9), n


@pytest.mark.long
def test_a_parameter_in_a_closure_gets_the_implicit_gradient():
    weight = nn.Parameter(torch.tensor(0.7))

    def loss(model, batch):
        return bowl(model, batch) + 0.5 * weight * model(batch).square().sum()

    def value(w):
        # phi* of (A + w + lambda) phi = A c + lambda theta, in closed form
        phi = (A * C + 2.0) / (A + w + 2.0)
        return 0.5 * (A * (phi - C) ** 2).sum() + 0.5 * w * phi.square().sum()

    MAML(Point(), loss, rule=SGD(0.1), steps=400, meta_gradient=Implicit(2.0, cg_steps=2))(TASKS).loss.backward()
    slope = (value(0.7 + 1e-6) - value(0.7 - 1e-6)) / 2e-6
    assert float(weight.grad) == pytest.approx(float(slope), rel=1e-6)


@pytest.mark.parametrize("setting", [{"strength": 0.0}, {"cg_steps": 0}, {"damping": -1.0}])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ConfigError):
        Implicit(**setting)


def test_what_does_not_enter_is_refused_by_name():
    net = Point()
    learner = MAML(net, bowl, rule=SGD(learned_rates(net, 0.1)), meta_gradient=Implicit())
    with pytest.raises(ConfigError, match="the rule learns"):
        learner(TASKS)
    with pytest.raises(ConfigError, match="step_weights"):
        MAML(net, bowl, steps=2, step_weights=(0.5, 0.5), meta_gradient=Implicit())


@pytest.mark.long
def test_damping_is_added_to_the_operator():
    net = Point()
    learner = MAML(net, bowl, rule=SGD(0.1), steps=300, meta_gradient=Implicit(2.0, cg_steps=2, damping=1.0))
    learner(TASKS).loss.backward()
    phi = torch.tensor([0.83333333, -0.2])
    assert net.at.grad.tolist() == pytest.approx((A * (phi - C) / (2 + A / 2)).tolist(), abs=1e-6)
