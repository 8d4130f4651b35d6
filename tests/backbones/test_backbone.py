"""A backbone by the words that name it, and what it sees of a picture; by hand in numpy and Pillow."""

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from PIL import Image
from torch import nn

from backbones.onnx_files import write
from drawn_folder import content, picture, put
from fastadapt.backbones import backbone as module
from fastadapt.backbones.backbone import find_backbone
from fastadapt.backbones.sight import Sight
from fastadapt.errors import ConfigError, DataError, MissingExtraError


def weight_of(path):
    import onnx

    return numpy_helper.to_array(onnx.load(path).graph.initializer[0])


@pytest.mark.parametrize(
    ("values", "factor", "mean", "std"),
    [
        ("unit", 1 / 255, 0, 1),
        ("signed", 1 / 255, 0.5, 0.5),
        ("bytes", 1, 0, 1),
        ("imagenet", 1 / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ],
)
def test_an_onnx_file_gets_the_centre_at_its_size_with_the_values_of_its_training(values, factor, mean, std, tmp_path):
    file = put(tmp_path / "p.png", content(picture(1, 20, 12, "RGB")))
    found = find_backbone(str(write(tmp_path / "net.onnx")), values=values)
    cut = Image.open(file).resize((13, 8), Image.Resampling.BICUBIC).crop((2, 0, 10, 8))  # 20 * 8 / 12 = 13.3 wide
    by_hand = ((np.asarray(cut, dtype=np.float64) * factor - mean) / std).mean((0, 1)) @ weight_of(
        tmp_path / "net.onnx"
    )
    seen = found.net(found.sight.values(torch.from_numpy(found.sight.read(file))[None]))
    np.testing.assert_allclose(seen[0].numpy(), by_hand, rtol=1e-4, atol=1e-4)


def test_grey_pictures_become_rgb_and_small_ones_larger(tmp_path):
    file = put(tmp_path / "p.png", content(picture(1, 4, 4)))
    pixels = Sight.named("unit", 8).read(file)
    assert pixels.shape == (8, 8, 3) and (pixels == pixels[..., :1]).all()
    assert Sight.named("unit", 8, channels=1).read(file).shape == (8, 8, 1)
    with pytest.raises(DataError, match="is not a PNG"):
        Sight.named("unit", 8).read(put(tmp_path / "q.png", b"text"))


def test_channels_may_be_the_last_axis_and_sizes_open(tmp_path):
    net = str(write(tmp_path / "net.onnx", ("n", "h", "w", 3), axes=(1, 2)))
    assert find_backbone(net, values="unit", size=16).sight.last
    with pytest.raises(ConfigError, match="takes pictures of any size; say which with --size"):
        find_backbone(net, values="unit")


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        (("n", 3, 8, 8), {}, "does not say what pixels become.*--values"),
        (("n", 3, 8, 8), {"values": "unit", "size": 16}, "takes pictures of 8x8 pixels, and square ones of --size 16"),
        (("n", 3, 8, 6), {"values": "unit"}, "takes pictures of 8x6 pixels"),
        (("n", 4, 8, 8), {"values": "unit"}, "1 or 3 channels as their first or last axis"),
        (("n", 3, 8, 8), {"values": "unit", "output": "logits"}, "has no output 'logits', only features"),
    ],
)
def test_what_a_file_leaves_open_is_asked_for(shape, options, words, tmp_path):
    axes = tuple(range(2, len(shape)))
    with pytest.raises(ConfigError, match=words):
        find_backbone(str(write(tmp_path / "net.onnx", shape, axes)), **options)


def test_names_tell_backbones_apart_and_not_files(tmp_path):
    one = find_backbone(str(write(tmp_path / "a.onnx")), values="unit").name
    assert one == find_backbone(str(write(tmp_path / "b.onnx")), values="unit").name
    assert one != find_backbone(str(tmp_path / "a.onnx"), values="signed").name
    assert one != find_backbone(str(write(tmp_path / "c.onnx", seed=1)), values="unit").name


NETS = """
import torch
from torch import nn
from torch.nn import Dropout

def good():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Dropout(0.9))

class Shared(nn.Module):
    def forward(self, x):
        return (x - x.mean(0)).flatten(1)

class Chance(nn.Module):
    def forward(self, x):
        return x.flatten(1) + torch.rand(3 * 64)

def grey():
    return nn.Conv2d(1, 4, 3)

def no_module():
    return 3

def broken():
    raise RuntimeError("no weights here")

def infinite():
    return nn.Hardtanh() if False else nn.Threshold(2.0, float("inf"))
"""


