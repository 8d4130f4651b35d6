"""FiLM, against a loop over channels."""

import pytest
import torch
from torch import nn

from fastadapt import Conv4
from fastadapt.errors import ConfigError
from fastadapt.nets import FiLM


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5), (2, 3, 4, 5), (2, 3, 2, 2, 2)])
def test_each_channel_is_scaled_and_shifted(shape):
    layer, x = FiLM(3, 4), torch.randn(shape)
    assert torch.equal(layer(x), x)  # at first it changes nothing
    nn.init.normal_(layer.context)
    numbers = layer.film.weight @ layer.context + layer.film.bias
    for channel in range(3):
        want = numbers[channel] * x[:, channel] + numbers[3 + channel]
        torch.testing.assert_close(layer(x)[:, channel], want)


def test_one_context_can_steer_several_layers():
    first, second = FiLM(3, 4), FiLM(2, 4)
    second.context = first.context
    net = nn.Sequential(nn.Linear(2, 3), first, nn.Linear(3, 2), second)
    assert [name for name, _ in net.named_parameters() if "context" in name] == ["1.context"]


def test_what_does_not_fit_is_said():
    with pytest.raises(ConfigError, match=r"built for 3 channels .* shape \(2, 4\)"):
        FiLM(3, 1)(torch.zeros(2, 4))
    for build in (lambda: FiLM(0, 1), lambda: FiLM(1, 0), lambda: Conv4(1, 2, 2, film=-1)):
        with pytest.raises(ConfigError, match=r"got (0|1|-1)"):
            build()
