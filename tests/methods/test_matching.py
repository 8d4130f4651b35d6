"""Matching networks, against loops over samples and an LSTM written out from its gates."""

import math

import pytest
import torch
from torch import nn

from fastadapt import Task
from fastadapt.errors import ConfigError
from fastadapt.methods import MatchingNet

pytestmark = pytest.mark.usefixtures("double")
SUPPORT = torch.tensor([[1, 0], [0, 1], [1, 1], [-1, 0]]).double(), torch.tensor([0, 0, 1, 1])
QUERY = torch.tensor([[1, 0.5]]).double()


def cosine(a, b):
    return (a * b).sum() / (a.norm() * b.norm())


def probabilities(f, g, y, ways, scale=1.0):
    """Return `P(c | x) = sum_i a_i 1[y_i = c]`, one query after another."""
    rows = []
    for q in f:
        weights = [math.e ** (scale * cosine(q, known)) for known in g]
        total = sum(weights)
        rows.append(
            torch.stack([sum(w for w, c in zip(weights, y, strict=True) if c == k) / total for k in range(ways)])
        )
    return torch.stack(rows)


def cell(x, h, c, w_x, w_h, b):
    """One step of an LSTM; torch keeps the gates in the order input, forget, cell, output."""
    i, f, g, o = (w_x @ x + w_h @ h + b).chunk(4)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def read_forward(rows, lstm, suffix):
    w_x, w_h = (getattr(lstm, f"weight_{kind}_l0{suffix}") for kind in ("ih", "hh"))
    b = getattr(lstm, f"bias_ih_l0{suffix}") + getattr(lstm, f"bias_hh_l0{suffix}")
    h = c = torch.zeros(rows.shape[1])
    out = []
    for row in rows:
        h, c = cell(row, h, c, w_x, w_h, b)
        out.append(h)
    return torch.stack(out)


def full_context(f, g, comparison, reads):
    """Return queries and supports after they have read the support set, by the equations of the paper's appendix."""
    lstm, reader = comparison.context, comparison.reader
    known = read_forward(g, lstm, "") + read_forward(g.flip(0), lstm, "_reverse").flip(0) + g
    seen = []
    for q in f:
        h, c = torch.zeros_like(q), torch.zeros_like(q)
        for _ in range(reads):
            attention = torch.softmax(torch.stack([h @ k for k in known]), 0)
            r = sum(a * k for a, k in zip(attention, known, strict=True))
            h, c = cell(torch.cat((q, r)), h, c, reader.weight_ih, reader.weight_hh, reader.bias_ih + reader.bias_hh)
            h = h + q
        seen.append(h)
    return torch.stack(seen), known


def test_the_golden_attention():
    outputs = MatchingNet(nn.Identity()).adapt(SUPPORT)(QUERY)
    torch.testing.assert_close(outputs.exp(), torch.tensor([[0.572756, 0.427244]]), rtol=0, atol=1e-6)
    trace = MatchingNet(nn.Identity()).trace(Task(SUPPORT, (QUERY, torch.tensor([1]))))
    assert abs(float(trace.losses) - 0.850400) < 1e-6  # the negative log-likelihood


def test_the_golden_sum_of_cosines():
    outputs = MatchingNet(nn.Identity(), votes="sum").adapt(SUPPORT)(QUERY)
    torch.testing.assert_close(outputs.softmax(1), torch.tensor([[0.783704, 0.216296]]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 4.0])
@pytest.mark.parametrize("reads", [None, 1, 3])
def test_loss_and_gradient_are_those_written_out(reads, scale):
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    context = {} if reads is None else {"context": 3, "reads": reads}
    learner = MatchingNet(net, scale=scale, **context)
    y = torch.tensor([0, 2, 1, 1, 0, 2, 2])
    task = Task((torch.randn(7, 4), y), (torch.randn(5, 4), torch.tensor([0, 1, 2, 2, 1])))
    f, g = net(task.query[0]), net(task.support[0])
    if reads is not None:
        f, g = full_context(f, g, learner.comparison, reads)
    want = -probabilities(f, g, y, 3, scale)[range(5), task.query[1]].log().mean()
    outcome = learner(task)
    torch.testing.assert_close(outcome.loss, want)
    params = list(learner.parameters())
    for got, expected in zip(*(torch.autograd.grad(v, params) for v in (outcome.loss, want)), strict=True):
        torch.testing.assert_close(got, expected)


def test_full_context_with_lstm_weights_of_zero_is_plain():
    net = nn.Linear(4, 3)
    plain, full = MatchingNet(net), MatchingNet(net, context=3)
    with torch.no_grad():
        for p in full.comparison.parameters():
            p.zero_()
    support, x = (torch.randn(6, 4), torch.arange(6) % 3), torch.randn(5, 4)
    torch.testing.assert_close(full.adapt(support)(x), plain.adapt(support)(x))


def test_without_a_scale_probabilities_stay_near_to_each_other():
    x = torch.cat((torch.ones(1, 3), -torch.ones(4, 3)))
    best = MatchingNet(nn.Identity()).adapt((x, torch.arange(5)))(torch.ones(1, 3)).exp()[0, 0]
    assert abs(float(best) - math.e / (math.e + 4 / math.e)) < 1e-9  # 0.65
    assert MatchingNet(nn.Identity(), scale=10.0).adapt((x, torch.arange(5)))(torch.ones(1, 3)).exp()[0, 0] > 0.99


@pytest.mark.parametrize("settings", [{"scale": 0.0}, {"votes": "most"}, {"context": 0}, {"reads": -1}])
def test_settings_outside_their_range_are_refused(settings):
    with pytest.raises(ConfigError, match="matching needs votes"):
        MatchingNet(nn.Identity(), **settings)
