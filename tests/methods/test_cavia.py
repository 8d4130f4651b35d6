"""CAVIA, against its equations in plain autograd, and what it promises of the context."""

import pytest
import torch
from torch import nn

from fastadapt import MAML, MLP, SGD, Adam, Conv4, CrossEntropy, Predictor, Task
from fastadapt.errors import ConfigError, SelectionError
from fastadapt.methods import CAVIA
from fastadapt.nets import FiLM, WithContext

pytestmark = pytest.mark.usefixtures("double")


class Own(nn.Module):
    """A module of one's own, with a parameter that steers it."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 4)
        self.turn = nn.Parameter(torch.zeros(4))
        self.last = nn.Linear(4, 1)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x) + self.turn))


def beside():
    return WithContext(MLP(2 + 3, (4,), 1, activation="tanh", init_std=None), 3)


def modulated():
    return nn.Sequential(
        nn.Linear(2, 4), FiLM(4, 3), nn.Tanh(), nn.Linear(4, 4), FiLM(4, 2), nn.Tanh(), nn.Linear(4, 1)
    )


MODELS = {"beside": (beside, "*context"), "film": (modulated, "*context"), "own": (Own, "turn")}


def points(count=3):
    return [Task(*((torch.randn(n, 2), torch.randn(n, 1)) for n in (5, 4))) for _ in range(count)]


def by_hand(model, adapted, batch, steps, alpha, through=True):
    """Return the mean objective and its gradient to all but the context, which begins at 0."""
    theta = {n: p.detach().clone().requires_grad_() for n, p in model.named_parameters() if n not in adapted}
    losses = []
    for task in batch:
        phi = {n: torch.zeros_like(model.get_parameter(n)).requires_grad_() for n in adapted}

        def error(phi, data):
            return (torch.func.functional_call(model, {**theta, **phi}, data[0]) - data[1]).square().mean()

        for _ in range(steps):
            grads = torch.autograd.grad(error(phi, task.support), list(phi.values()), create_graph=through)
            phi = {n: p - alpha * g for (n, p), g in zip(phi.items(), grads, strict=True)}
        losses.append(error(phi, task.query))
    loss = torch.stack(losses).mean()
    return loss.detach(), dict(zip(theta, torch.autograd.grad(loss, list(theta.values())), strict=True))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("order", ["exact", "first_order"])
@pytest.mark.parametrize("route", ["vmap", "loop"])
def test_meta_gradient_is_that_of_the_equations(name, order, route):
    build, adapt = MODELS[name]
    model, batch = build(), points()
    learner = CAVIA(model, rule=SGD(0.7), steps=2, adapt=adapt, meta_gradient=order, route=route)
    outcome = learner(batch)
    outcome.loss.backward()
    loss, want = by_hand(model, learner.adapted, batch, 2, 0.7, order == "exact")
    torch.testing.assert_close(outcome.loss.detach(), loss)
    for n, p in model.named_parameters():
        torch.testing.assert_close(p.grad, want.get(n, torch.zeros_like(p)), rtol=1e-9, atol=1e-13, msg=n)


def test_meta_gradient_is_a_finite_difference():
    model, batch = modulated(), points()
    learner = CAVIA(model, rule=SGD(nn.Parameter(torch.tensor(0.7))), steps=2)
    learner(batch).loss.backward()
    for p in (model[0].weight, model[1].film.weight, model[6].bias, learner.rule.lr):
        ends = []
        for by in (1e-5, -1e-5):
            with torch.no_grad():
                p.view(-1)[0] += by
                ends.append(learner(batch).loss)
                p.view(-1)[0] -= by
        torch.testing.assert_close(p.grad.view(-1)[0], (ends[0] - ends[1]) / 2e-5, rtol=1e-6, atol=1e-9)


def test_it_is_maml_of_the_context_whose_start_is_not_learned():
    model, batch, grads = beside(), points(), []
    for method in (MAML, CAVIA):
        model.zero_grad()
        method(model, rule=SGD(1.0), steps=2, adapt="context")(batch).loss.backward()
        grads.append({n: p.grad.clone() for n, p in model.named_parameters()})
    assert grads[0].pop("context").abs().max() > 0 and not grads[1].pop("context").any()
    for name in grads[0]:
        torch.testing.assert_close(grads[1][name], grads[0][name], rtol=0, atol=0)


@pytest.mark.parametrize("name", MODELS)
def test_without_inner_steps_the_context_is_zero(name):
    build, adapt = MODELS[name]
    model, [task] = build(), points(1)
    learner = CAVIA(model, adapt=adapt)
    answers = model(task.query[0]).detach()
    with torch.no_grad():  # whatever stands in the parameter by now
        model.get_parameter(learner.adapted[0]).fill_(3.0)
    torch.testing.assert_close(learner.adapt(task.support, steps=0)(task.query[0]), answers, rtol=0, atol=0)
    torch.testing.assert_close(learner.trace([task]).outputs[0][0], answers)
    assert not torch.allclose(learner.adapt(task.support, steps=1)(task.query[0]), answers)


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_training_moves_all_but_the_context(optimizer):
    model, batch = modulated(), points()
    learner, before = CAVIA(model, rule=Adam(0.1), steps=2), {n: p.clone() for n, p in model.named_parameters()}
    step = optimizer(learner.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        step.zero_grad()
        learner(batch).loss.backward()
        step.step()
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]) == name.endswith("context"), name
    assert not any(p.any() for name, p in model.named_parameters() if name.endswith("context"))


def test_only_the_context_differs_in_what_is_adapted():
    model, [task] = modulated(), points(1)
    predict = CAVIA(model, steps=2).adapt(task.support)
    assert isinstance(predict, Predictor)
    own = dict(predict.model.named_parameters()) or dict(predict.model.named_buffers())
    for name, p in model.named_parameters():
        assert torch.equal(own[name], p) != name.endswith("context"), name


def test_what_is_no_context_is_refused():
    with pytest.raises(SelectionError, match="matches no parameter"):
        CAVIA(MLP(1, (4,), 1))
    with pytest.raises(ConfigError, match=r"adapts from 0, and the parameter '0\.weight' of Sequential is not 0"):
        CAVIA(nn.Sequential(nn.Linear(1, 1)), adapt="all")


@pytest.mark.long
def test_images_are_steered_by_the_maps_of_a_block():
    model = Conv4(1, 3, 2, size=16, film=2)
    assert isinstance(model.blocks[2][2], FiLM) and model.blocks[2][2].context.shape == (2,)
    batch = [Task(*((torch.randn(n, 1, 16, 16), torch.arange(n) % 2) for n in (4, 6))) for _ in range(2)]
    grads = []
    for route in ("loop", "vmap"):
        model.zero_grad()
        CAVIA(model, CrossEntropy(), steps=2, route=route)(batch).loss.backward()
        grads.append([p.grad.clone() for p in model.parameters()])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)
