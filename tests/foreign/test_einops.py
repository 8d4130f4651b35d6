"""Layers of einops against the same network with views and sums."""

import pytest
import torch
from einops.layers.torch import EinMix, Rearrange, Reduce
from torch import nn

from foreign.by_hand import Case, classification, every_number


class Fold(nn.Module):
    def forward(self, x):
        n = len(x)
        return x.reshape(n, 2, 3, 2, 3).permute(0, 1, 3, 2, 4).reshape(n, 4, 9)


class MeanOfRows(nn.Module):
    def forward(self, x):
        return x.mean(1)


def cross_entropy(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


@every_number
def test_rearrange_and_reduce(number):
    patches = Rearrange("n (a p) (b q) -> n (a b) (p q)", p=3, q=3)
    one = nn.Sequential(patches, nn.Linear(9, 5), nn.Tanh(), Reduce("n t c -> n c", "mean"), nn.Linear(5, 3))
    two = nn.Sequential(Fold(), nn.Linear(9, 5), nn.Tanh(), MeanOfRows(), nn.Linear(5, 3))
    two.load_state_dict(one.state_dict())
    number(Case(one, cross_entropy, classification(shape=(6, 6)), rate=0.3, twin=two))


class Mixed(nn.Module):
    def __init__(self, weight, bias):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight.detach().clone()), nn.Parameter(bias.detach().clone())

    def forward(self, x):
        return torch.einsum("ntc,tcd->nd", x, self.weight.reshape(4, 3, 3)) + self.bias.reshape(3)


@every_number
def test_mixing_layer(number):
    mix = EinMix("n t c -> n d", weight_shape="t c d", bias_shape="d", t=4, c=3, d=3)
    number(Case(mix, cross_entropy, classification(shape=(4, 3)), rate=0.3, twin=Mixed(mix.weight, mix.bias)))


class Plainly(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, x):
        return x.amax(1) if self.how == "max" else x.sum(1)


@every_number
@pytest.mark.parametrize("how", ["max", "sum"])
def test_other_reductions(how, number):
    net = nn.Sequential(Reduce("n t c -> n c", how), nn.Linear(3, 3))
    twin = nn.Sequential(Plainly(how), nn.Linear(3, 3))
    twin.load_state_dict(net.state_dict())
    number(Case(net, cross_entropy, classification(shape=(4, 3)), rate=0.1, twin=twin))
