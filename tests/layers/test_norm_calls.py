"""A call of F.batch_norm that is no layer's is what torch computes; a layer held in evaluation mode is refused."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastadapt import MAML, SGD, Execution, Reptile, Task, adapt, mse
from fastadapt.errors import TaskError

pytestmark = pytest.mark.usefixtures("double")
RECORDED = Execution(compile="trace")


class Frozen(nn.Module):
    """Normalise with moments that are given and stay; `names` is what the buffers are called."""

    def __init__(self, size, names=("mean", "var")):
        super().__init__()
        self.names = names
        self.weight, self.bias = nn.Parameter(torch.rand(size) + 0.5), nn.Parameter(torch.randn(size))
        self.register_buffer(names[0], torch.randn(size))
        self.register_buffer(names[1], torch.rand(size) + 0.5)

    def forward(self, x):
        mean, var = (getattr(self, name) for name in self.names)
        return F.batch_norm(x, mean, var, self.weight, self.bias, training=False)


class WrittenOut(Frozen):
    def forward(self, x):
        mean, var = (getattr(self, name) for name in self.names)
        return (x - mean) / (var + 1e-5).sqrt() * self.weight + self.bias


class Beside(nn.Module):
    """Both kinds in one network: a layer, whose mode is the learner's, and a call with moments."""

    def __init__(self, frozen, layered, names):
        super().__init__()
        self.first, self.frozen, self.last = nn.Linear(3, 4), frozen(4, names), nn.Linear(4, 2)
        self.norm = nn.BatchNorm1d(4) if layered else nn.Identity()

    def forward(self, x):
        return self.last(self.norm(self.frozen(self.first(x)).tanh()))


def both(layered, names=("mean", "var")):
    net, twin = Beside(Frozen, layered, names), Beside(WrittenOut, layered, names)
    twin.load_state_dict(net.state_dict())
    return net, twin


def tasks():
    return [Task((torch.randn(4, 3), torch.randn(4, 2)), (torch.randn(5, 3), torch.randn(5, 2))) for _ in range(2)]


@pytest.mark.parametrize("kind", [MAML, Reptile])
@pytest.mark.parametrize(
    "layered, norm, names, route",
    [
        (False, "transductive", ("mean", "var"), "loop"),
        (False, "transductive", ("running_mean", "running_var"), "vmap"),
        (True, "transductive", ("running_mean", "running_var"), "loop"),
        (True, "support", ("mean", "var"), "vmap"),
        (True, "running", ("running_mean", "running_var"), "auto"),
        (True, "transductive", ("mean", "var"), RECORDED),
    ],
)
def test_given_moments_normalise_whatever_the_mode_of_the_layers(kind, layered, norm, names, route):
    some, found = tasks(), []
    for net in both(layered, names):
        learner = kind(net, mse, rule=SGD(0.2), steps=2, norm=norm, route=route)
        loss = learner(some).loss
        loss.backward()
        predictor = learner.adapt(some[0].support)
        answers = predictor(some[0].query[0]), learner.trace(some).losses
        found.append([loss.detach(), *(p.grad for p in net.parameters()), *map(torch.Tensor.detach, answers)])
    for got, want in zip(*found, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-10)


def test_the_loop_in_the_users_hands_does_so_too():
    some, found = tasks()[0], []
    for net in both(True):
        adapt(mse, net, some.support, SGD(0.2), 3).loss(mse, some.query).backward()
        found.append([p.grad for p in net.parameters()])
    for got, want in zip(*found, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-10)


def test_a_loss_whose_own_network_is_in_evaluation_mode_uses_its_moments():
    class Perceptual(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).requires_grad_(False).eval()
            self.features[1].running_mean.fill_(0.3)
            self.features[1].running_var.fill_(4.0)

        def train(self, mode=True):
            return super().train(False)

        def forward(self, model, batch):
            return F.mse_loss(self.features(model(batch[0])), self.features(batch[1]))

    loss, net, some = Perceptual(), nn.Linear(3, 2), tasks()
    got = MAML(net, loss, rule=SGD(0.1), steps=0)(some).losses.detach()
    torch.testing.assert_close(got, torch.stack([loss(net, task.query) for task in some]).detach())


class Thawed(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.last = nn.BatchNorm1d(3), nn.Linear(3, 2)

    def forward(self, x):
        return self.last(self.norm(x))


class ByTrain(Thawed):
    def train(self, mode=True):
        super().train(mode)
        self.norm.eval()
        return self


class ByForward(Thawed):
    def forward(self, x):
        self.norm.eval()
        return super().forward(x)


@pytest.mark.parametrize("net", [ByTrain, ByForward])
@pytest.mark.parametrize("route", ["loop", "vmap", "auto"])
def test_a_layer_that_is_held_in_evaluation_mode_is_refused(net, route):
    learner = MAML(net().train(), mse, rule=SGD(0.1), steps=1, route=route)
    with pytest.raises(TaskError, match=r"'norm' is kept in evaluation mode.*F\.batch_norm"):
        learner(tasks())
    for run in (lambda: learner.trace(tasks()), lambda: learner.adapt(tasks()[0].support)):
        with pytest.raises(TaskError, match="kept in evaluation mode"):
            run()
    with pytest.raises(TaskError, match="kept in evaluation mode"):
        adapt(mse, net().train(), tasks()[0].support, SGD(0.1), 1)
    assert adapt(mse, net().train(), tasks()[0].support, SGD(0.1), 1, norm="running")


def test_a_whole_network_in_evaluation_mode_is_none():
    net = Thawed().eval()
    learner = MAML(net, mse, rule=SGD(0.1), steps=1).eval()
    assert learner(tasks()).loss.isfinite()
    assert learner.adapt(tasks()[0].support)(torch.randn(3, 3)).shape == (3, 2)
