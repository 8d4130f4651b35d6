"""Nearest neighbour, against loops over queries and samples."""

import pytest
import torch
from torch import nn

from fastadapt import MLP, CrossEntropy, Predictor, Task, load_predictor, save_predictor
from fastadapt.layers.norm import batch_moments
from fastadapt.methods import NearestNeighbour
from fastadapt.nets.nearest import ABSENT, Nearest, headless
from fastadapt.nets.settings import build_net

pytestmark = pytest.mark.usefixtures("double")
WAYS = 3


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Softplus(), nn.Flatten())
        self.head = nn.Linear(32, WAYS)

    def forward(self, x):
        return self.head(self.body(x))


def task(shots=2, queries=4):
    def batch(n):
        y = torch.arange(WAYS).repeat_interleave(n)
        return torch.randn(WAYS * n, 1, 4, 4) + y.view(-1, 1, 1, 1), y

    return Task(batch(shots), batch(queries))


def trained(**settings):
    learner = NearestNeighbour(Net(), classes=5, **settings)
    x = 3 * torch.randn(20, 1, 4, 4) + 1
    learner(Task((x, torch.randint(5, (20,))), (x, torch.randint(5, (20,)))))
    return learner


def features(learner, x, moments):
    """Return the input of the head, one layer after another, under the given mean and variance."""
    conv, norm, soft, flat = learner.model.body
    mean, variance = (m.view(1, -1, 1, 1) for m in moments)
    z = (conv(x) - mean) / (variance + norm.eps).sqrt()
    return flat(soft(z * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1))).detach()


def by_hand(f, known, labels):
    """Return the largest cosine to a sample of each class."""
    table = torch.full((len(f), WAYS), ABSENT)
    for i, a in enumerate(f):
        for b, y in zip(known, labels, strict=True):
            table[i, y] = max(table[i, y], (a @ b) / (a.norm() * b.norm()))
    return table


@pytest.mark.parametrize("route", ["vmap", "loop"])
def test_answers_are_largest_cosines_of_features_under_the_running_averages(route):
    learner, tasks = trained(route=route), [task(), task(shots=1), task()]
    moments = [learner.running.tensors()[f"body.1.running_{kind}"][0] for kind in ("mean", "var")]
    trace = learner.trace(tasks, steps=7)
    assert trace.losses.shape == (3, 1)  # there are no inner steps
    for i, ((x, y), (xq, yq)) in enumerate((t.support, t.query) for t in tasks):
        want = by_hand(features(learner, xq, moments), features(learner, x, moments), y)
        torch.testing.assert_close(trace.outputs[i][0], want)
        torch.testing.assert_close(trace.metrics["accuracy"][i, 0], (want.argmax(-1) == yq).double().mean())
        torch.testing.assert_close(learner.adapt((x, y))(xq).detach(), want)


@pytest.mark.parametrize("norm", ["transductive", "support", "support+query"])
def test_other_modes_take_the_moments_they_say(norm):
    learner, ((x, y), (xq, _)) = trained(norm=norm), vars(task()).values()
    conv = learner.model.body[0]
    own = batch_moments(conv(x))
    known = features(learner, x, own)
    if norm == "support+query":
        rows = [
            features(learner, both, batch_moments(conv(both)))[-1:] for both in (torch.cat((x, q[None])) for q in xq)
        ]
        seen = torch.cat(rows)
    else:
        seen = features(learner, xq, own if norm == "support" else batch_moments(conv(xq)))
    want = by_hand(seen, known, y)
    torch.testing.assert_close(learner.trace(Task((x, y), (xq, y.new_zeros(len(xq))))).outputs[0][0], want)
    torch.testing.assert_close(learner.adapt((x, y))(xq).detach(), want)


def test_a_support_image_gets_its_own_label_and_the_scale_of_pixels_does_not_matter():
    pixels = NearestNeighbour(MLP(16, (), WAYS))
    one = task(shots=5)
    predict = pixels.adapt(one.support)
    assert torch.equal(predict(one.support[0]).argmax(-1), one.support[1])
    torch.testing.assert_close(predict(7 * one.query[0]), predict(one.query[0]))
    torch.testing.assert_close(
        predict(one.query[0]), by_hand(one.query[0].flatten(1), one.support[0].flatten(1), one.support[1])
    )


def test_it_is_one_neighbour_and_not_the_mean_of_a_class():
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.05], [0.8, 0.6], [0.8, 0.6]])  # the first class lies on both sides
    predict = NearestNeighbour(MLP(2, (), 2)).adapt((x, torch.tensor([0, 0, 1, 1])))
    query = torch.tensor([[1.0, 0.1]])
    assert predict(query).argmax() == 0
    means = torch.stack((x[:2].mean(0), x[2:].mean(0)))
    assert torch.cosine_similarity(query, means).argmax() == 1


def test_a_class_without_a_sample_is_never_the_answer():
    predict = NearestNeighbour(MLP(2, (), 3)).adapt((torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 2])))
    answers = predict(-torch.rand(20, 2))
    assert (answers[:, 1] == ABSENT).all() and (answers.argmax(-1) != 1).all()


def test_an_image_without_ink_is_like_nothing():
    predict = NearestNeighbour(MLP(2, (), 2)).adapt((torch.eye(2), torch.arange(2)))
    assert torch.equal(predict(torch.zeros(1, 2)), torch.zeros(1, 2))


@pytest.mark.parametrize("norm", ["running", "support", "support+query"])
def test_a_predictor_is_read_from_its_folder_by_name(norm, tmp_path):
    torch.set_default_dtype(torch.float32)
    arguments = {"channels": 1, "width": 16, "ways": WAYS, "size": 16, "affine": "both"}
    net = {"name": "Conv4", "arguments": arguments}
    learner = NearestNeighbour(build_net(net), norm=norm)
    x, y = torch.rand(WAYS, 1, 16, 16), torch.arange(WAYS)
    predictor = learner.adapt((x, y))
    assert isinstance(predictor, Predictor)
    predictor.details["net"] = predictor.model.described(net)
    again = load_predictor(save_predictor(predictor, tmp_path / "mine"))
    with torch.no_grad():
        torch.testing.assert_close(again(2 * x + 1), predictor(2 * x + 1), rtol=0, atol=0)
    assert torch.equal(again(x).argmax(-1), y) or norm == "support+query"


@pytest.mark.parametrize("net", [nn.Linear(4, 2), nn.Sequential(nn.Flatten(), nn.Linear(4, 2))])
def test_a_network_that_is_all_head_has_its_input_as_features(net):
    x = torch.randn(3, 4)
    assert torch.equal(headless(net)(x), x)
    assert Nearest(net, 5).support.shape == (5, 4)


def test_removing_the_head_leaves_the_network_alone():
    net = Net()
    x = torch.randn(5, 1, 4, 4)
    assert headless(net.eval())(x).shape == (5, 32)
    assert isinstance(net.head, nn.Linear)
    assert CrossEntropy()(net, (x, torch.zeros(5, dtype=torch.long))).isfinite()
