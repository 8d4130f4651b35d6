"""MAML with a minibatch for every inner step, against loops written out in plain autograd, in float64."""

import pytest
import torch
from torch.func import functional_call

from fastadapt import MAML, SGD, Adam, Exact, Task
from fastadapt.methods.family_settings import MAMLPlusPlusMethod, MetaSGDMethod
from fastadapt.methods.rule_settings import MetaCurvatureMethod
from fastadapt.methods.settings import MAMLMethod
from fastadapt.nets import FourierMLP, Siren
from fastadapt.nets.settings import SirenNet
from fastadapt.runs.config import RunConfig

TASKS, POINTS, BATCH, STEPS = 3, 10, 4, 4


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def net(kind):
    torch.manual_seed(0)
    if kind == "siren":
        return Siren(2, 6, 3, 3, w0=8.0)
    return FourierMLP(2, 5, 6, 2, 3, scale=0.5, sigmoid=True)


def tasks():
    torch.manual_seed(1)
    x, y = torch.rand(TASKS, POINTS, 2) * 2 - 1, torch.rand(TASKS, POINTS, 3)
    return [Task((x[i, :7], y[i, :7]), (x[i, 7:], y[i, 7:])) for i in range(TASKS)]


def rows(seed):
    """Return sample numbers [task, step, BATCH]: shuffles of 7 samples one behind another, cut into fours."""
    torch.manual_seed(seed)
    return [torch.cat([torch.randperm(7) for _ in range(3)])[: STEPS * BATCH].view(STEPS, BATCH) for _ in range(TASKS)]


def by_hand(model, order, rule, seed):
    """Return the mean query loss after STEPS inner steps, with its graph through them, or without for first order."""
    theta, total = dict(model.named_parameters()), 0.0
    for task, numbers in zip(tasks(), rows(seed), strict=True):
        at, moments = dict(theta), dict.fromkeys(theta, (0.0, 0.0))
        for j in range(STEPS):
            x, y = (leaf[numbers[j]] for leaf in task.support)
            loss = ((functional_call(model, at, (x,)) - y) ** 2).mean()
            slopes = torch.autograd.grad(loss, list(at.values()), create_graph=order != "first_order")
            after = {}
            for (name, value), g in zip(at.items(), slopes, strict=True):
                if rule == "sgd":
                    after[name] = value - 0.02 * g
                    continue
                m, v = moments[name]
                m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
                moments[name] = (m, v)
                v = torch.where(v > 0, v, 1e-300)  # of a ReLU that is off for all points: the root has no slope at 0
                step = (m / (1 - 0.9 ** (j + 1))) / ((v / (1 - 0.999 ** (j + 1))).sqrt() + 1e-8)
                after[name] = value - 0.01 * step
            at = after
        x, y = task.query
        total = total + ((functional_call(model, at, (x,)) - y) ** 2).mean() / TASKS
    return total, torch.autograd.grad(total, list(theta.values()))


@pytest.mark.parametrize(
    ("kind", "order", "rule", "route"),
    [
        ("siren", "exact", "sgd", "loop"),
        ("siren", "exact", "adam", "vmap"),
        ("siren", Exact(segment=1), "sgd", "vmap"),
        ("siren", Exact(segment=3), "adam", "loop"),
        ("siren", "first_order", "adam", "vmap"),
        ("siren", "first_order", "sgd", "loop"),
        ("fourier", "exact", "adam", "loop"),
    ],
    ids=str,
)
def test_the_gradient_is_that_of_a_loop_by_hand(kind, order, rule, route):
    model = net(kind)
    inner = SGD(0.02) if rule == "sgd" else Adam(0.01, beta1=0.9)
    learner = MAML(model, rule=inner, steps=STEPS, batch=BATCH, meta_gradient=order, route=route)
    drawn = tasks()
    torch.manual_seed(5)
    outcome = learner(drawn)
    outcome.loss.backward()
    want, slopes = by_hand(model, order, rule, seed=5)
    torch.testing.assert_close(outcome.loss.detach(), want.detach(), rtol=1e-10, atol=1e-12)
    for p, slope in zip(model.parameters(), slopes, strict=True):
        torch.testing.assert_close(p.grad, slope, rtol=1e-8, atol=1e-9)


def test_a_minibatch_of_all_samples_is_no_minibatch():
    model = net("siren")
    losses = [MAML(model, rule=SGD(0.02), steps=2, batch=batch)(tasks()).loss.item() for batch in (None, 7, 100)]
    assert losses[0] == losses[1] == losses[2]


def test_every_call_draws_its_points_anew_and_a_seed_repeats_them():
    learner, drawn = MAML(net("siren"), rule=SGD(0.2), steps=2, batch=2), tasks()
    torch.manual_seed(0)
    a, b = learner(drawn).loss.item(), learner(drawn).loss.item()
    torch.manual_seed(0)
    assert a != b and learner(drawn).loss.item() == a


def test_one_step_on_a_linear_model_ends_at_the_known_optimum():
    """For f(x) = w x, K(w) = w - a h_S (w - s) with h_S = 2 mean x^2: the query's minimum is where the step lands."""
    x, s, q, alpha = torch.tensor([[1.0], [2.0]]), 3.0, -1.0, 0.05
    h = 2 * (x**2).mean()
    model = torch.nn.Linear(1, 1, bias=False)
    w = float((q - alpha * h * s) / (1 - alpha * h))  # from there one step towards s ends at q
    torch.nn.init.constant_(model.weight, w)
    outcome = MAML(model, rule=SGD(alpha), steps=1, batch=2)(Task((x, s * x), (x, q * x)))
    outcome.loss.backward()
    assert float(outcome.loss.detach()) < 1e-20 and float(model.weight.grad.abs()) < 1e-10


@pytest.mark.parametrize("method", [MAMLMethod, MetaSGDMethod, MAMLPlusPlusMethod, MetaCurvatureMethod])
def test_a_run_can_ask_for_minibatches(method):
    config = RunConfig(net=SirenNet(width=8, depth=2), method=method(batch=3))
    assert config.build().batch == 3
    assert RunConfig.from_json(config.to_json()) == config
    assert '"batch"' not in RunConfig(method=method()).to_json()
