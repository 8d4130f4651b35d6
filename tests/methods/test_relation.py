"""Relation Network, against loops over queries and classes."""

import pytest
import torch
from torch import nn

from fastadapt import Task
from fastadapt.errors import ConfigError
from fastadapt.layers.norm import batch_moments
from fastadapt.methods import RelationNet
from fastadapt.nets import Relation, RelationEncoder, ViT

pytestmark = pytest.mark.usefixtures("double")


def lively(learner):
    """Give the relation module weights of a usual size; its published first ones are near zero."""
    for p in learner.comparison.parameters():
        nn.init.normal_(p, std=0.3)
    return learner


def task(shots=2, ways=3):
    y, yq = torch.arange(ways).repeat(shots), torch.tensor([0, 1, 2, 1])
    return Task((torch.rand(ways * shots, 1, 28, 28), y), (torch.rand(4, 1, 28, 28), yq))


def by_batch(layer, x):
    mean, variance = (m.view(1, -1, 1, 1) for m in batch_moments(x))
    return (x - mean) / (variance + layer.eps).sqrt() * layer.weight.view(1, -1, 1, 1) + layer.bias.view(1, -1, 1, 1)


def forward(net, x):
    """Return the output of a plain stack of layers, each batch norm by its own batch."""
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            x = by_batch(layer, x)
        elif not list(layer.children()):
            x = layer(x)
    return x


def test_loss_and_gradient_are_those_written_out():
    encoder = RelationEncoder(1, width=3)
    learner = lively(RelationNet(encoder, features=(3, 5, 5), width=4, hidden=5))
    g, one = learner.comparison.relation, task()
    f, known = forward(encoder, one.query[0]), forward(encoder, one.support[0])
    pairs = []
    for q in f:
        for c in range(3):
            total = sum(known[j] for j in range(6) if one.support[1][j] == c)
            pairs.append(torch.cat((total, q)))
    x = torch.stack(pairs)
    for layer in (*g.blocks.modules(), *g.head):
        if isinstance(layer, nn.BatchNorm2d):
            x = by_batch(layer, x)  # over all pairs of the task
        elif not list(layer.children()):
            x = layer(x)
    scores = torch.sigmoid(x).view(4, 3)
    want = sum((scores[i, c] - (one.query[1][i] == c).double()) ** 2 for i in range(4) for c in range(3)) / 12
    outcome = learner(one)
    torch.testing.assert_close(outcome.outputs[0].exp(), scores.detach())
    assert ((scores > 0) & (scores < 1)).all()
    torch.testing.assert_close(outcome.loss, want)
    params = list(learner.parameters())
    pairs_of_grads = zip(
        *(torch.autograd.grad(v, params, allow_unused=True) for v in (outcome.loss, want)), strict=True
    )
    for got, expected in pairs_of_grads:
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("side, maps", [(28, 5), (84, 19), (16, 2)])
def test_the_maps_have_the_sizes_of_the_paper(side, maps):
    assert RelationEncoder(1, width=2)(torch.zeros(1, 1, side, side)).shape == (1, 2, maps, maps)


@pytest.mark.parametrize("maps, padding, flat", [(19, 0, 9), (5, 1, 1)])
def test_the_relation_module_has_the_sizes_of_the_paper(maps, padding, flat):
    g = Relation((64, maps, maps), padding=padding)
    assert g.head[0].in_features == 64 * flat and g(torch.zeros(2, 128, maps, maps)).shape == (2,)
    assert (g.head[0].bias == 1).all() and g.head[0].weight.std() < 0.02
    assert abs(float(g.blocks[0][0].weight.detach().std()) - (2 / (9 * 64)) ** 0.5) < 2e-3


def test_a_class_is_the_sum_of_its_samples():
    learner = lively(RelationNet(nn.Identity(), features=(3,), width=4))
    x, queries = torch.randn(2, 3), torch.randn(5, 3)
    three_times = learner.adapt((x.repeat(3, 1), torch.arange(2).repeat(3)))(queries)
    torch.testing.assert_close(three_times, learner.adapt((3 * x, torch.arange(2)))(queries))


@pytest.mark.parametrize("norm", ["support", "support+query", "running"])
def test_the_batch_norm_of_the_relation_module_follows_the_mode(norm):
    learner = lively(RelationNet(RelationEncoder(1, width=3), features=(3, 5, 5), width=4, norm=norm))
    learner([task(), task()]).loss.backward()
    one = task()
    predict = learner.adapt(one.support)
    with torch.no_grad():
        alone = torch.cat([predict(row) for row in one.query[0].split(1)])
    torch.testing.assert_close(learner.trace(one).outputs[0][0], alone)
    assert norm != "support" or predict.calls == 6  # four of the embedding, two of the relation


def test_an_embedding_may_be_a_transformer():
    learner = RelationNet(ViT(1, None, size=28, width=8, depth=1, heads=2), features=(8,), width=4)
    outcome = learner([task(), task()])
    outcome.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learner.parameters())


@pytest.mark.parametrize(
    "settings, says",
    [
        ({}, "needs the shape of the embedding"),
        ({"features": (3,), "relation": nn.Identity()}, "needs the shape of the embedding"),
        ({"features": (3, 4, 4), "padding": 0}, "leaves nothing of maps of 4x4; take padding=1, or"),
        ({"features": (3, 2, 2)}, "leaves nothing of maps of 2x2; take an embedding"),
        ({"features": (3, 4)}, r"features \(C, H, W\) or \(d,\)"),
    ],
)
def test_settings_that_make_no_relation_are_refused(settings, says):
    with pytest.raises(ConfigError, match=says):
        RelationNet(nn.Identity(), **settings)
