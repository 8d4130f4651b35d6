import math

import pytest
import torch
from torch import nn

from fastadapt import MSE, CrossEntropy, cross_entropy, mse
from fastadapt.errors import ConfigError


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
