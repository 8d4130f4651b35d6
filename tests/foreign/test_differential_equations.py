"""Solvers whose backward pass solves another equation, long after `forward` has returned."""

import pytest
import torch
import torchsde
from torch import nn
from torchdiffeq import odeint, odeint_adjoint

from foreign.by_hand import (
    Case,
    adapted,
    apart,
    every_number,
    exact,
    first_order,
    meta_gradient,
    or_a_sentence,
    regression,
    trace,
)

TIGHT = {"rtol": 1e-9, "atol": 1e-11}


def mse(model, batch):
    return nn.functional.mse_loss(model(batch[0]), batch[1])


class Field(nn.Module):
    def __init__(self):
        super().__init__()
        self.n = nn.Linear(3, 3)

    def forward(self, t, y):
        return self.n(y).tanh()


class Ode(nn.Module):
    def __init__(self, solve, **options):
        super().__init__()
        self.f, self.solve, self.options = Field(), solve, options

    def forward(self, x):
        return self.solve(self.f, x, torch.linspace(0, 1, 2), **self.options)[-1][:, :2]


def pair(**options):
    """Return two networks with the same weights: one goes back by the adjoint equation, one through the solver."""
    adjoint, plain = Ode(odeint_adjoint, **options), Ode(odeint, **options)
    plain.load_state_dict(adjoint.state_dict())
    return adjoint, plain


@every_number
@pytest.mark.parametrize("method", ["rk4", "dopri5"])
def test_odeint(method, number):
    # an adaptive solver takes other steps for other parameters: its differences are right to its tolerance
    tolerance = {"apart": 1e-8} if method == "rk4" else {"apart": 1e-6}
    options = TIGHT if method == "dopri5" else {}
    number(Case(Ode(odeint, method=method, **options), mse, regression(2), rate=0.5, **tolerance))


@pytest.mark.parametrize("number", [first_order, adapted, trace])
def test_odeint_adjoint_equals_odeint_to_the_tolerance(number):
    adjoint, plain = pair(**TIGHT)
    number(Case(adjoint, mse, regression(2), rate=0.5, twin=plain, apart=1e-6))


def test_odeint_adjoint_by_its_own_algorithm():
    adjoint, _ = pair(method="rk4", options={"step_size": 0.25})
    first_order(Case(adjoint, mse, regression(2), rate=0.5))


def test_exact_meta_gradient_through_the_adjoint_is_right_or_refused():
    adjoint, plain = pair(**TIGHT)
    with or_a_sentence("first_order", "first order", "firstorder"):
        exact(Case(adjoint, mse, regression(2), rate=0.5, twin=plain, unrolled=False, apart=1e-5))


def test_odeint_adjoint_with_tensors_that_are_named():
    """The solver is handed the parameters of a module that is bound: they must be those of the step."""

    class Named(Ode):
        def forward(self, x):
            t = torch.linspace(0, 1, 2)
            return odeint_adjoint(self.f, x, t, adjoint_params=tuple(self.f.parameters()), **TIGHT)[-1][:, :2]

    named, plain = Named(odeint_adjoint), Ode(odeint, **TIGHT)
    plain.load_state_dict(named.state_dict())
    first_order(Case(named, mse, regression(2), rate=0.5, twin=plain, apart=1e-6))


class Drift(nn.Module):
    noise_type, sde_type = "diagonal", "stratonovich"

    def __init__(self):
        super().__init__()
        self.mu, self.sigma = nn.Linear(3, 3), nn.Linear(3, 3)

    def f(self, t, y):
        return self.mu(y).tanh()

    def g(self, t, y):
        return 0.3 * self.sigma(y).sigmoid()


class Sde(nn.Module):
    def __init__(self, solve):
        super().__init__()
        self.sde, self.solve = Drift(), solve

    def forward(self, x):
        noise = torchsde.BrownianInterval(0.0, 1.0, size=tuple(x.shape), dtype=x.dtype, entropy=7)
        ts = torch.linspace(0, 1, 2)
        return self.solve(self.sde, x, ts, bm=noise, dt=0.25, method="midpoint")[-1][:, :2]


@every_number
def test_sdeint_along_one_path(number):
    number(Case(Sde(torchsde.sdeint), mse, regression(2), rate=0.5))


def test_sdeint_adjoint_by_its_own_algorithm():
    first_order(Case(Sde(torchsde.sdeint_adjoint), mse, regression(2), rate=0.5))


def test_sdeint_adjoint_is_near_sdeint():
    tasks = regression(2)
    adjoint, plain = Sde(torchsde.sdeint_adjoint), Sde(torchsde.sdeint)
    plain.load_state_dict(adjoint.state_dict())
    found = [meta_gradient(Case(m, mse, tasks, rate=0.5), meta_gradient="first_order")[1] for m in (adjoint, plain)]
    assert apart(*found) < 0.1
