"""Training of a classifier over all classes, against an ordinary module trained by PyTorch's own means."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastadapt import CrossEntropy, Task
from fastadapt.errors import ConfigError, SelectionError, TaskError
from fastadapt.methods import FineTune, NearestNeighbour

pytestmark = pytest.mark.usefixtures("double")
CLASSES = 7
both_methods = pytest.mark.parametrize("method", [FineTune, NearestNeighbour])


class Net(nn.Module):
    def __init__(self, ways=3, bias=True):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Softplus(), nn.Flatten())
        self.head = nn.Linear(48, ways, bias=bias)

    def forward(self, x):
        return self.head(self.body(x))


def batch(n=10):
    x = torch.randn(n, 1, 4, 4)
    return Task((x, torch.randint(CLASSES, (n,))), (x[:0], torch.zeros(0, dtype=torch.long)))


def ordinary(learner):
    """Return the body and the classifier as one plain module of their own."""
    return copy.deepcopy(nn.Sequential(learner.model.body, learner.classifier)).train()


@both_methods
@pytest.mark.parametrize("route", ["vmap", "loop"])
@pytest.mark.parametrize("bias", [True, False])
def test_loss_and_gradient_are_those_of_an_ordinary_classifier(method, route, bias):
    learner = method(Net(bias=bias), classes=CLASSES, route=route)
    batches, net = [batch(), batch()], ordinary(learner)
    outcome = learner(batches)
    outcome.loss.backward()
    losses = torch.stack([F.cross_entropy(net(task.support[0]), task.support[1]) for task in batches])
    losses.mean().backward()
    torch.testing.assert_close(outcome.losses, losses.detach())
    ours = [*learner.model.body.parameters(), *learner.classifier.parameters()]
    for p, want in zip(ours, net.parameters(), strict=True):
        torch.testing.assert_close(p.grad, want.grad)
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in learner.model.head.parameters())


@both_methods
def test_training_moves_weights_and_running_averages_as_pytorch_does(method):
    learner = method(Net(), classes=CLASSES)
    net, fresh = ordinary(learner), copy.deepcopy(learner.model.head)
    mine, theirs = torch.optim.Adam(learner.parameters(), 0.01), torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(4):
        task = batch()
        for optimizer, loss in (
            (mine, learner(task).loss),
            (theirs, F.cross_entropy(net(task.support[0]), task.support[1])),
        ):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for p, want in zip(
        [*learner.model.body.parameters(), *learner.classifier.parameters()], net.parameters(), strict=True
    ):
        torch.testing.assert_close(p, want)
    moments = learner.running.tensors()
    torch.testing.assert_close(moments["body.1.running_mean"][0], net[0][1].running_mean)
    torch.testing.assert_close(moments["body.1.running_var"][0], net[0][1].running_var)
    assert torch.equal(learner.model.body[1].running_mean, torch.zeros(3))  # the user's module keeps its buffers
    for p, want in zip(learner.model.head.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(p, want)  # bit for bit the head that every task starts from


@both_methods
def test_the_state_dict_holds_the_classifier_and_the_running_averages(method):
    learner = method(Net(), classes=CLASSES)
    learner(batch())
    other = method(Net(), classes=CLASSES)
    other.load_state_dict(learner.state_dict())
    task = batch()
    assert learner.state_dict()["classifier.weight"].shape == (CLASSES, 48)
    torch.testing.assert_close(other.eval()(task).losses, learner.eval()(task).losses, rtol=0, atol=0)


def test_the_default_loss_is_cross_entropy():
    assert FineTune(Net()).loss == CrossEntropy() == NearestNeighbour(Net()).loss


@pytest.mark.parametrize(("labels", "says"), [([0, CLASSES], f"0..{CLASSES}, .* 0..{CLASSES - 1}"), ([-1, 2], "-1..2")])
def test_a_label_beyond_the_classes_is_refused(labels, says):
    learner = FineTune(Net(), classes=CLASSES)
    x = torch.randn(2, 1, 4, 4)
    with pytest.raises(TaskError, match=says):
        learner(Task((x, torch.tensor(labels)), (x, torch.tensor(labels))))


def test_without_classes_it_serves_but_does_not_train():
    learner = NearestNeighbour(Net())
    x, y = torch.randn(6, 1, 4, 4), torch.arange(6) % 3
    assert learner.adapt((x, y))(x).shape == (6, 3)
    with pytest.raises(ConfigError, match=r"NearestNeighbour was built without classes"):
        learner(batch())


def test_two_numbers_of_classes_are_two_learners():
    assert FineTune(Net(), classes=5).signature() != FineTune(Net(), classes=6).signature()
    assert FineTune(Net(), lr=0.1).signature() != FineTune(Net(), lr=0.2).signature()


@pytest.mark.parametrize(
    ("build", "error", "says"),
    [
        (lambda: FineTune(Net(), classes=0), ConfigError, "classes must be at least 1, or None, got 0"),
        (lambda: FineTune(Net(), norm="per_step"), ConfigError, "norm='per_step' follows the inner steps"),
        (lambda: FineTune(Net().body), SelectionError, "'1', is a BatchNorm2d, and a head"),
        (lambda: NearestNeighbour(nn.Conv2d(1, 2, 3)), SelectionError, "is a Conv2d"),
        (lambda: FineTune(Net(), lr=-1.0), ConfigError, "got -1.0"),
    ],
)
def test_settings_that_fit_nothing_are_refused(build, error, says):
    with pytest.raises(error, match=says):
        build()
