"""Augmentations inside the model: drawn anew in every pass, and differentiated as what was drawn."""

import kornia.augmentation as K
import pytest
import torch
from torch import nn

import fastadapt as fa
from foreign.by_hand import Case, classification, every_number, untouched


class Net(nn.Module):
    def __init__(self, front):
        super().__init__()
        self.front = front
        self.conv, self.out = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.conv(self.front(x)).tanh().mean((-1, -2)))


class Twin(nn.Module):
    """What the augmentations below come to, as they leave nothing to chance."""

    def forward(self, x):
        x = x.flip(-1)
        return (x - torch.full((1, 3, 1, 1), 0.5)) / torch.full((1, 3, 1, 1), 0.25)


def cross_entropy(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def certain():
    mean, std = torch.full((3,), 0.5), torch.full((3,), 0.25)
    return nn.Sequential(K.RandomHorizontalFlip(p=1.0), K.Normalize(mean, std))


def twins(front, other):
    one, two = Net(front), Net(other)
    two.conv.load_state_dict(one.conv.state_dict())
    two.out.load_state_dict(one.out.state_dict())
    return one, two


@every_number
@pytest.mark.parametrize("held", [nn.Sequential, K.AugmentationSequential])
def test_augmentations_that_always_do_the_same(held, number):
    one, two = twins(held(*certain()), Twin())
    number(Case(one, cross_entropy, classification(shape=(3, 6, 6)), rate=0.3, twin=two))


class Turned(nn.Module):
    def forward(self, x):
        return x.rot90(1, (-2, -1))


@every_number
def test_a_certain_rotation(number):
    one, two = twins(K.RandomRotation((90.0, 90.0), p=1.0, resample="nearest"), Turned())
    number(Case(one, cross_entropy, classification(shape=(3, 6, 6)), rate=0.3, twin=two))


def chance():
    return K.AugmentationSequential(K.RandomHorizontalFlip(p=0.5), K.RandomAffine(15.0, p=1.0), K.RandomErasing(p=0.5))


@pytest.mark.parametrize("order", ["exact", "first_order"])
def test_chance_is_that_of_the_seed(order):
    net, tasks = Net(chance()), classification(shape=(3, 6, 6))
    learner = fa.MAML(net, cross_entropy, rule=fa.SGD(0.3), steps=2, meta_gradient=order)
    found = []
    with untouched(net):
        learner(tasks)  # whatever is looked at once is looked at here
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            learner.zero_grad()
            outcome = learner(tasks)
            outcome.loss.backward()
            found.append((outcome.losses, net.conv.weight.grad.clone()))
    assert all(torch.equal(a, b) for a, b in zip(found[0], found[1], strict=True))
    assert not torch.equal(found[0][0], found[2][0])


def test_gradient_belongs_to_what_was_drawn():
    """With no inner step the meta-gradient is that of the query loss under the same draws."""
    net, tasks = Net(chance()), classification(1, shape=(3, 6, 6))
    learner = fa.MAML(net, cross_entropy, rule=fa.SGD(0.3), steps=0, route="loop")
    learner(tasks)
    torch.manual_seed(1)
    learner.zero_grad()
    learner(tasks).loss.backward()
    got = net.conv.weight.grad.clone()
    torch.manual_seed(1)
    net.zero_grad()
    cross_entropy(net, tasks[0].query).backward()
    assert torch.allclose(got, net.conv.weight.grad, rtol=1e-10, atol=1e-14)
