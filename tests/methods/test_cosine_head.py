"""The head by cosine, against steps of torch's autograd on a module written by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastadapt import Task
from fastadapt.methods import CosineHead, NearestCentroid

pytestmark = pytest.mark.usefixtures("double")


def drawn(n, ways):
    y = torch.arange(n) % ways
    return torch.randn(n, 6) + y.unsqueeze(1), y


@pytest.mark.parametrize("ways, updates, scale, lr", [(2, 1, 10.0, 0.1), (4, 30, 10.0, 0.1), (5, 7, 2.0, 0.5)])
def test_updates_are_projected_gradient_descent(ways, updates, scale, lr):
    (x, y), (xq, yq) = drawn(3 * ways, ways), drawn(8, ways)
    w = torch.stack([(x / x.norm(dim=1, keepdim=True))[y == c].mean(0) for c in range(ways)])
    w = w / w.norm(dim=1, keepdim=True)
    for _ in range(updates):
        w = w.detach().requires_grad_()
        cosines = F.cosine_similarity(x.unsqueeze(1), w.unsqueeze(0), dim=2)
        F.cross_entropy(scale * cosines, y).backward()
        w = w.detach() - lr * w.grad
        w = w / w.norm(dim=1, keepdim=True)
    want = scale * F.cosine_similarity(xq.unsqueeze(1), w.unsqueeze(0), dim=2)
    learner = CosineHead(nn.Identity(), updates=updates, scale=scale, lr=lr)
    torch.testing.assert_close(learner.adapt((x, y))(xq), want, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(learner(Task((x, y), (xq, yq))).loss, F.cross_entropy(want, yq), rtol=1e-10, atol=0)


def test_with_one_sample_a_class_and_no_update_it_is_the_nearest_direction():
    (x, y), xq = drawn(5, 5), drawn(40, 5)[0]
    cosine = CosineHead(nn.Identity(), updates=0).adapt((x, y))(xq)
    assert torch.equal(cosine.argmax(1), NearestCentroid(nn.Identity(), unit=True).adapt((x, y))(xq).argmax(1))


def test_updates_lower_the_loss_on_the_support_set():
    x, y = drawn(20, 4)
    losses = [float(F.cross_entropy(CosineHead(nn.Identity(), updates=n).adapt((x, y))(x), y)) for n in (0, 10, 100)]
    assert losses[0] > losses[1] > losses[2]
