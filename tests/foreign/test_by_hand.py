"""The yardstick itself: a closed form, and its two ways to the exact meta-gradient against each other."""

import pytest
import torch
from torch import nn

import fastadapt as fa
from foreign.by_hand import Case, Plain, apart, every_number, falls_on_support, regression


def mse(model, batch):
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def test_scalar_regression_has_the_numbers_found_by_hand():
    def column(*v):
        return torch.tensor(v).unsqueeze(1)

    net = nn.Linear(1, 1, bias=False)
    nn.init.ones_(net.weight)
    task = fa.Task((column(1.0, 2.0), column(2.0, 3.0)), (column(1.0, 3.0), column(1.0, 5.0)))
    plain = Plain(net, mse, [task], rate=0.05)
    assert plain.losses(1).item() == pytest.approx(1.2125, abs=1e-12)
    assert plain.exact(1)[0].item() == pytest.approx(-3.375, abs=1e-12)
    assert plain.first_order(1)[0].item() == pytest.approx(-4.5, abs=1e-12)
    assert plain.reptile(1)[0].item() == pytest.approx(-0.15, abs=1e-12)
    assert plain.slope(1, [torch.ones(1, 1)]) == pytest.approx(-3.375, abs=1e-8)


def net():
    return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2))


def test_differences_and_autograd_agree_where_parameters_are_shared():
    shared = nn.Linear(3, 3)
    plain = Plain(nn.Sequential(shared, nn.Tanh(), shared, nn.Linear(3, 2)), mse, regression(), rate=0.3)
    got = plain.exact(3)
    direction = [torch.randn_like(g) for g in got]
    along = sum((g * d).sum().item() for g, d in zip(got, direction, strict=True))
    assert along == pytest.approx(plain.slope(3, direction), rel=1e-8)
    assert apart(plain.first_order(3), got) > 0.01


@every_number
def test_an_ordinary_network(number):
    number(Case(net(), mse, regression()))


def test_the_trace_falls():
    falls_on_support(Case(net(), mse, regression(), rate=0.05))
