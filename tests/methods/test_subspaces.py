"""Adaptive subspaces, against projections by a pseudo-inverse, and against each other."""

import pytest
import torch
from torch import nn

from fastadapt import Task
from fastadapt.errors import ConfigError, TaskError
from fastadapt.methods import AdaptiveSubspaces
from fastadapt.methods.subspaces import overlap

pytestmark = pytest.mark.usefixtures("double")
BOTH = pytest.mark.parametrize("basis", ["solve", "svd"])


def projection(samples):
    """Return the mean, and the projection onto the span of the offsets from the first sample."""
    offsets = (samples[1:] - samples[0]).T
    return samples.mean(0), offsets @ torch.linalg.inv(offsets.T @ offsets) @ offsets.T


def learner(basis="solve", net=None, **settings):
    return AdaptiveSubspaces(nn.Identity() if net is None else net, basis=basis, **settings)


@BOTH
@pytest.mark.parametrize("squared, want", [(False, -(3**0.5)), (True, -3.0)])
def test_the_golden_distance(basis, squared, want):
    x = torch.tensor([[1.0, 0, 0], [3.0, 0, 2], [9.0, 9, 9], [9.0, 8, 9]])
    outputs = learner(basis, squared=squared).adapt((x, torch.tensor([0, 0, 1, 1])))(torch.tensor([[2.0, 1.0, 3.0]]))
    assert abs(float(outputs[0, 0]) - want) < 1e-5


@BOTH
def test_loss_and_gradient_are_those_written_out(basis):
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 6))
    y, yq = torch.tensor([0, 1, 1, 0, 0, 1, 1]), torch.tensor([0, 1, 1])  # of 3 and of 4 samples
    task = Task((torch.randn(7, 4), y), (torch.randn(3, 4), yq))
    f, known = net(task.query[0]), net(task.support[0])
    parts = [projection(known[y == c]) for c in range(2)]
    logits = torch.stack([-((f - mean) - (f - mean) @ p).square().sum(1).sqrt() for mean, p in parts], 1)
    (_, p), (_, q) = parts
    want = nn.functional.cross_entropy(logits, yq) + 0.03 * 2 * (p.T @ q).square().sum()
    outcome = learner(basis, net)(task)
    torch.testing.assert_close(outcome.outputs[0], logits.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(outcome.loss, want, rtol=1e-4, atol=1e-5)
    params = list(net.parameters())
    for got, expected in zip(*(torch.autograd.grad(v, params) for v in (outcome.loss, want)), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


@BOTH
def test_a_query_may_move_within_the_subspace(basis):
    x, query = torch.randn(6, 5), torch.randn(1, 5)
    predict = learner(basis).adapt((x, torch.tensor([0, 0, 0, 1, 1, 1])))
    moved = query + 2.0 * (x[0] - x[1]) - 0.7 * (x[2] - x[0])
    torch.testing.assert_close(predict(moved)[0, 0], predict(query)[0, 0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(predict(moved)[0, 1], predict(query)[0, 1], rtol=1e-2)


@BOTH
def test_the_basis_makes_a_projection(basis):
    memory = learner(basis).comparison.remember(torch.randn(12, 7), torch.arange(12) % 3, 3)
    projections = memory["bases"] @ memory["bases"].transpose(1, 2)
    torch.testing.assert_close(projections @ projections, projections, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(projections.diagonal(dim1=1, dim2=2).sum(1), torch.full((3,), 3.0), rtol=1e-4, atol=0)


def test_overlap_is_0_for_orthogonal_subspaces_and_their_dimension_for_equal_ones():
    planes = torch.eye(6).view(3, 2, 6).transpose(1, 2)
    assert float(overlap(planes)) == 0
    assert float(overlap(planes[:1].expand(3, 6, 2))) == 6 * 2  # of six ordered pairs


def test_equal_singular_values_have_a_gradient_without_svd():
    x = torch.cat((torch.eye(4), -torch.eye(4)[:1] * 0 + torch.randn(3, 4))).requires_grad_()
    task = Task((x, torch.tensor([0, 0, 0, 1, 1, 1, 1])), (torch.randn(4, 4), torch.tensor([0, 1, 1, 0])))
    learner()([task]).loss.backward()
    assert x.grad.isfinite().all()
    repeated = torch.cat((torch.ones(3, 4), torch.randn(3, 4))).requires_grad_()  # three times the same sample
    same = Task((repeated, torch.tensor([0, 0, 0, 1, 1, 1])), (torch.randn(4, 4), torch.tensor([0, 1, 1, 0])))
    learner()([same]).loss.backward()
    assert repeated.grad.isfinite().all()


@BOTH
def test_one_shot_takes_the_flipped_copy_beside_it(basis):
    x, query = torch.rand(2, 1, 3, 3), torch.rand(1, 1, 3, 3)
    outputs = learner(basis, nn.Flatten()).adapt((x, torch.arange(2)))(query)
    for c in range(2):
        mean, p = projection(torch.stack((x[c].flatten(), x[c].flip(2).flatten())))
        offset = query.flatten() - mean
        torch.testing.assert_close(outputs[0, c], -(offset - p @ offset).norm(), rtol=1e-4, atol=1e-5)


def test_one_shot_of_what_is_no_image_is_refused():
    with pytest.raises(TaskError, match=r"one sample of a class spans no subspace.*give at least 2 samples"):
        learner().adapt((torch.randn(3, 4), torch.arange(3)))


def test_more_samples_than_the_embedding_has_numbers_are_refused():
    with pytest.raises(TaskError, match="3 samples of a class span 2 dimensions, and the embedding has 2"):
        learner().adapt((torch.randn(6, 2), torch.arange(6) % 2))


def test_settings_outside_their_range_are_refused():
    with pytest.raises(ConfigError, match="basis must be"):
        learner("qr")
    with pytest.raises(ConfigError, match="discriminative must be"):
        learner(discriminative=-1.0)
