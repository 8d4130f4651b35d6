"""Prototypical networks, against loops over queries and classes, and autograd of those."""

import pytest
import torch
from torch import nn

from fastadapt import Task
from fastadapt.methods import ProtoNet

pytestmark = pytest.mark.usefixtures("double")


def squared_distances(f, known, y, ways):
    """Return the squared distance of each query to the mean of each class, one after another."""
    table = torch.zeros(len(f), ways)
    for c in range(ways):
        members = [known[j] for j in range(len(y)) if y[j] == c]
        mean = sum(members) / len(members)
        for i in range(len(f)):
            table[i, c] = sum((f[i, k] - mean[k]) ** 2 for k in range(f.shape[1]))
    return table


def test_the_golden_distances_and_probabilities():
    support = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [2.0, 1.0], [2.0, -1.0]]), torch.tensor([0, 0, 1, 1])
    outputs = ProtoNet(nn.Identity()).adapt(support)(torch.tensor([[0.5, 1.0]]))
    torch.testing.assert_close(outputs, torch.tensor([[-1.25, -3.25]]))
    torch.testing.assert_close(outputs.softmax(1), torch.tensor([[0.880797, 0.119203]]), rtol=0, atol=1e-6)


def test_loss_and_gradient_are_those_written_out():
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    tasks = []
    for ways, shots in ((3, 2), (2, 1), (4, 3)):  # of different ways and shots
        y = torch.randperm(ways * shots) % ways
        tasks.append(Task((torch.randn(len(y), 4), y), (torch.randn(5, 4), torch.randint(ways, (5,)))))
    outcome = ProtoNet(net)(tasks)
    losses = []
    for task in tasks:
        (x, y), (xq, yq) = task.support, task.query
        logits = -squared_distances(net(xq), net(x), y, int(y.max()) + 1)
        losses.append(sum(-(row[c] - row.exp().sum().log()) for row, c in zip(logits, yq, strict=True)) / len(yq))
    torch.testing.assert_close(outcome.losses, torch.stack(losses))
    want = torch.autograd.grad(sum(losses) / 3, list(net.parameters()))
    got = torch.autograd.grad(outcome.loss, list(net.parameters()))
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)


def test_probabilities_do_not_change_when_all_features_are_moved_and_turned():
    turn = torch.linalg.qr(torch.randn(3, 3))[0]
    moved = nn.Linear(3, 3)
    with torch.no_grad():
        moved.weight.copy_(turn)
        moved.bias.fill_(100.0)
    support, x = (torch.randn(6, 3), torch.arange(6) % 3), torch.randn(4, 3)
    plain, other = (ProtoNet(net).adapt(support)(x) for net in (nn.Identity(), moved))
    torch.testing.assert_close(other.softmax(1), plain.softmax(1))


def test_with_one_shot_it_is_the_nearest_neighbour():
    x, queries = torch.randn(7, 3), torch.randn(20, 3)
    answers = ProtoNet(nn.Identity()).adapt((x, torch.arange(7)))(queries).argmax(1)
    assert answers.tolist() == torch.cdist(queries, x).argmin(1).tolist()


def test_far_from_the_origin_float32_still_tells_near_means_apart():
    torch.set_default_dtype(torch.float32)
    x = torch.tensor([[1000.0, 0.0], [1000.01, 0.0]])
    outputs = ProtoNet(nn.Identity()).adapt((x, torch.arange(2)))(x)
    assert outputs.argmax(1).tolist() == [0, 1] and outputs[0, 0].abs() < 1e-5
