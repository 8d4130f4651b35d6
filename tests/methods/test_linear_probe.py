"""The linear probe, against other solvers of scikit-learn and the slope of the objective."""

import builtins
import logging

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from fastadapt import Task
from fastadapt.errors import MissingExtraError
from fastadapt.methods import LinearProbe, linear_probe

pytestmark = pytest.mark.usefixtures("double")


def drawn(n, ways, numbers=6):
    y = torch.arange(n) % ways
    return torch.randn(n, numbers) + y.unsqueeze(1), y


@pytest.mark.parametrize("ways, solver", [(2, "newton-cg"), (2, "newton-cholesky"), (5, "newton-cg"), (5, "sag")])
@pytest.mark.parametrize("strength", [1.0, 0.1])
def test_probabilities_are_those_of_another_solver(ways, solver, strength):
    (x, y), (xq, yq) = drawn(20, ways), drawn(15, ways)
    model = LogisticRegression(C=strength, solver=solver, tol=1e-10, max_iter=100_000, random_state=0)
    want = model.fit(x.numpy(), y.numpy()).predict_proba(xq.numpy())
    learner = LinearProbe(nn.Identity(), inverse_strength=strength)
    np.testing.assert_allclose(learner.adapt((x, y))(xq).softmax(1).numpy(), want, rtol=1e-5, atol=1e-7)
    got = learner(Task((x, y), (xq, yq)))
    np.testing.assert_allclose(float(got.loss), -np.log(want[np.arange(15), yq.numpy()]).mean(), rtol=1e-6)


def test_the_objective_is_level_at_the_answer():
    x, y = drawn(20, 4)
    predict = LinearProbe(nn.Identity(), unit=True, inverse_strength=2.0).adapt((x, y))
    w, b = (v.clone().requires_grad_() for v in (predict.model.weight, predict.model.bias))
    unit = x / x.norm(dim=1, keepdim=True)
    cost = nn.functional.cross_entropy(unit @ w.T + b, y, reduction="sum") + w.square().sum() / 4
    assert max(float(g.abs().max()) for g in torch.autograd.grad(cost, (w, b))) < 1e-6


def test_the_order_of_the_samples_does_not_matter():
    (x, y), xq = drawn(20, 4), drawn(8, 4)[0]
    order, learner = torch.randperm(20), LinearProbe(nn.Identity())
    torch.testing.assert_close(learner.adapt((x[order], y[order]))(xq), learner.adapt((x, y))(xq), rtol=1e-6, atol=1e-7)


def test_one_that_is_not_at_its_minimum_says_so(monkeypatch, caplog):
    monkeypatch.setattr(linear_probe, "ITERATIONS", 2)
    with caplog.at_level(logging.WARNING, logger="fastadapt"):
        LinearProbe(nn.Identity(), inverse_strength=77.0).adapt(drawn(20, 4))
    assert "not at its minimum after 2 steps" in caplog.text and "77.0" in caplog.text


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def none(name, *rest, **more):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", none)
    with pytest.raises(MissingExtraError, match=r"pip install 'fastadapt\[probe\]'"):
        LinearProbe(nn.Identity())
