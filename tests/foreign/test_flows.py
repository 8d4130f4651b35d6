"""Normalising flows: the loss calls a method, or asks the distribution that the module returns."""

import nflows.distributions
import nflows.flows
import nflows.transforms
import normflows
import pytest
import torch
import zuko
from torch import nn

import fastadapt as fa
from foreign.by_hand import Case, apart, every_number, falls_on_support, meta_gradient, spread


def points(count=3, given=0):
    def batch(n):
        x = torch.randn(n, 2)
        return (x, torch.randn(n, given)) if given else x

    return [fa.Task(batch(6), batch(7)) for _ in range(count)]


def from_the_distribution(model, x):
    return -model().log_prob(x).mean()


class InForward(nn.Module):
    """The same likelihood, computed while forward runs."""

    def __init__(self, flow):
        super().__init__()
        self.flow = flow

    def forward(self, x):
        return -self.flow().log_prob(x).mean()


# smooth, for the sake of difference quotients
SMALL = {"hidden_features": (8,), "activation": nn.Tanh}
FLOWS = {
    "spline": lambda: zuko.flows.NSF(2, 0, transforms=2, **SMALL),
    "affine": lambda: zuko.flows.MAF(2, 0, transforms=2, **SMALL),
    "gaussian mixture": lambda: zuko.flows.GMM(2, 0, components=3),
}


@every_number
@pytest.mark.parametrize("kind", FLOWS)
def test_zuko_flow_returns_a_distribution(kind, number):
    number(Case(spread(FLOWS[kind]()), from_the_distribution, points(), rate=0.05))


@pytest.mark.parametrize("order", ["exact", "first_order"])
def test_zuko_flow_equals_the_one_whose_forward_is_the_likelihood(order):
    flow = FLOWS["spline"]()
    inside = InForward(flow)
    tasks = points()
    _, got = meta_gradient(Case(flow, from_the_distribution, tasks, rate=0.05), meta_gradient=order)
    flow.zero_grad()
    _, want = meta_gradient(Case(inside, lambda m, x: m(x), tasks, rate=0.05), meta_gradient=order)
    assert apart(got, want) < 1e-10


def test_zuko_trace_falls():
    falls_on_support(Case(FLOWS["spline"](), from_the_distribution, points(), rate=0.02, steps=4))


@every_number
def test_zuko_conditional_flow(number):
    def loss(model, batch):
        x, given = batch
        return -model(given).log_prob(x).mean()

    flow = zuko.flows.NSF(2, 3, transforms=1, **SMALL)
    number(Case(spread(flow), loss, points(given=3), rate=0.05))


def test_zuko_predictor_returns_the_adapted_distribution():
    case = Case(FLOWS["affine"](), from_the_distribution, points(1), rate=0.05)
    predictor = case.learner().adapt(case.tasks[0].support)
    twin = case.other.descended(case.tasks[0].support, case.steps)
    x = torch.randn(4, 2)
    want, before = twin().log_prob(x), case.model().log_prob(x)
    got = predictor().log_prob(x)
    assert apart([got], [want]) < 1e-10
    assert apart([got], [before]) > 1e-3
    torch.manual_seed(3)
    drawn = predictor().sample((5,))
    torch.manual_seed(3)
    assert apart([drawn], [twin().sample((5,))]) < 1e-10


@every_number
def test_nflows_answers_only_to_log_prob(number):
    maf = nflows.transforms.MaskedAffineAutoregressiveTransform(features=2, hidden_features=6, activation=torch.tanh)
    order = nflows.transforms.ReversePermutation(features=2)
    # its permutations are float32 or integer buffers, its base a float32 one
    flow = nflows.flows.Flow(
        nflows.transforms.CompositeTransform([maf, order]), nflows.distributions.StandardNormal([2])
    ).double()
    number(Case(flow, lambda m, x: -m.log_prob(x).mean(), points(), rate=0.05))


@every_number
def test_normflows_has_its_loss_as_a_method(number):
    base = normflows.distributions.base.DiagGaussian(2)
    flows = [
        part
        for _ in range(2)
        for part in (
            normflows.flows.AffineCouplingBlock(normflows.nets.MLP([1, 6, 2], init_zeros=False, leaky=0.5)),
            normflows.flows.Permute(2, mode="swap"),
        )
    ]
    # its forward only samples
    number(Case(normflows.NormalizingFlow(base, flows).double(), lambda m, x: m.forward_kld(x), points(), rate=0.05))
