"""ResNet-12: its sizes, its blocks against the formula, and as the network of a run."""

import pytest
import torch
import torch.nn.functional as F

from fastadapt import ResNet12, select
from fastadapt.errors import ConfigError
from fastadapt.runs.config import OmniglotData, ResNet12Net, RunConfig, SinusoidData

SMALL = (2, 3, 4, 5)


def by_hand(channels, ways, widths):
    """Count the parameters: 3x3 three times, 1x1 once, scale and shift of four batch norms, the head."""
    count, before = 0, channels
    for width in widths:
        count += 9 * before * width + 9 * width * width + 9 * width * width + before * width + 4 * 2 * width
        before = width
    return count + before * ways + ways


@pytest.mark.parametrize(
    "widths, count", [((64, 128, 256, 512), 7_999_365), ((64, 160, 320, 640), 12_424_320 + 641 * 5)]
)
def test_the_papers_networks_have_their_numbers_of_parameters(widths, count):
    net = ResNet12(3, 5, widths=widths)
    assert sum(p.numel() for p in net.parameters()) == count == by_hand(3, 5, widths)
    assert sum(isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3) for m in net.modules()) == 12


@pytest.mark.parametrize("channels, height, width", [(1, 16, 16), (1, 28, 28), (3, 84, 84), (3, 33, 20)])
def test_shapes(channels, height, width):
    net, x = ResNet12(channels, 7, widths=SMALL), torch.randn(2, channels, height, width)
    assert net(x).shape == (2, 7)
    assert net.features(x).shape == (2, 5)
    assert net.blocks(x).shape == (2, 5, height // 16, width // 16)
    assert torch.equal(net.eval().head(net.features(x)), net(x))


def test_a_block_is_its_formula():
    torch.manual_seed(0)
    net, x = ResNet12(2, 3, widths=SMALL), torch.randn(3, 2, 16, 16)
    weights = [p.detach() for p in net.blocks[0].parameters()]  # in the order of the layers: W, scale, shift

    def layer(maps, i):
        maps = F.conv2d(maps, weights[3 * i], padding=weights[3 * i].shape[-1] // 2)
        mean, variance = maps.mean((0, 2, 3), keepdim=True), maps.var((0, 2, 3), keepdim=True, unbiased=False)
        scale, shift = weights[3 * i + 1][:, None, None], weights[3 * i + 2][:, None, None]
        return (maps - mean) / (variance + 1e-5).sqrt() * scale + shift

    def leaky(maps):
        return torch.where(maps > 0, maps, 0.1 * maps)

    total = leaky(layer(leaky(layer(leaky(layer(x, 0)), 1)), 2) + layer(x, 3))
    want = total.unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5))
    torch.testing.assert_close(net.blocks[0](x), want)


def test_the_head_is_its_last_layer():
    assert select(ResNet12(1, 2, widths=SMALL), "head") == ("head.weight", "head.bias")


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"widths": (4, 4, 4)}, "four widths .* \\(4, 4, 4\\)"),
        ({"widths": (4, 4, 0, 4)}, "widths >= 1"),
        ({"channels": 0}, "got 0, 2"),
        ({"ways": 0}, "got 1, 0"),
    ],
)
def test_settings_are_checked(settings, words):
    with pytest.raises(ConfigError, match=words):
        ResNet12(**{"channels": 1, "ways": 2, "widths": SMALL, **settings})


def test_images_that_are_too_small_are_named():
    with pytest.raises(ConfigError, match="16x16 pixels, got 15x20"):
        ResNet12(1, 2, widths=SMALL)(torch.zeros(1, 1, 15, 20))


def test_it_is_the_network_of_a_run():
    config = RunConfig(OmniglotData(ways=3), ResNet12Net(widths=SMALL))
    learner = RunConfig.from_json(config.to_json()).build()
    assert isinstance(learner.model, ResNet12)
    assert learner.model(torch.zeros(2, 1, 28, 28)).shape == (2, 3)
    with pytest.raises(ConfigError, match="needs images; choose MLPNet"):
        RunConfig(SinusoidData(), ResNet12Net()).build()