@pytest.fixture
def nets(tmp_path, monkeypatch):
    (tmp_path / "nets_of_mine.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)


def test_a_function_of_the_user_gives_the_module(nets):
    found = find_backbone("nets_of_mine:good", values="unit", size=8)
    assert found.net(torch.rand(2, 3, 8, 8)).flatten(1).shape == (2, 4)
    assert not found.net.training and not any(p.requires_grad for p in found.net.parameters())
    assert found.name == find_backbone("nets_of_mine:good", values="unit", size=8).name


@pytest.mark.parametrize(
    ("words", "options", "told"),
    [
        ("nets_of_mine:good", {"values": "unit"}, "does not say which pictures it takes; give their --size"),
        ("nets_of_mine:good", {"size": 8}, "does not say what pixels become"),
        ("nets_of_mine:Shared", {"values": "unit", "size": 8}, "depend on the other pictures of a batch"),
        ("nets_of_mine:Chance", {"values": "unit", "size": 8}, "differ when it is asked twice"),
        ("nets_of_mine:grey", {"values": "unit", "size": 8}, "can't take pictures of"),
        ("nets_of_mine:infinite", {"values": "unit", "size": 8}, "not finite even for noise"),
        ("nets_of_mine:no_module", {"values": "unit", "size": 8}, "gave a int, and a backbone is a torch.nn.Module"),
        ("nets_of_mine:broken", {"values": "unit", "size": 8}, "RuntimeError: no weights here"),
        ("nets_of_mine:absent", {"values": "unit", "size": 8}, "AttributeError"),
        ("no_such_module:f", {"values": "unit", "size": 8}, "ModuleNotFoundError"),
        ("resnet50", {}, "there is no backbone 'resnet50'; give a file net.onnx"),
    ],
)
def test_what_can_be_no_backbone_is_refused_with_the_reason(words, options, told, nets):
    with pytest.raises(ConfigError, match=told):
        find_backbone(words, **options)


def test_baselines_say_that_nobody_trained_them():
    torch.manual_seed(3)
    before = torch.rand(1)
    torch.manual_seed(3)
    pixels, conv = find_backbone("pixels"), find_backbone("conv4", size=32)
    assert torch.equal(torch.rand(1), before)  # no draw of the user's was taken
    assert pixels.baseline and conv.baseline and conv.net(torch.rand(2, 3, 32, 32)).shape == (2, 64)
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(conv.net(x), find_backbone("conv4", size=32).net(x))


def test_folders_that_are_none_of_hugging_face(tmp_path):
    with pytest.raises(ConfigError, match="it has no config"):
        find_backbone(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(DataError, match="no weights in safetensors"):
        find_backbone(str(tmp_path))
    with pytest.raises(ConfigError, match="says size and values itself"):
        find_backbone(str(tmp_path), size=224)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match="no preprocessor_config"):
        find_backbone(str(tmp_path))
    (tmp_path / "preprocessor_config.json").write_text('{"size": 224, "do_pad": true, "resample": 2}')
    with pytest.raises(ConfigError, match="asks for do_pad, which is not done here"):
        find_backbone(str(tmp_path))
    (tmp_path / "preprocessor_config.json").write_text('{"size": 224, "image_mean": [0.5], "image_std": [0.5]}')
    with pytest.raises(ConfigError, match="it names no resample"):
        find_backbone(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "vit_mae"}')
    with pytest.raises(ConfigError, match="type 'vit_mae', of which it is not known here"):
        find_backbone(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DataError, match=r"config\.json is damaged"):
        find_backbone(str(tmp_path))


def test_transformers_are_asked_for_where_they_are_missing(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    facts = '{"size": 8, "resample": 2, "image_mean": [0.5], "image_std": [0.5], "feature_extractor_type": "ViT"}'
    (tmp_path / "preprocessor_config.json").write_text(facts)
    with pytest.raises(MissingExtraError, match=r"pip install 'fastadapt\[huggingface\]'"):
        find_backbone(str(tmp_path))


def test_an_identity_has_no_weights_and_is_still_named():
    assert isinstance(find_backbone("pixels").net, nn.Flatten)
    assert module.PIXELS in module.KINDS
