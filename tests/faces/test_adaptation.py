"""Adapting to a domain: a few labelled samples, or inputs alone."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from fastadapt import MAML, SGD, CrossEntropy, Task
from fastadapt.data.domains.within import labelled_within
from fastadapt.errors import ConfigError, DivergenceError, TaskError
from fastadapt.methods.to_domain import fine_tuned, norm_parameters, with_entropy, with_statistics
from fastadapt.methods.unlabelled import Entropy, LearnedLoss
from fastadapt.nets.face import FaceNet
from fastadapt.tasks import draw


class Net(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, classes)

    def forward(self, x):
        return self.last(torch.tanh(self.norm(self.first(x))))


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def test_fine_tuning_is_gradient_descent_and_leaves_the_network_alone(double):
    net, x, y = Net(), torch.randn(6, 4), torch.arange(6) % 3
    before = state(net)
    tuned = fine_tuned(net, CrossEntropy(), lambda j: (x, y), steps=3, rule=SGD(0.1))
    assert same(before, state(net)) and not tuned.training
    twin = copy.deepcopy(net).eval()
    optimizer = torch.optim.SGD(twin.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(twin(x), y).backward()
        optimizer.step()
    for name, value in twin.named_parameters():
        torch.testing.assert_close(dict(tuned.named_parameters())[name].detach(), value.detach())
    chosen = norm_parameters(net)
    assert chosen == ["norm.weight", "norm.bias"]
    moved = state(fine_tuned(net, CrossEntropy(), [(x, y)], steps=1, select=chosen))
    assert [name for name in before if not torch.equal(moved[name], before[name])] == chosen
    with pytest.raises(DivergenceError, match="not finite; lower the rate"):
        fine_tuned(net, lambda m, b: m(b).square().sum(), lambda j: x, steps=60, rule=SGD(1e8))


def test_statistics_become_those_of_the_inputs(double):
    net, x = Net(), 3 + 2 * torch.randn(50, 4)
    before = state(net)
    tuned = with_statistics(net, x)
    features = net.first(x).detach()
    torch.testing.assert_close(tuned.norm.running_mean, features.mean(0))
    torch.testing.assert_close(tuned.norm.running_var, features.var(0))
    halves = with_statistics(net, [x[:25], x[25:]])
    torch.testing.assert_close(halves.norm.running_mean, features.mean(0))
    assert same(before, state(net)) and tuned.norm.momentum == net.norm.momentum
    with pytest.raises(ConfigError, match="no batch norm with running moments"):
        with_statistics(nn.Linear(2, 2), torch.ones(3, 2))


def test_entropy_is_that_of_the_answers_and_falls(double):
    logits = torch.tensor([[0.0, 0.0], [0.0, math.log(3.0)]])
    each = [math.log(2), -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))]
    assert float(Entropy()(nn.Identity(), logits)) == pytest.approx(np.mean(each))
    mean = [0.375, 0.625]
    together = -sum(p * math.log(p) for p in mean)
    assert float(Entropy(diverse=2.0)(nn.Identity(), (logits, None))) == pytest.approx(np.mean(each) - 2 * together)
    net, x = Net().eval(), torch.randn(20, 4)
    tuned = with_entropy(net, x, steps=20, rule=SGD(0.1))
    assert Entropy()(tuned, x).detach() < Entropy()(net, x).detach()
    assert torch.equal(tuned.first.weight, net.first.weight)


def test_a_learned_loss_begins_as_entropy_and_its_step_is_differentiated(double):
    net, loss = nn.Linear(4, 3), LearnedLoss(5)
    x = torch.randn(7, 4)
    torch.testing.assert_close(loss(net, x), Entropy()(net, x) / math.log(3))
    nn.init.normal_(loss.out.weight)
    task = Task(x, (torch.randn(6, 4), torch.arange(6) % 3))
    learner = MAML(net, CrossEntropy(), rule=SGD(0.3), inner_loss=loss)
    learner(task).loss.backward()
    weight, bias = (p.detach().clone().requires_grad_() for p in net.parameters())
    twin = copy.deepcopy(loss)
    inner = twin(lambda x: x @ weight.T + bias, x)
    step = torch.autograd.grad(inner, (weight, bias), create_graph=True)
    w, b = weight - 0.3 * step[0], bias - 0.3 * step[1]
    nn.functional.cross_entropy(task.query[0] @ w.T + b, task.query[1]).backward()
    torch.testing.assert_close(net.weight.grad, weight.grad)
    for name, p in twin.named_parameters():
        torch.testing.assert_close(dict(loss.named_parameters())[name].grad, p.grad, msg=name)


@pytest.mark.long
def test_a_learned_loss_adapts_to_domains_it_has_not_seen():
    """Domains scale and shift the inputs of one problem; a step on inputs alone has to find out how."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (40, 40))
    clean = np.eye(3)[labels] @ rng.normal(size=(3, 4)) * 2 + 0.3 * rng.normal(size=(40, 40, 4))
    shifts = rng.normal(size=(40, 1, 4))
    x = torch.from_numpy((clean + shifts).astype(np.float32))
    y = torch.from_numpy(labels)

    def tasks(part):
        count = len(part)
        return labelled_within(
            x[part].flatten(0, 1),
            y[part].flatten(),
            np.repeat(np.arange(count), 40),
            support=20,
            query=20,
            labels=False,
        )

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3))
    learner = MAML(net, CrossEntropy(), rule=SGD(0.5), steps=2, inner_loss=LearnedLoss(), route="loop")
    optimizer = torch.optim.Adam(learner.parameters(), 5e-3)
    source = tasks(range(30))
    for number in range(120):
        batch = draw(source, seed=0, split="train", indices=range(4 * number, 4 * number + 4))
        optimizer.zero_grad()
        learner(batch).loss.backward()
        optimizer.step()
    trace = learner.trace(draw(tasks(range(30, 40)), seed=0, split="test", indices=range(60)), steps=2)
    losses = trace.losses.mean(0)
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Entropy(scale=0.0), ConfigError, "got 0.0 and 0.0"),
        (lambda: LearnedLoss(0), ConfigError, "at least 1 hidden unit"),
        (lambda: Entropy()(nn.Identity(), torch.zeros(3, 1)), TaskError, r"returned \(3, 1\)"),
        (lambda: Entropy()(nn.Identity(), {"x": 1}), TaskError, "got dict"),
        (lambda: norm_parameters(nn.Linear(2, 2)), ConfigError, "no norm with scale and shift"),
    ],
)
def test_what_can_not_be_adapted_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_group_norms_alone_are_tuned_behind_frozen_convolutions():
    """Where torch's kernel for a group norm whose input needs no gradient ended the process."""
    net, x = FaceNet(32, (16, 32), 8), torch.randn(20, 1, 32, 32)
    chosen = norm_parameters(net)
    tuned = fine_tuned(net, Entropy(), lambda step: x, steps=2, select=chosen)
    moved = [name for name, p in tuned.named_parameters() if not torch.equal(p, dict(net.named_parameters())[name])]
    assert moved == chosen
    assert all(p.requires_grad for p in tuned.parameters())
