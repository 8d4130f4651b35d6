"""Random Fourier features, against cosines and sines written out."""

import math

import pytest
import torch

from fastadapt import Predictor, load_predictor, save_predictor
from fastadapt.data.settings import OmniglotData, SinusoidData
from fastadapt.errors import ConfigError
from fastadapt.nets import FourierMLP
from fastadapt.nets.settings import FourierNet, build_net


def test_the_network_sees_cosines_and_sines_of_its_frequencies():
    net = FourierMLP(2, 3, 5, 1, 1, scale=2.0)
    x = torch.rand(4, 2)
    phase = torch.stack([2 * math.pi * sum(b[i] * x[:, i] for i in range(2)) for b in net.frequencies], 1)
    hidden = torch.relu(torch.cat([torch.cos(phase), torch.sin(phase)], 1) @ net.body[0].weight.T + net.body[0].bias)
    torch.testing.assert_close(net(x), hidden @ net.head.weight.T + net.head.bias)


def test_frequencies_have_the_scale_and_are_no_parameters():
    torch.manual_seed(0)
    net = FourierMLP(3, 2000, 4, 2, 1, scale=7.0, sigmoid=True)
    assert 6.8 < float(net.frequencies.std()) < 7.2
    assert "frequencies" in net.state_dict() and "frequencies" not in dict(net.named_parameters())
    output = net(100 * torch.randn(20, 3))
    assert float(output.detach().min()) > 0 and float(output.detach().max()) < 1


def test_a_predictor_keeps_its_frequencies(tmp_path):
    described = FourierNet(features=4, width=6, depth=2).describe(SinusoidData())
    net, x = build_net(described), torch.rand(5, 1)
    again = load_predictor(save_predictor(Predictor(net, details={"net": described}), tmp_path / "kept"))
    assert torch.equal(again(x), net(x))
    with pytest.raises(ConfigError, match="regression"):
        FourierNet().describe(OmniglotData())


def test_what_can_not_be_a_network_is_said():
    for wrong in ({"scale": 0.0}, {"scale": math.nan}, {"features": 0}):
        with pytest.raises(ConfigError, match="FourierMLP needs"):
            FourierMLP(**{"inputs": 1, "features": 2, "width": 3, "depth": 1, "outputs": 1, **wrong})
