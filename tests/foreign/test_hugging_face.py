"""A local folder of Hugging Face as a backbone: pictures and features are those of transformers itself."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image

from fastadapt import Task
from fastadapt.backbones.backbone import find_backbone
from fastadapt.errors import ConfigError, DataError
from fastadapt.methods import PMF

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
SMALL |= {"image_size": 32, "patch_size": 8}
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 20}
SQUARE, CUT = {"height": 32, "width": 32}, {"shortest_edge": 32}


def convnext():
    return hf.ConvNextModel(hf.ConvNextConfig(hidden_sizes=[4, 8, 8, 8], depths=[1, 1, 1, 1]))


def swin():
    sizes = {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}
    return hf.SwinModel(hf.SwinConfig(image_size=32, patch_size=4, **sizes))


def clip():
    return hf.CLIPModel(hf.CLIPConfig(text_config=TEXT, vision_config=SMALL, projection_dim=8))


def first(net, x):
    return net(pixel_values=x).last_hidden_state[:, 0]


CASES = {
    "vit": (lambda: hf.ViTModel(hf.ViTConfig(**SMALL)), "ViTImageProcessor", {"size": SQUARE}, first),
    "dinov2": (
        lambda: hf.Dinov2Model(hf.Dinov2Config(**SMALL)),
        "BitImageProcessor",
        {"size": {"shortest_edge": 40}, "crop_size": SQUARE, "resample": 3},
        first,
    ),
    "deit": (
        lambda: hf.DeiTModel(hf.DeiTConfig(**SMALL)),
        "DeiTImageProcessor",
        {"size": {"height": 40, "width": 44}, "crop_size": SQUARE, "do_center_crop": True},
        first,
    ),
    "clip": (
        clip,
        "CLIPImageProcessor",
        {"size": CUT, "crop_size": SQUARE},
        lambda net, x: net.get_image_features(pixel_values=x),
    ),
    "convnext": (
        convnext,
        "ConvNextImageProcessor",
        {"size": CUT, "crop_pct": 0.875},
        lambda net, x: net(pixel_values=x).last_hidden_state.mean((2, 3)),
    ),
    "swin": (
        swin,
        "ViTImageProcessor",
        {"size": SQUARE},
        lambda net, x: net(pixel_values=x).last_hidden_state.mean(1),
    ),
}
PICTURES = [(50, 70, 3), (90, 40, 3), (33, 33, 3), (60, 45)]


def processor(name):
    return getattr(hf, f"{name}Pil", None) or getattr(hf, name)


@pytest.fixture(autouse=True)
def single():
    torch.set_default_dtype(torch.float32)


def saved(name, folder):
    """Write a folder as save_pretrained does, and return the network and what makes its pictures."""
    torch.manual_seed(0)
    net, made = CASES[name][0]().eval(), processor(CASES[name][1])(**CASES[name][2])
    net.save_pretrained(folder)
    made.save_pretrained(folder)
    return net, made


@torch.no_grad()
@pytest.mark.parametrize("name", CASES)
def test_pictures_and_features_are_those_of_transformers(name, tmp_path):
    net, made = saved(name, tmp_path)
    found = find_backbone(str(tmp_path))
    for number, shape in enumerate(PICTURES):
        picture = Image.fromarray(np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8))
        picture.save(tmp_path / "p.png")
        seen = found.sight.values(torch.from_numpy(found.sight.read(tmp_path / "p.png"))[None])
        wanted = made(images=picture.convert("RGB"), return_tensors="pt")["pixel_values"]
        torch.testing.assert_close(seen, wanted, rtol=0, atol=1e-5)
        features = CASES[name][3](net, wanted)
        features = features if isinstance(features, torch.Tensor) else features.pooler_output
        torch.testing.assert_close(found.net(seen), features, rtol=1e-4, atol=1e-5)


def test_weights_that_are_not_there_are_no_features(tmp_path):
    saved("vit", tmp_path / "whole")
    hf.ViTModel(hf.ViTConfig(**SMALL), add_pooling_layer=False).save_pretrained(tmp_path / "bare")
    shutil.copy(tmp_path / "whole" / "preprocessor_config.json", tmp_path / "bare")
    find_backbone(str(tmp_path / "bare"))  # the first token needs no pooler
    with pytest.raises(DataError, match="lack 2 tensors of the network, such as pooler"):
        find_backbone(str(tmp_path / "bare"), taken="pooler")
    config = json.loads((tmp_path / "bare" / "config.json").read_text())
    (tmp_path / "bare" / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(DataError, match="which would be random"):
        find_backbone(str(tmp_path / "bare"))
    (tmp_path / "bare" / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(DataError, match="can't load"):
        find_backbone(str(tmp_path / "bare"))


def test_what_is_random_is_refused(tmp_path):
    saved("vit", tmp_path)
    config = hf.ViTMAEConfig(**SMALL, decoder_hidden_size=8, decoder_num_attention_heads=2, decoder_intermediate_size=8)
    hf.ViTMAEModel(config).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="of which it is not known here"):
        find_backbone(str(tmp_path))
    with pytest.raises(ConfigError, match="differ when it is asked twice"):
        find_backbone(str(tmp_path), taken="mean")


def test_another_kind_of_output_is_asked_for_in_words(tmp_path):
    saved("convnext", tmp_path)
    with pytest.raises(ConfigError, match="gives no tokens"):
        find_backbone(str(tmp_path), taken="cls")


@pytest.mark.parametrize("name", ["vit", "dinov2", "clip", "convnext"])
def test_a_folder_goes_on_learning_and_is_fine_tuned_in_each_task(name, tmp_path):
    saved(name, tmp_path)
    backbone = find_backbone(str(tmp_path))
    pictures = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    x, y = backbone.sight.values(torch.from_numpy(pictures)), torch.arange(12) % 2
    learner = PMF(backbone.net, test_steps=2, lr=1e-2)
    task = Task((x[:6], y[:6]), (x[6:], y[6:]))
    learner(task).loss.backward()
    assert sum(float(p.grad.abs().sum()) > 0 for p in learner.parameters() if p.grad is not None) > 5
    before = {key: value.clone() for key, value in backbone.net.state_dict().items()}
    path = [predictor(x[6:]) for predictor in learner.adapting(task.support)]
    assert len(path) == 3 and not torch.allclose(path[0], path[2])
    assert torch.equal(learner.adapt(task.support)(x[6:]), path[2])
    assert all(torch.equal(value, before[key]) for key, value in backbone.net.state_dict().items())
    torch.testing.assert_close(learner.trace(task).outputs[0], torch.stack(path), rtol=1e-4, atol=1e-5)
