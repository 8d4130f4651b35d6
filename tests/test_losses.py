import math

import pytest
import torch
from torch import nn

from fastadapt import MSE, CrossEntropy, cross_entropy, mse
from fastadapt.errors import ConfigError, TaskError
from fastadapt.losses import PSNR, SNR


def test_mean_squared_error_is_over_points_and_outputs():
    y = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert mse(nn.Identity(), (torch.zeros(2, 2), y)) == 30 / 4
    assert MSE().metrics(torch.zeros(2, 2), (None, y)) == {"mse": 30 / 4}


@pytest.mark.parametrize(("reduction", "scale"), [("mean", 1), ("sum_over_classes", 3), ("sum", 6)])
def test_reductions_of_the_cross_entropy(reduction, scale):
    logits, y = torch.randn(6, 3), torch.arange(6) % 3
    by_hand = -torch.stack([math.e ** logits[i, y[i]] / (math.e ** logits[i]).sum() for i in range(6)]).log().mean()
    torch.testing.assert_close(CrossEntropy(reduction)(nn.Identity(), (logits, y)), scale * by_hand)


def test_accuracy_is_the_share_of_right_rows():
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [5.0, 1.0], [0.0, 3.0]])
    assert cross_entropy.metrics(logits, (None, torch.tensor([0, 1, 1, 1]))) == {"accuracy": 0.75}


def test_an_unknown_reduction_is_refused():
    with pytest.raises(ConfigError, match="median"):
        CrossEntropy("median")


def true_accuracy(output, labels):
    rows = [output[i].argmax(0).flatten() == labels[i].flatten() for i in range(len(output))]
    return torch.cat(rows).float().mean()


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 3), (6, 4, 4), (5, 3, 2, 4)])
def test_accuracy_has_its_classes_where_the_loss_has_them(shape):
    output, labels = torch.randn(shape), torch.randint(shape[1], (shape[0], *shape[2:]))
    want = true_accuracy(output, labels)
    onehot = nn.functional.one_hot(labels, shape[1]).movedim(-1, 1).float()
    for y in (labels, onehot, 0.9 * onehot + 0.1 / shape[1]):
        assert cross_entropy(nn.Identity(), (output, y)).isfinite()
        torch.testing.assert_close(cross_entropy.metrics(output, (None, y))["accuracy"], want)


def test_labels_that_the_loss_leaves_out_do_not_count():
    output = torch.tensor([[2.0, 1.0], [2.0, 1.0], [0.0, 3.0]])
    assert cross_entropy.metrics(output, (None, torch.tensor([0, 1, -100]))) == {"accuracy": 0.5}


@pytest.mark.parametrize(
    "y", [torch.zeros(6, 1, dtype=torch.long), torch.zeros(6), torch.zeros(6, 4), torch.zeros(3, dtype=torch.long)]
)
def test_labels_of_another_shape_are_not_broadcast(y):
    with pytest.raises(TaskError, match=r"shape \(6, 3\), classes being axis 1, and the labels have"):
        cross_entropy.metrics(torch.randn(6, 3), (None, y))


def test_sums_know_the_classes_of_a_sequence_and_of_probabilities():
    output, labels = torch.randn(6, 3, 4), torch.randint(3, (6, 4))
    plain = nn.functional.cross_entropy(output, labels)
    for y in (labels, nn.functional.one_hot(labels, 3).movedim(-1, 1).float()):
        torch.testing.assert_close(CrossEntropy("sum_over_classes")(nn.Identity(), (output, y)), 3 * plain)
        torch.testing.assert_close(CrossEntropy("sum")(nn.Identity(), (output, y)), 24 * plain)


@pytest.mark.parametrize("batch", [{"x": 1, "y": 2}, torch.zeros(2, 3), (torch.zeros(2),), (1, 2, 3)])
@pytest.mark.parametrize("loss", [MSE(), CrossEntropy()])
def test_a_batch_that_is_no_pair_is_told(loss, batch):
    with pytest.raises(TaskError, match=r"takes a batch \(x, y\), got .*; write a function loss\(model, batch\)"):
        loss(nn.Identity(), batch)


@pytest.mark.parametrize("peak", [1.0, 255.0])
def test_psnr_is_the_squared_error_in_decibels_and_more_is_better(peak):
    output, y = peak * torch.rand(50, 3), peak * torch.rand(50, 3)
    error = sum((a - b) ** 2 for a, b in zip(output.flatten().tolist(), y.flatten().tolist(), strict=True)) / 150
    loss = PSNR(peak)
    assert float(loss(nn.Identity(), (output, y))) == pytest.approx(error, rel=1e-5)
    want = 20 * math.log10(peak) - 10 * math.log10(error)
    assert float(loss.metrics(output, (None, y))["psnr"]) == pytest.approx(want, abs=1e-4)
    assert loss.higher_is_better and float(loss.metrics(y, (None, y))["psnr"]) == math.inf


def test_snr_is_zero_for_silence_and_counts_power():
    y = torch.randn(40, 1)
    assert float(SNR().metrics(torch.zeros(40, 1), (None, y))["snr"]) == pytest.approx(0, abs=1e-5)
    assert float(SNR().metrics(y + 0.01 * y, (None, y))["snr"]) == pytest.approx(40, abs=1e-2)
    assert SNR().higher_is_better


@pytest.mark.parametrize("peak", [0.0, -1.0, math.inf, math.nan])
def test_a_peak_that_is_none_is_refused(peak):
    with pytest.raises(ConfigError, match="peak is the largest value"):
        PSNR(peak)
