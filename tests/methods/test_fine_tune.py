"""Fine-tuning, against plain PyTorch: a module in training mode, `torch.optim.SGD` and a falling rate."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastadapt import CrossEntropy, Task
from fastadapt.methods import FineTune
from fastadapt.rules.rules import DecayedSGD

pytestmark = pytest.mark.usefixtures("double")
both_routes = pytest.mark.parametrize("route", ["vmap", "loop"])


class Net(nn.Module):
    def __init__(self, momentum=0.1):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6, momentum=momentum), nn.Tanh())
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.body(x))


def task(shots=2, queries=4):
    def batch(n):
        y = torch.arange(3).repeat_interleave(n)
        return torch.randn(3 * n, 4) + y.unsqueeze(1), y

    return Task(batch(shots), batch(queries))


def trained(momentum=0.1, **settings):
    """Return a learner whose running averages have seen two batches."""
    learner = FineTune(Net(momentum), classes=5, **settings)
    for _ in range(2):
        x = 3 * torch.randn(20, 4) + 1
        learner(Task((x, torch.randint(5, (20,))), (x, torch.randint(5, (20,)))))
    return learner


def module(learner):
    """Return the learner's network as a plain module that holds its running averages."""
    net = copy.deepcopy(learner.model)
    for name, value in learner.running.tensors().items():
        net.get_buffer(name).copy_(value[0])
    net.body[1].num_batches_tracked.copy_(learner.running.updates[0])
    return net


def outputs_by_pytorch(net, task, steps, lr, decay):
    """Return the outputs on the queries after 0..steps updates."""
    net = copy.deepcopy(net)
    optimizer = torch.optim.SGD(net.parameters(), lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1 / (1 + decay * t))
    found = [net.eval()(task.query[0]).detach()]
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(net.train()(task.support[0]), task.support[1]).backward()
        optimizer.step()
        schedule.step()
        found.append(net.eval()(task.query[0]).detach())
    return torch.stack(found), net


@both_routes
@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
@pytest.mark.parametrize(("lr", "decay"), [(0.5, 0.0), (0.3, 0.5)])
def test_the_trace_is_that_of_a_module_in_training_mode(route, momentum, lr, decay):
    learner = trained(momentum, lr=lr, decay=decay, test_steps=5, route=route)
    tasks = [task(), task()]
    trace = learner.trace(tasks)
    assert trace.losses.shape == (2, 6)
    for i, one in enumerate(tasks):
        want, _ = outputs_by_pytorch(module(learner), one, 5, lr, decay)
        torch.testing.assert_close(trace.outputs[i], want)
        accuracy = (want.argmax(-1) == one.query[1]).double().mean(-1)
        torch.testing.assert_close(trace.metrics["accuracy"][i], accuracy)


def test_the_predictor_holds_the_averages_as_fine_tuning_left_them():
    learner, one = trained(lr=0.5, test_steps=5), task()
    _, net = outputs_by_pytorch(module(learner), one, 5, 0.5, 0.0)
    predictor = learner.adapt(one.support)
    for name, value in net.named_buffers():
        if "running" in name:
            torch.testing.assert_close(predictor.model.get_buffer(name), value)
    for name, p in net.named_parameters():
        torch.testing.assert_close(predictor.model.get_parameter(name), p)
    rows = torch.cat([predictor(row.unsqueeze(0)) for row in one.query[0]])  # no query sees another
    torch.testing.assert_close(rows, net(one.query[0]))


def test_without_an_update_it_answers_with_the_averages_of_training():
    learner, one = trained(), task()
    torch.testing.assert_close(learner.trace(one, 0).outputs[0][0], module(learner).eval()(one.query[0]))


@both_routes
def test_one_route_serves_a_whole_grid_of_rates(route):
    learner, one = trained(route=route, test_steps=2), [task(), task()]
    found = []
    for lr, decay in ((0.5, 0.0), (0.5, 1.0), (0.01, 0.0)):
        learner.rule = DecayedSGD(lr, decay)
        found.append(learner.trace(one).outputs[0][-1])
        want, _ = outputs_by_pytorch(module(learner), one[0], 2, lr, decay)
        torch.testing.assert_close(found[-1], want[-1])
    assert sum("trace" in str(key) for key in learner.engine.plans) == 1
    assert not torch.allclose(found[0], found[1])


def test_only_the_head_is_fine_tuned_if_asked():
    learner, one = trained(adapt="head", lr=0.5, test_steps=3), task()
    net = learner.adapt(one.support).model
    assert torch.equal(net.body[0].weight, learner.model.body[0].weight)
    assert not torch.equal(net.head.weight, learner.model.head.weight)


@pytest.mark.parametrize("norm", ["transductive", "support", "support+query"])
def test_other_modes_normalise_by_the_support_and_the_queries(norm):
    learner, one = trained(norm=norm, lr=0.5, test_steps=3), task()
    predictor = learner.adapt(one.support)
    torch.testing.assert_close(predictor(one.query[0]).detach(), learner.trace(one).outputs[0][-1])
    net = copy.deepcopy(learner.model).train()
    optimizer = torch.optim.SGD(net.parameters(), 0.5)
    for _ in range(3):
        optimizer.zero_grad()
        CrossEntropy()(net, one.support).backward()
        optimizer.step()
    torch.testing.assert_close(predictor.model.body[0].weight, net.body[0].weight)


def test_a_network_without_batch_norm_is_fine_tuned_too():
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    learner, one = FineTune(net, lr=0.5, test_steps=4), task()
    want, _ = outputs_by_pytorch(net, one, 4, 0.5, 0.0)
    torch.testing.assert_close(learner.trace(one).outputs[0], want)
