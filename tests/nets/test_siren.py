"""The network of sines: how its layers begin, against the variances that its paper derives."""

import math

import pytest
import torch

from fastadapt.data.settings import OmniglotData, SinusoidData
from fastadapt.errors import ConfigError
from fastadapt.nets import Siren
from fastadapt.nets.settings import SirenNet, build_net


@pytest.mark.parametrize(("inputs", "width", "w0"), [(1, 256, 30.0), (2, 128, 30.0), (3, 200, 60.0)])
def test_every_hidden_layer_begins_with_the_same_spread(inputs, width, w0):
    torch.manual_seed(0)
    net = Siren(inputs, width, 5, 3, w0=w0)
    net.requires_grad_(False)
    h = torch.rand(4000, inputs) * 2 - 1
    for i, layer in enumerate(net.body):
        before, h = h, layer(h)
        if i % 2 == 0 and i:
            assert 0.8 < float((w0 * h).std()) < 1.2
        if i % 2 and i > 1:
            assert 0.6 < float(h.std()) < 0.8
            torch.testing.assert_close(h, torch.sin(w0 * before))


def test_a_frequency_belongs_to_its_coordinates():
    torch.manual_seed(0)
    net, half = Siren(2, 16, 2, 1, w0=30.0, first_w0=60.0).double(), Siren(2, 16, 2, 1, w0=30.0, first_w0=30.0).double()
    half.load_state_dict(net.state_dict())
    with torch.no_grad():  # sin(w (W u + b)) with u = (x + 1) / 2 is sin(w / 2 (W x + W 1 + 2 b))
        half.body[0].bias.copy_(net.body[0].weight.sum(1) + 2 * net.body[0].bias)
    x = torch.rand(50, 2, dtype=torch.float64) * 2 - 1
    torch.testing.assert_close(half(x), net((x + 1) / 2))


def test_the_output_is_linear_in_the_last_layer_and_shifted():
    net = Siren(1, 8, 3, 2, first_w0=400.0, output_shift=0.25)
    x = torch.linspace(-1, 1, 7)[:, None]
    want = net.features(x) @ net.head.weight.T + net.head.bias + 0.25
    torch.testing.assert_close(net(x), want)
    first = torch.sin(400.0 * (x @ net.body[0].weight.T + net.body[0].bias))
    torch.testing.assert_close(net.body[:2](x), first)
    assert (
        float(net.body[0].weight.detach().abs().max()) <= 1
        and float(net.head.weight.detach().abs().max()) <= math.sqrt(6 / 8) / 30
    )


def test_what_can_not_be_a_network_is_said():
    with pytest.raises(ConfigError, match="at least 1, got 2, 0, 4, 3"):
        Siren(2, 0, 4, 3)
    for w0 in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match="finite and > 0"):
            Siren(2, 4, 1, 3, w0=w0)
        with pytest.raises(ConfigError, match="finite and > 0"):
            Siren(2, 4, 1, 3, first_w0=w0)


def test_settings_of_a_run_describe_it():
    described = SirenNet(width=8, depth=2).describe(SinusoidData(oracle=True))
    net = build_net(described)
    assert isinstance(net, Siren)
    assert net(torch.zeros(5, 3)).shape == (5, 1)
    with pytest.raises(ConfigError, match="regression"):
        SirenNet().describe(OmniglotData())
