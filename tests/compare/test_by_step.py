"""Starts compared step by step: what a rule reaches is computed by hand, and the best is taken for each column."""

import math

import pytest
import torch
from torch import nn

from fastadapt import MSE, SGD, Adam, Tasks
from fastadapt.compare.by_step import Choice, Start, measured, reached, tune_steps
from fastadapt.compare.closed_form_head import closed_form_head, linear_bound
from fastadapt.errors import ConfigError
from fastadapt.losses import SNR


def line(w: float) -> nn.Module:
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, w)
    return net


def tasks(targets) -> Tasks:
    """Return tasks y = target at x = 1, so that a step at rate r takes a share 2 r of what is missing."""
    x, y = torch.ones(len(targets), 4, 1), torch.tensor(targets).view(-1, 1, 1).expand(-1, 4, 1)
    return Tasks((x, y), (x, y))


def test_what_is_reached_is_what_the_rule_makes_of_it():
    found = reached(line(0.0), SGD(0.1), [tasks([1.0, 2.0]), tasks([3.0])], (0, 1, 4), MSE())
    want = [[(t * 0.8**k) ** 2 for k in (0, 1, 4)] for t in (1.0, 2.0, 3.0)]
    torch.testing.assert_close(found, torch.tensor(want))


def test_network_and_rule_are_chosen_for_each_number_of_steps():
    start = Start("both", {"far": line(-4.0), "near": line(0.9)}, {"own": SGD(0.5)})
    rules = {"slow": SGD(0.1), "wild": SGD(1e30)}
    best = tune_steps(start, rules, [tasks([1.0])], (0, 1, 3), MSE())
    assert [best[k].net for k in (0, 1, 3)] == ["near", best[1].net, best[3].net]
    assert best[1].rule == best[3].rule == "own"  # half of twice: one step ends at the target
    values = measured(start, rules, best, [tasks([1.0]), tasks([2.0])], MSE())
    assert values.shape == (2, 3)
    torch.testing.assert_close(values[:, 0], torch.tensor([0.01, 1.21]))
    torch.testing.assert_close(values[:, 1:], torch.zeros(2, 2), atol=1e-10, rtol=0)


def test_more_is_better_where_the_loss_says_so():
    start = Start("line", {"half": line(0.5), "none": line(0.0)})
    best = tune_steps(start, {"still": SGD(0.0)}, [tasks([1.0])], (1,), SNR())
    assert best[1] == Choice("half", "still", pytest.approx(20 * math.log10(2), abs=1e-4))


def test_a_start_that_ends_nowhere_is_said():
    with pytest.raises(ConfigError, match=r"lost reaches no finite number after 3 steps"):
        tune_steps(Start("lost", {"": line(1.0)}), {"wild": SGD(1e30)}, [tasks([2.0])], (0, 3), MSE())


def test_minibatches_of_a_start_are_the_same_each_time():
    x, y = torch.randn(2, 9, 1), torch.randn(2, 9, 1)
    runs = [reached(line(0.0), Adam(0.1), [Tasks((x, y), (x, y))], (5,), MSE(), batch) for batch in (2, 2, None)]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


def test_the_head_is_that_of_least_squares():
    h, y = torch.randn(40, 6), torch.randn(40, 3)
    wide = torch.cat([h, torch.ones(40, 1)], 1).double()
    want = wide @ torch.linalg.lstsq(wide, y.double()).solution
    torch.testing.assert_close(closed_form_head(h, y, ridge=1e-13).double(), want, rtol=1e-5, atol=1e-5)
    assert float(closed_form_head(h, y, ridge=1e9).abs().max()) < 1e-6


def test_no_linear_features_are_better_than_the_bound():
    torch.manual_seed(0)
    signals = torch.randn(30, 3) @ torch.randn(3, 20) + 0.01 * torch.randn(30, 20)
    basis = linear_bound(signals, 3)
    torch.testing.assert_close(basis.T @ basis, torch.eye(3), atol=1e-5, rtol=0)
    left = float((signals - signals @ basis @ basis.T).norm())
    best = float(torch.linalg.svdvals(signals.double())[3:].norm())
    assert left == pytest.approx(best, rel=1e-2)
