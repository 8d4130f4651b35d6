"""Nearest centroid, SimpleShot and nearest sample, against numpy."""

import numpy as np
import pytest
import torch
from torch import nn

from fastadapt import Task
from fastadapt.methods import NearestCentroid, NearestSample, mean_feature

pytestmark = pytest.mark.usefixtures("double")
WAYS = 4


def net():
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh())


def features(model, x):
    weight, bias = (p.detach().numpy() for p in model[0].parameters())
    return np.tanh(x.numpy() @ weight.T + bias)


def drawn(n, spread=1.0):
    y = torch.arange(n) % WAYS
    return spread * torch.randn(n, 5) + y.unsqueeze(1), y


def probabilities(scores):
    shifted = np.exp(scores - scores.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def transformed(z, centre, unit):
    z = z if centre is None else z - centre
    return z / np.linalg.norm(z, axis=1, keepdims=True) if unit else z


@pytest.mark.parametrize("unit, centred", [(False, False), (True, False), (False, True), (True, True)])
def test_probabilities_are_those_of_squared_distances_to_class_means(unit, centred):
    model, base = net(), torch.randn(50, 5)
    centre = features(model, base).mean(0) if centred else None
    learner = NearestCentroid(model, unit=unit, centre=mean_feature(model, base) if centred else None)
    (x, y), (xq, yq) = drawn(12), drawn(20)
    known, asked = (transformed(features(model, v), centre, unit) for v in (x, xq))
    scores = np.zeros((20, WAYS))
    for c in range(WAYS):
        mean = sum(known[j] for j in range(12) if y[j] == c) / 3
        scores[:, c] = -((asked - mean) ** 2).sum(1)
    want = probabilities(scores)
    got = learner.adapt((x, y))(xq).softmax(1).numpy()
    np.testing.assert_allclose(got, want, rtol=1e-12)
    loss = -np.log(want[np.arange(20), yq.numpy()]).mean()
    np.testing.assert_allclose(float(learner(Task((x, y), (xq, yq))).loss), loss, rtol=1e-12)


@pytest.mark.parametrize("unit", [False, True])
def test_the_nearest_sample_is_found_among_all(unit):
    model = net()
    (x, y), (xq, _) = drawn(12), drawn(40)
    known, asked = (transformed(features(model, v), None, unit) for v in (x, xq))
    distances = ((asked[:, None] - known[None]) ** 2).sum(2)
    got = NearestSample(model, unit=unit).adapt((x, y))(xq)
    assert got.argmax(1).tolist() == y[distances.argmin(1)].tolist()
    nearest = np.stack([distances[:, y.numpy() == c].min(1) for c in range(WAYS)], 1)
    np.testing.assert_allclose(got.softmax(1).numpy(), probabilities(-nearest), rtol=1e-12)


def test_the_mean_and_the_nearest_sample_of_a_class_may_disagree():
    x, y = torch.tensor([[-9.0], [9.0], [2.0]]), torch.tensor([0, 0, 1])
    query = torch.tensor([[8.0]])
    assert NearestCentroid(nn.Identity()).adapt((x, y))(query).argmax() == 1
    assert NearestSample(nn.Identity(), unit=False).adapt((x, y))(query).argmax() == 0


def test_distances_are_told_apart_far_from_the_origin():
    torch.set_default_dtype(torch.float32)
    x, y = torch.tensor([[30000.0, 0.0], [30001.0, 0.0]]), torch.tensor([0, 1])
    query = torch.tensor([[30000.25, 0.0], [30000.75, 5.0]])
    outputs = NearestCentroid(nn.Identity()).adapt((x, y))(query)
    torch.testing.assert_close(outputs[:, 0] - outputs[:, 1], torch.tensor([0.5, -0.5]))
