"""ProtoMAML: prototypes without steps, a twin by hand with them, finite differences, tasks of any number of classes."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from fastadapt import MLP, SGD, CrossEntropy, Momentum, Task, load_predictor, save_predictor
from fastadapt.errors import ConfigError, TaskError
from fastadapt.methods import ProtoMAML, ProtoNet
from fastadapt.rules.rates import learned_rates
from reference import difference, grads_of

pytestmark = pytest.mark.usefixtures("double")


class Embedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 5)
        self.norm = nn.BatchNorm1d(5)
        self.last = nn.Linear(5, 4)

    def forward(self, x):
        return self.last(torch.tanh(self.norm(self.first(x))))


def classes(n, ways=3):
    return torch.randn(n, 3), torch.arange(n) % ways


def tasks(count=2, ways=3):
    return [Task(classes(6, ways), classes(2 * ways, ways)) for _ in range(count)]


def smooth():
    return MLP(3, (5,), None, activation="tanh", init_std=None)


@pytest.mark.parametrize("norm", ["support", "running", pytest.param("support+query", marks=pytest.mark.long)])
def test_without_steps_it_has_the_softmax_of_prototypical_networks(norm):
    net, batch = Embedding(), tasks()
    outputs = ProtoMAML(net, rule=SGD(0.1), norm=norm, route="loop").trace(batch, steps=0).outputs
    for own, theirs in zip(outputs, ProtoNet(net, norm=norm).trace(batch).outputs, strict=True):
        torch.testing.assert_close(own.softmax(-1), theirs.softmax(-1), rtol=0, atol=1e-10)


@pytest.mark.parametrize("route", ["loop", "vmap"])
def test_trained_without_steps_it_is_prototypical_networks(route):
    net, batch = Embedding(), tasks()
    for learner in (ProtoNet(net, norm="support"), ProtoMAML(net, steps=0, route=route)):
        net.zero_grad()
        outcome = learner(batch)
        outcome.loss.backward()
        found = outcome.loss.detach(), grads_of(net)
        want = found if isinstance(learner, ProtoNet) else want  # noqa: F821
    torch.testing.assert_close(found[0], want[0], rtol=1e-12, atol=0)
    assert difference(found[1], want[1]) < 1e-10 and all(g.abs().max() > 0 for g in want[1].values())


def by_hand(net, batch, steps, first_order):
    """Return the mean query loss, written out for an embedding without batch norm."""
    total = 0
    for task in batch:
        (x, y), (xq, yq) = task.support, task.query
        theta = dict(net.named_parameters())
        start = {name: p.clone() for name, p in theta.items()}  # apart from the prototypes: W and b are variables
        means = torch.stack([functional_call(net, theta, (x,))[y == c].mean(0) for c in range(int(y.max()) + 1)])
        phi = {**start, "W": 2 * means, "b": -(means**2).sum(1)}

        def answers(x, phi):
            body = {name: p for name, p in phi.items() if name not in ("W", "b")}
            return functional_call(net, body, (x,)) @ phi["W"].T + phi["b"]

        for _ in range(steps):
            grads = torch.autograd.grad(F.cross_entropy(answers(x, phi), y), list(phi.values()), create_graph=True)
            grads = [g.detach() for g in grads] if first_order else grads
            phi = {name: p - 0.3 * g for (name, p), g in zip(phi.items(), grads, strict=True)}
        total = total + F.cross_entropy(answers(xq, phi), yq)
    return total / len(batch)


@pytest.mark.parametrize("route", ["loop", "vmap"])
@pytest.mark.parametrize("order", ["exact", "first_order"])
def test_the_gradient_goes_on_through_the_prototypes(order, route):
    net, batch = smooth(), [*tasks(2, 3), *tasks(1, 2)]
    learner = ProtoMAML(net, rule=SGD(0.3), steps=3, meta_gradient=order, route=route)
    outcome = learner(batch)
    outcome.loss.backward()
    got = grads_of(net)
    net.zero_grad()
    want = by_hand(net, batch, 3, order == "first_order")
    want.backward()
    torch.testing.assert_close(outcome.loss.detach(), want.detach(), rtol=1e-12, atol=0)
    assert difference(got, grads_of(net)) < 1e-10
    assert [len(output[0]) for output in outcome.outputs] == [3, 3, 2]


@pytest.mark.long
@pytest.mark.parametrize("norm", ["support", "transductive"])
def test_every_gradient_is_that_of_finite_differences(norm):
    net, batch = Embedding(), tasks()
    learner = ProtoMAML(net, rule=Momentum(0.2), steps=2, norm=norm)
    learner(batch).loss.backward()
    for name, p in net.named_parameters():
        for i in (0, p.numel() - 1):
            ends = []
            for move in (1e-5, -1e-5):
                p.data.view(-1)[i] += move
                ends.append(float(learner(batch).loss.detach()))
                p.data.view(-1)[i] -= move
            assert abs((ends[0] - ends[1]) / 2e-5 - float(p.grad.view(-1)[i])) < 1e-8, name


def test_scale_and_shift_are_not_adapted_and_a_query_sees_no_other():
    learner, [task] = ProtoMAML(Embedding(), rule=SGD(0.5), steps=2), tasks(1)
    assert learner.adapted == ("first.weight", "first.bias", "last.weight", "last.bias")
    predict = learner.adapt(task.support)
    torch.testing.assert_close(predict(task.query[0])[:1], predict(task.query[0][:1]))
    *_, last = learner.adapting(task.support)
    torch.testing.assert_close(last(task.query[0]), predict(task.query[0]))


def test_a_class_without_a_sample_is_never_the_answer():
    learner = ProtoMAML(smooth(), rule=SGD(0.5), steps=2)
    x, _ = classes(4)
    predict = learner.adapt((x, torch.tensor([0, 0, 3, 3])))
    outputs = predict(torch.randn(9, 3))
    assert outputs.shape == (9, 4) and outputs.isfinite().all() and set(outputs.argmax(1).tolist()) <= {0, 3}
    trace = learner.trace(Task((x, torch.tensor([0, 0, 3, 3])), (x, torch.tensor([0, 3, 0, 3]))))
    assert trace.losses.isfinite().all()


def test_it_goes_on_disk_and_back(tmp_path):
    net = {"name": "MLP", "arguments": {"inputs": 3, "hidden": [5], "outputs": None, "activation": "tanh"}}
    learner, (x, y) = ProtoMAML(smooth().float(), rule=SGD(0.3), steps=2), classes(6)
    predict = learner.adapt((x.float(), y))
    predict.details["net"] = predict.model.described(net)
    save_predictor(predict, tmp_path / "out")
    torch.testing.assert_close(load_predictor(tmp_path / "out")(x.float()), predict(x.float()))


def test_what_does_not_fit_is_refused():
    net = smooth()
    with pytest.raises(ConfigError, match="whose prototypes are no step"):
        ProtoMAML(net, norm="per_step")
    with pytest.raises(ConfigError, match="exact or first order"):
        ProtoMAML(net, meta_gradient="implicit")
    with pytest.raises(ConfigError, match="give the rule one number"):
        ProtoMAML(net, rule=SGD(learned_rates(net, 0.1)))
    learner = ProtoMAML(net, CrossEntropy())
    with pytest.raises(TaskError, match="tells classes apart"):
        learner(Task((torch.randn(4, 3), torch.randn(4, 1)), (torch.randn(4, 3), torch.randn(4, 1))))
    with pytest.raises(TaskError, match="the label is 2, and the support set has samples of 0, 1 alone"):
        learner(Task(classes(4, 2), classes(3, 3)))
    with pytest.raises(TaskError, match="numbers"):
        learner.adapt((torch.randn(4, 3), torch.tensor([0, 1, -1, 0])))
    with pytest.raises(TaskError, match="not finite"):
        learner.adapt((torch.full((4, 3), torch.nan), torch.arange(4) % 2))
