"""Losses that people write, each beside its formula written out: equal to 1e-10, in every setting and route."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastadapt import MAML, SGD, FastadaptError, Task
from zoo import reference
from zoo.losses import ZOO
from zoo.losses_outputs import answer, fit, mse, net
from zoo.trial import (
    ROUTES,
    TOLERANCE,
    cases,
    check,
    check_adapt,
    check_everything,
    check_meta_gradient,
    check_reptile,
    check_trace,
    check_twin,
    in_turn,
)

pytestmark = pytest.mark.usefixtures("double")

APPLIED_BY_THE_LEARNER = {
    "dictionary",
    "pair",
    "nn.MSELoss",
    "nn.CrossEntropyLoss",
    "F.cross_entropy",
    "F.mse_loss",
    "partial",
}
"""What torch alone can't call as `loss(model, batch) -> scalar`."""


@pytest.mark.parametrize("name", [name for name in ZOO if name not in APPLIED_BY_THE_LEARNER])
def test_the_twin_is_one(name):
    check_twin(ZOO[name])


@pytest.mark.parametrize("name, setting", cases(ZOO))
def test_meta_gradient(name, setting):
    check_meta_gradient(ZOO[name], setting)


@pytest.mark.parametrize("name, rule, steps", in_turn(ZOO, ("sgd", 3), ("adam", 7)))
def test_adapted_parameters_and_answers(name, rule, steps):
    check(check_adapt, ZOO[name], rule, steps)


@pytest.mark.parametrize(
    "name, rule, steps, route", in_turn(ZOO, ("adam", 3, "loop"), ("sgd", 1, "vmap"), ("sgd", 7, "loop"))
)
def test_traced_losses(name, rule, steps, route):
    check(check_trace, ZOO[name], rule, steps, route)


@pytest.mark.parametrize(
    "name, rule, steps, route", in_turn(ZOO, ("sgd", 3, "vmap"), ("adam", 7, "loop"), ("sgd", 3, "loop"))
)
def test_displacement_of_reptile(name, rule, steps, route):
    check(check_reptile, ZOO[name], rule, steps, route)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", ZOO)
def test_every_setting(name):
    check_everything(ZOO[name])


# ---- what the gradient reaches beside the network ------------------------------------------------


def drawn():
    return [((torch.randn(4, 3), torch.randn(4, 2)), (torch.randn(3, 3), torch.randn(3, 2))) for _ in range(2)]


def parameters_of(model):
    return {n: p.detach().clone().requires_grad_() for n, p in model.named_parameters()}


def encoded(w, batch):
    return torch.tanh(batch[0] @ w.T), batch[1]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("order", ["exact", "first_order"])
def test_the_gradient_reaches_an_encoder_before_the_tasks(order, route):
    model, w, raw = net(), nn.Parameter(torch.randn(3, 3)), drawn()
    learner = MAML(model, mse, rule=SGD(0.2), steps=3, meta_gradient=order, route=ROUTES[route])
    learner([Task(encoded(w, s), encoded(w, q)) for s, q in raw]).loss.backward()
    theta, twin = parameters_of(model), w.detach().clone().requires_grad_()
    tasks = [Task(encoded(twin, s), encoded(twin, q)) for s, q in raw]
    _, want = reference.maml(
        fit, theta, list(theta), {**theta, "w": twin}, tasks, reference.sgd(0.2), 3, first_order=order == "first_order"
    )
    got = {**{n: p.grad for n, p in model.named_parameters()}, "w": w.grad}
    assert reference.error(got, want) < TOLERANCE


@pytest.mark.parametrize("route", ROUTES)
def test_the_gradient_reaches_support_and_query(route):
    """Learned support samples, and targets: what dataset distillation needs."""
    model, raw = net(), drawn()
    leaves = {
        f"{i} {part} {j}": nn.Parameter(t)
        for i, task in enumerate(raw)
        for part, batch in zip("sq", task, strict=True)
        for j, t in enumerate(batch)
    }
    copies = {n: t.detach().clone().requires_grad_() for n, t in leaves.items()}

    def tasks(of):
        return [
            Task(tuple(of[f"{i} s {j}"] for j in range(2)), tuple(of[f"{i} q {j}"] for j in range(2))) for i in range(2)
        ]

    MAML(model, mse, rule=SGD(0.2), steps=3, route=ROUTES[route])(tasks(leaves)).loss.backward()
    theta = parameters_of(model)
    _, want = reference.maml(fit, theta, list(theta), copies, tasks(copies), reference.sgd(0.2), 3)
    assert reference.error({n: t.grad for n, t in leaves.items()}, want) < TOLERANCE


