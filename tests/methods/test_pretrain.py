import pytest
import torch

from fastadapt import MLP, MSE, SGD, Pretrain, Task
from reference import adapted, difference, grads_of, sgd

pytestmark = pytest.mark.usefixtures("double")


def tasks(count=3):
    return [Task(*((torch.randn(n, 2), torch.randn(n, 1)) for n in (5, 4))) for _ in range(count)]


def net():
    return MLP(2, (4,), 1, activation="tanh", init_std=None)


@pytest.mark.parametrize("route", ["vmap", "loop"])
def test_the_objective_is_the_mean_support_loss_without_adaptation(route):
    model, batch = net(), tasks()
    outcome = Pretrain(model, rule=SGD(9.0), test_steps=5, route=route)(batch)
    outcome.loss.backward()
    losses = torch.stack([MSE()(model, task.support) for task in batch])
    torch.testing.assert_close(outcome.losses, losses.detach())
    want = torch.autograd.grad(losses.mean(), list(model.parameters()))
    assert difference(grads_of(model), dict(zip(grads_of(model), want, strict=True))) < 1e-12


def test_adapting_is_fine_tuning_with_the_rule():
    model, [task] = net(), tasks(1)
    theta = {n: p.detach().clone().requires_grad_() for n, p in model.named_parameters()}
    want = adapted(model, MSE(), theta, task.support, sgd(0.1), 7)
    got = Pretrain(model, rule=SGD(0.1), test_steps=7).adapt(task.support).model
    for name, p in got.named_parameters():
        torch.testing.assert_close(p, want[name])


def test_only_the_selected_part_is_fine_tuned_but_all_is_trained():
    model, [task] = net(), tasks(1)
    learner = Pretrain(model, rule=SGD(0.1), test_steps=3, adapt="head")
    learner(task).loss.backward()
    assert model.body[0].weight.grad.abs().max() > 0
    got = learner.adapt(task.support).model
    assert torch.equal(got.body[0].weight, model.body[0].weight)
    assert not torch.equal(got.head.weight, model.head.weight)
