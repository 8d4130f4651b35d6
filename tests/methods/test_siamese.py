"""Siamese networks, against loops over pairs."""

import pytest
import torch
from torch import nn

from fastadapt import Task
from fastadapt.errors import ConfigError
from fastadapt.methods import SiameseNet
from fastadapt.nets import KochNet

pytestmark = pytest.mark.usefixtures("double")


def probability(learner, a, b):
    """Return `p(x, x')` of two embedded samples."""
    weigh = learner.comparison.weigh
    return torch.sigmoid((weigh.weight[0] * (a - b).abs()).sum() + weigh.bias[0])


def net():
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def test_it_is_symmetric_and_a_sample_beside_itself_has_the_bias_alone():
    learner = SiameseNet(nn.Identity(), features=3)
    a, b = torch.randn(2, 3).unsqueeze(1)
    zero = torch.tensor([0])
    one, other = learner.adapt((a, zero))(b)[0, 0], learner.adapt((b, zero))(a)[0, 0]
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(one.exp(), probability(learner, a[0], b[0]))
    torch.testing.assert_close(learner.adapt((a, zero))(a)[0, 0].exp(), learner.comparison.weigh.bias[0].sigmoid())


@pytest.mark.parametrize("over", ["max", "mean"])
def test_outputs_loss_and_gradient_are_those_written_out(over):
    model = net()
    learner = SiameseNet(model, features=3, over=over)
    y, yq = torch.tensor([0, 2, 1, 1, 0]), torch.tensor([0, 1, 2, 2])
    task = Task((torch.randn(5, 4), y), (torch.randn(4, 4), yq))
    f, g = model(task.query[0]), model(task.support[0])
    table = torch.stack([torch.stack([probability(learner, q, known) for known in g]) for q in f])
    same, other = [], []
    for i in range(4):
        for j in range(5):
            (same if yq[i] == y[j] else other).append(-(table[i, j] if yq[i] == y[j] else 1 - table[i, j]).log())
    want = (sum(same) / len(same) + sum(other) / len(other)) / 2
    outcome = learner(task)
    torch.testing.assert_close(outcome.loss, want)
    params = list(learner.parameters())
    for got, expected in zip(*(torch.autograd.grad(v, params) for v in (outcome.loss, want)), strict=True):
        torch.testing.assert_close(got, expected)
    reduced = [[float(getattr(table[i, y == c].detach(), over)()) for c in range(3)] for i in range(4)]
    torch.testing.assert_close(outcome.outputs[0].exp(), torch.tensor(reduced))


def test_a_network_that_says_the_same_of_everything_is_right_by_chance_alone():
    learner = SiameseNet(nn.Identity(), features=2)
    nn.init.zeros_(learner.comparison.weigh.weight)
    y = torch.arange(1000) % 5
    support = torch.randn(5, 2), torch.arange(5)
    trace = learner.trace(Task(support, (torch.randn(1000, 2), y)))
    assert float(trace.metrics["accuracy"]) == 0.2  # and not 1, as where the first class counts as right in a tie


def test_the_network_of_the_paper_has_its_sizes_and_first_weights():
    torch.set_default_dtype(torch.float32)
    net = KochNet(1, features=8)
    assert net.embed.in_features == 6 * 6 * 256 and KochNet(1, features=8, size=65).embed.in_features == 256
    shapes = [tuple(layer.weight.shape) for layer in net.blocks if isinstance(layer, nn.Conv2d)]
    assert shapes == [(64, 1, 10, 10), (128, 64, 7, 7), (128, 128, 4, 4), (256, 128, 4, 4)]
    first = net.blocks[0]
    assert abs(float(first.weight.detach().std()) - 0.01) < 1e-3 and abs(float(first.bias.detach().mean()) - 0.5) < 0.01
    assert abs(float(net.embed.weight.detach().std()) - 0.2) < 1e-2
    batch = torch.rand(2, 1, 105, 105), torch.arange(2)
    SiameseNet(net, features=8)(Task(batch, batch)).loss.backward()
    assert first.weight.grad.isfinite().all()
    with pytest.raises(ConfigError, match="at least 65 pixels"):
        KochNet(1, size=64)


def test_settings_outside_their_range_are_refused():
    with pytest.raises(ConfigError, match="over 'max' or 'mean'"):
        SiameseNet(net(), features=3, over="min")
