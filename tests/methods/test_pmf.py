"""P>M>F against its formulas and a loop of fine-tuning written by hand."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from fastadapt import Protocol, Task, Training, evaluate, load_predictor, meta_train, save_predictor
from fastadapt.errors import ConfigError, TaskError
from fastadapt.methods import PMF
from fastadapt.methods.augment import colour_and_shift
from fastadapt.methods.pmf import choose_rate
from fastadapt.nets.headed import Headed

pytestmark = pytest.mark.usefixtures("double")


def batch(n, ways=3, seed=0):
    y = torch.arange(n) % ways
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 4, generator=generator) + torch.eye(4)[y], y


def noisy(x, generator):
    return x + 0.2 * torch.randn(x.shape, generator=generator, dtype=x.dtype)


def backbone():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5))


def by_hand(net, scale, x, y, xq, ways=3):
    """Return the scores of queries: cosines with the mean direction of each class."""
    z, zq = net(x), net(xq)
    z, zq = z / z.norm(dim=1, keepdim=True), zq / zq.norm(dim=1, keepdim=True)
    means = torch.stack([z[y == k].mean(0) for k in range(ways)])
    return scale * zq @ (means / means.norm(dim=1, keepdim=True)).T


def test_outputs_are_cosines_with_class_means_and_the_gradient_is_that_of_finite_differences():
    (x, y), (xq, yq), net = batch(6), batch(9, seed=1), backbone()
    learner = PMF(net, scale=7.0)
    outcome = learner(Task((x, y), (xq, yq)))
    torch.testing.assert_close(outcome.outputs[0], by_hand(net, 7.0, x, y, xq).detach())
    outcome.loss.backward()

    def loss(index, by):
        twin = copy.deepcopy(net)
        with torch.no_grad():
            twin[0].weight.view(-1)[index] += by
            return float(nn.functional.cross_entropy(by_hand(twin, 7.0, x, y, xq), yq))

    slopes = [(loss(i, 1e-5) - loss(i, -1e-5)) / 2e-5 for i in range(6)]
    np.testing.assert_allclose(net[0].weight.grad.view(-1)[:6].numpy(), slopes, rtol=1e-6, atol=1e-9)
    raised = by_hand(net, 7.0 + 1e-5, x, y, xq), by_hand(net, 7.0 - 1e-5, x, y, xq)
    up, down = (float(nn.functional.cross_entropy(each, yq).detach()) for each in raised)
    assert float(learner.scale.grad) == pytest.approx((up - down) / 2e-5, rel=1e-6)


def test_fine_tuning_is_adam_on_augmented_copies_against_prototypes_of_the_samples():
    (x, y), (xq, _), net = batch(6), batch(5, seed=1), backbone()
    learner = PMF(net, test_steps=3, lr=0.05, augment=noisy)
    before = copy.deepcopy(net.state_dict())
    twin, generator = copy.deepcopy(net), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.05)
    wanted = [by_hand(twin, 10.0, x, y, xq).detach()]
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(by_hand(twin, 10.0, x, y, noisy(x, generator)), y).backward()
        optimizer.step()
        wanted.append(by_hand(twin, 10.0, x, y, xq).detach())
    path = [predictor(xq) for predictor in learner.adapting((x, y))]
    torch.testing.assert_close(torch.stack(path), torch.stack(wanted))
    assert not torch.allclose(path[0], path[3])
    torch.testing.assert_close(learner.trace(Task((x, y), batch(5, seed=1))).outputs[0], torch.stack(wanted))
    assert torch.equal(learner.adapt((x, y))(xq), path[3])  # the same samples, the same predictor
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())


def test_no_steps_or_a_rate_of_nothing_leave_the_backbone_as_it_is():
    (x, y), (xq, _), net = batch(6), batch(5, seed=1), backbone()
    plain = by_hand(net, 10.0, x, y, xq).detach()
    for settings in ({"test_steps": 0}, {"test_steps": 4, "lr": 0.0}):
        learner = PMF(net, augment=noisy, **settings)
        torch.testing.assert_close(learner.adapt((x, y))(xq), plain)
        assert learner.trace(Task((x, y), batch(5, seed=1))).losses.shape == (1, 1)


def test_it_is_trained_measured_saved_and_a_rate_is_chosen(tmp_path):
    def sample(rng):
        seed = int(rng.integers(1 << 30))
        return Task(batch(6, seed=seed), batch(9, seed=seed + 1))

    learner = PMF(backbone(), augment=noisy)
    start = learner.model[0].weight.detach().clone()
    meta_train(learner, sample, Training(steps=3, meta_batch=2, optimizer="sgd", lr=0.05), quiet=True)
    assert not torch.equal(learner.model[0].weight, start)
    tried = choose_rate(learner, sample, (0.0, 0.05, 1e3), steps=2, tasks=3)
    assert list(tried) == [0.0, 0.05, 1e3] and learner.lr == max(tried, key=tried.get) and learner.test_steps == 2
    learner.lr = 0.05
    assert len(evaluate(learner, sample, Protocol(tasks=3, steps=2)).mean) == 3
    predictor, x = learner.adapt(batch(6)), batch(4)[0]
    folder = save_predictor(predictor, tmp_path / "mine")
    again = load_predictor(folder, model=Headed(backbone(), **predictor.model.arguments))
    assert torch.equal(again(x), predictor(x))


def test_a_backbone_that_comes_frozen_as_a_whole_is_trained_and_what_is_frozen_of_it_is_not():
    learner = PMF(backbone().requires_grad_(False))
    learner(Task(batch(6), batch(6))).loss.backward()
    assert all(p.grad is not None for p in learner.parameters())
    net = backbone()
    net[0].weight.requires_grad_(False)  # a part of it stays as it is, in training and in fine-tuning
    learner = PMF(net, test_steps=2, lr=0.1, augment=noisy)
    learner(Task(batch(6), batch(6))).loss.backward()
    assert net[0].weight.grad is None and net[2].weight.grad is not None
    tuned = learner.adapt(batch(6)).model.backbone
    assert torch.equal(tuned[0].weight, net[0].weight) and not torch.equal(tuned[2].weight, net[2].weight)


def test_augmented_images_differ_in_colour_and_place_alike_for_one_seed():
    x = torch.rand(40, 3, 16, 16)
    first, again = (colour_and_shift(x, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again) and first.shape == x.shape
    same = sum(bool(torch.equal(a, b)) for a, b in zip(x, first, strict=True))
    assert same <= 4  # a tenth of a tenth, and moves by nothing
    assert torch.equal(colour_and_shift(x, torch.Generator().manual_seed(3), share=0.0), x)
    grey = colour_and_shift(torch.rand(5, 1, 8, 8), torch.Generator().manual_seed(0))
    assert grey.shape == (5, 1, 8, 8) and bool(grey.isfinite().all())


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"scale": 0.0}, "scale must be a number > 0"), ({"lr": -1.0}, "lr must be a number >= 0")],
)
def test_settings_outside_their_range_are_refused(settings, told):
    with pytest.raises(ConfigError, match=told):
        PMF(backbone(), **settings)


def test_what_can_not_be_trained_or_augmented_is_told():
    with pytest.raises(ConfigError, match="Identity has no parameters that could be trained"):
        PMF(nn.Identity())
    with pytest.raises(TaskError, match="no images"):
        PMF(backbone(), test_steps=2).adapt(batch(6))
