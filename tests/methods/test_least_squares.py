"""Ridge regression onto classes, against numpy's solution, and its gradient by finite differences."""

import numpy as np
import pytest
import torch
from torch import nn

from fastadapt import Task, Training, evaluate, meta_train
from fastadapt.methods import RidgeHead

pytestmark = pytest.mark.usefixtures("double")


def drawn(n, numbers, ways):
    y = torch.arange(n) % ways
    return torch.randn(n, numbers) + y.unsqueeze(1), y


def scores(x, y, xq, ways, strength=1.0, scale=1.0):
    """Return the scores of queries by the normal equations, in the features' own dimension."""
    targets = np.eye(ways)[y]
    w = np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ targets)
    return scale * xq @ w


def loss_of(outputs, y):
    shifted = outputs - outputs.max(1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(y)), y]).mean())


@pytest.mark.parametrize("samples, numbers", [(6, 20), (12, 12), (30, 4)])
@pytest.mark.parametrize("strength, scale", [(1.0, 1.0), (0.03, 7.0)])
def test_outputs_are_the_solution_of_the_normal_equations(samples, numbers, strength, scale):
    (x, y), (xq, yq) = drawn(samples, numbers, 3), drawn(9, numbers, 3)
    learner = RidgeHead(nn.Identity(), strength=strength, scale=scale)
    want = scores(x.numpy(), y.numpy(), xq.numpy(), 3, strength, scale)
    np.testing.assert_allclose(learner.adapt((x, y))(xq).numpy(), want, rtol=1e-9)
    outcome = learner(Task((x, y), (xq, yq)))
    np.testing.assert_allclose(float(outcome.loss.detach()), loss_of(want, yq.numpy()), rtol=1e-10)


def test_the_solution_can_not_be_improved():
    (x, y), w = drawn(10, 4, 3), torch.zeros(4, 3, requires_grad=True)
    predict = RidgeHead(nn.Identity(), strength=0.7).adapt((x, y))
    found = predict.model.weight.T.clone().requires_grad_()
    for place, small in ((found, True), (w, False)):
        cost = (x @ place - nn.functional.one_hot(y, 3)).square().sum() + 0.7 * place.square().sum()
        (slope,) = torch.autograd.grad(cost, place)
        assert (float(slope.abs().max()) < 1e-12) is small


@pytest.mark.parametrize("samples", [6, 24])
def test_gradients_of_strength_scale_and_backbone_are_finite_differences(samples):
    rng = np.random.default_rng(0)
    net = nn.Linear(5, 8)
    learner = RidgeHead(net, strength=0.4, scale=3.0, frozen=False)
    tasks = [Task(drawn(samples, 5, 3), drawn(9, 5, 3)) for _ in range(2)]
    learner(tasks).loss.backward()

    def at(log_strength, scale, weight):
        losses = []
        for task in tasks:
            (x, y), (xq, yq) = ((a.numpy(), b.numpy()) for a, b in (task.support, task.query))
            known, asked = (v @ weight.T + net.bias.detach().numpy() for v in (x, xq))
            losses.append(loss_of(scores(known, y, asked, 3, np.exp(log_strength), scale), yq))
        return np.mean(losses)

    here, h = (float(np.log(0.4)), 3.0, net.weight.detach().numpy()), 1e-6
    slope = (at(here[0] + h, *here[1:]) - at(here[0] - h, *here[1:])) / (2 * h)
    np.testing.assert_allclose(float(learner.log_strength.grad), slope, rtol=1e-6)
    slope = (at(here[0], 3.0 + h, here[2]) - at(here[0], 3.0 - h, here[2])) / (2 * h)
    np.testing.assert_allclose(float(learner.scale.grad), slope, rtol=1e-6)
    for _ in range(5):
        along = rng.normal(size=here[2].shape)
        slope = (at(*here[:2], here[2] + h * along) - at(*here[:2], here[2] - h * along)) / (2 * h)
        np.testing.assert_allclose(float((net.weight.grad.numpy() * along).sum()), slope, rtol=1e-5)


def waves(rng):
    """Two classes that the features tell apart; the rest is noise."""
    x, y = torch.as_tensor(rng.normal(size=(24, 6))), torch.arange(24) % 2
    x[:, 0] += 2.0 * y
    return Task((x[:12], y[:12]), (x[12:], y[12:]))


def test_training_learns_how_sure_to_be_and_leaves_a_frozen_backbone_as_it_is(tmp_path):
    net = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6))
    net[1].running_mean += 0.1
    before = {name: value.clone() for name, value in net.state_dict().items()}
    learner = RidgeHead(net)
    first = evaluate(learner, waves).losses[0]
    meta_train(learner, waves, Training(steps=60, meta_batch=4, lr=0.1), quiet=True, folder=tmp_path)
    assert evaluate(learner, waves).losses[0] < first - 0.02
    assert float(learner.scale.detach()) > 1.5
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    again = RidgeHead(nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6)))
    again.load_state_dict(learner.state_dict())
    x = torch.randn(4, 6)
    torch.testing.assert_close(again.adapt(waves_support())(x), learner.adapt(waves_support())(x), rtol=0, atol=0)


def waves_support():
    return waves(np.random.default_rng(3)).support


def test_training_goes_on_bit_for_bit_where_it_was_interrupted(tmp_path):
    def trained(folder, steps):
        torch.manual_seed(0)
        learner = RidgeHead(nn.Linear(6, 5), frozen=False)
        training = Training(steps=steps, meta_batch=2, lr=0.01)
        meta_train(learner, waves, training, quiet=True, folder=tmp_path / folder)
        return learner.state_dict()

    whole = trained("whole", 8)
    trained("parts", 5)
    parts = trained("parts", 8)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
