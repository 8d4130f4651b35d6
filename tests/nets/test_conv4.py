"""The four-block network: the maps that the papers give, and the order of pooling and ReLU."""

import pytest
import torch
import torch.nn.functional as F

from fastadapt import Conv4
from fastadapt.errors import ConfigError


@pytest.mark.parametrize(
    "settings, sides",
    [
        ({"size": 28}, [14, 7, 4, 2]),
        ({"size": 84, "down": "max"}, [42, 21, 10, 5]),
        ({"size": 84, "down": "max_same"}, [42, 21, 11, 6]),
        ({"size": 84, "down": "stride"}, [42, 21, 11, 6]),
    ],
)
def test_the_maps_are_halved_as_in_the_papers(settings, sides):
    net = Conv4(3, 2, 5, pooled="flatten", **settings)
    x, found = torch.rand(2, 3, settings["size"], settings["size"]), []
    for block in net.blocks:
        x = block(x)
        found.append(x.shape[-1])
    assert found == sides and net.head.in_features == 2 * sides[-1] ** 2
    assert net(torch.rand(2, 3, settings["size"], settings["size"])).shape == (2, 5)


def test_the_mini_imagenet_networks_have_the_published_number_of_features():
    assert Conv4(3, 32, 5, size=84, down="max", pooled="flatten").head.in_features == 800  # MAML
    assert (
        Conv4(3, 32, 5, size=84, down="max_same", pooled="flatten", affine="both").head.in_features == 1152
    )  # Reptile


def test_pooling_as_tensorflow_pads_before_or_after_the_relu_is_the_same(double):
    """Computed by hand: "same" padding adds one row and column at the end, which never win."""
    net = Conv4(1, 3, 2, size=21, down="max_same", pooled="flatten", affine="both")
    x = torch.randn(4, 1, 21, 21)
    maps = x
    for conv, norm, _, _ in net.blocks:
        maps = norm(conv(maps))
        odd = maps.shape[-1] % 2
        padded = F.pad(maps, (0, odd, 0, odd), value=-torch.inf)
        windows = padded.unfold(2, 2, 2).unfold(3, 2, 2)
        maps = F.relu(windows.amax((-1, -2)))
    torch.testing.assert_close(net.features(x), maps.flatten(1))


@pytest.mark.parametrize("settings", [{"down": "min"}, {"pooled": "max"}, {"affine": "scale"}, {"size": 15}])
def test_settings_are_checked(settings):
    with pytest.raises(ConfigError, match="Conv4"):
        Conv4(1, 2, 2, **settings)