@pytest.mark.parametrize("route", ROUTES)
def test_a_learned_inner_loss_gets_its_gradient_through_the_inner_steps_alone(route):
    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(0.8))

        def forward(self, model, batch):
            return self.scale * mse(model, batch)

    model, inner, raw = net(), Inner(), [Task(*task) for task in drawn()]
    MAML(model, mse, inner_loss=inner, rule=SGD(0.2), steps=3, route=ROUTES[route])(raw).loss.backward()
    theta, scale = parameters_of(model), torch.tensor(0.8, requires_grad=True)
    _, want = reference.maml(
        fit,
        theta,
        list(theta),
        {**theta, "scale": scale},
        raw,
        reference.sgd(0.2),
        3,
        inner=lambda p, batch: scale * fit(p, batch),
    )
    got = {**{n: p.grad for n, p in model.named_parameters()}, "scale": inner.scale.grad}
    assert reference.error(got, want) < TOLERANCE


@pytest.mark.parametrize("route", ROUTES)
def test_a_weight_that_is_annealed_counts_as_it_is_now(route):
    beta, model, tasks = [1.0], net(), [Task(*task) for task in drawn()]
    learner = MAML(model, lambda m, b: beta[0] * mse(m, b), rule=SGD(0.2), steps=2, route=ROUTES[route])
    for value in (1.0, 0.3, 0.0, 2.0):
        beta[0] = value
        model.zero_grad()
        outcome = learner(tasks)
        outcome.loss.backward()
        theta = parameters_of(model)
        losses, want = reference.maml(
            lambda p, b, value=value: value * fit(p, b), theta, list(theta), theta, tasks, reference.sgd(0.2), 2
        )
        assert reference.error({"losses": outcome.losses}, {"losses": losses}) < TOLERANCE
        assert reference.error({n: p.grad for n, p in model.named_parameters()}, want) < TOLERANCE


# ---- what has no gradient ------------------------------------------------------------------------


def detached(model, batch):
    return mse(model, batch).detach()


def of_numpy(model, batch):
    output = torch.as_tensor(model(batch[0]).detach().numpy())
    return F.mse_loss(output, batch[1])


def by_counting(model, batch):
    return (model(batch[0]).argmax(-1) == 0).double().mean()


def without_the_model(model, batch):
    return batch[1].square().mean()


def as_number(model, batch):
    return mse(model, batch).item()


def nothing(model, batch):
    model(batch[0])


@pytest.mark.parametrize("what", ["meta-gradient", "first_order", "adapt"])
@pytest.mark.parametrize("route", ["loop", "vmap"])
@pytest.mark.parametrize("loss", [detached, of_numpy, by_counting, without_the_model, as_number, nothing])
def test_a_loss_that_does_not_reach_the_parameters_is_refused(loss, route, what):
    order = "first_order" if what == "first_order" else "exact"
    learner = MAML(net(), loss, rule=SGD(0.2), steps=2, meta_gradient=order, route=route)
    task = Task(*drawn()[0])
    with pytest.raises(FastadaptError, match="loss"):
        learner.adapt(task.support) if what == "adapt" else learner([task, task])


def test_an_unused_part_is_no_reason_to_refuse():
    """One parameter without a gradient among others is common; answers stay equal to those without it."""
    model, task = net(), Task(*drawn()[0])
    model.register_parameter("unused", nn.Parameter(torch.ones(2)))
    predict = MAML(model, mse, rule=SGD(0.2), steps=2).adapt(task.support)
    assert torch.equal(predict.model.unused, torch.ones(2))
    theta = {n: p.detach().clone().requires_grad_() for n, p in model.named_parameters() if n != "unused"}
    end = reference.descend(fit, theta, list(theta), task.support, reference.sgd(0.2), 2, first_order=True)[-1]
    torch.testing.assert_close(predict(task.query[0]), answer(end, task.query[0]).detach(), rtol=1e-12, atol=1e-12)
