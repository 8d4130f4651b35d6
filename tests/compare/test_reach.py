"""What class means reach on a folder, against a computation by hand, and the rule that says whether to meta-train."""

import dataclasses
import json

import numpy as np
import pytest

from drawn_folder import content, make_folder, picture, put
from fastadapt.backbones.backbone import find_backbone
from fastadapt.cli import main
from fastadapt.commands.backbone_options import look_at_pictures
from fastadapt.compare import reach as module
from fastadapt.compare.reach import Reached, advice_of, reach, reached_by, some_of

BASE = Reached("net", False, 0.6, 0.02, 0.2, 5, 1, 15, 200, 60)


def rule(pixels, accuracy, classes=100):
    floor = dataclasses.replace(BASE, baseline=True, accuracy=pixels)
    return advice_of([floor, dataclasses.replace(BASE, accuracy=accuracy)], classes)[0]


def test_the_rule():
    assert "is likely to pay: pixels alone have 50 %" in rule(0.4, 0.6)
    assert "is unlikely to pay: pixels alone have 10 %" in rule(0.24, 0.6)
    assert "is unlikely to pay: class means on these features are right in 90 % or more" in rule(0.4, 0.95)
    assert "is likely to pay" in rule(0.2, 0.21)  # the features themselves are no better than chance
    assert "and here are 12" in rule(0.4, 0.6, 12) and "and here are" not in rule(0.4, 0.6)
    alone = advice_of([dataclasses.replace(BASE, baseline=True)], 100)
    assert "nobody has trained" in alone[0] and "likely" not in " ".join(alone)


@pytest.fixture
def coloured(tmp_path):
    for c in range(8):
        for i in range(6):
            shifts = [16 * c * (channel == 0) for channel in range(3) for _ in range(256)]
            image = picture(100 * c + i, 16, 16, "RGB")
            image = image.point([min(255, v // 2 + shift) for v, shift in zip([*range(256)] * 3, shifts, strict=True)])
            put(tmp_path / "photos" / f"class{c}" / f"{i}.png", content(image))
    return tmp_path / "photos"


def test_it_is_the_accuracy_of_class_means(coloured, monkeypatch):
    monkeypatch.setattr(module, "TASKS", 40)
    pictures, backbone = look_at_pictures(coloured), find_backbone("pixels", size=8)
    found = reach(pictures, backbone, ways=3, shots=2, queries=4)
    pixels = np.stack([backbone.sight.read(path) for path in pictures.paths]).reshape(8, 6, -1) / 255
    z = pixels / np.linalg.norm(pixels, axis=-1, keepdims=True)
    rng, right = np.random.default_rng(0), []
    for _ in range(400):
        chosen = np.stack([z[c][rng.permutation(6)] for c in rng.choice(8, 3, replace=False)])
        means, asked = chosen[:, :2].mean(1), chosen[:, 2:]
        distances = ((asked[:, :, None] - means) ** 2).sum(-1)
        right.append((distances.argmin(-1) == np.arange(3)[:, None]).mean())
    assert abs(found.accuracy - np.mean(right)) < 3 * found.ci95 and found.accuracy > 0.5
    assert (found.chance, found.classes, found.tasks) == (1 / 3, 8, 40)


def test_some_pictures_are_spread_over_the_classes_that_have_enough(tmp_path):
    make_folder(tmp_path, classes=7, images=4, side=16)
    (tmp_path / "class2" / "0.png").unlink()
    some = some_of(look_at_pictures(tmp_path), 4, classes=3)
    assert some.classes == [name for name in ("class0", "class3", "class6") for _ in range(4)]


def test_time_is_bounded_and_pixels_see_the_same_classes(coloured, monkeypatch):
    monkeypatch.setattr(module, "TASKS", 5)
    slow = dataclasses.replace(find_backbone("conv4", size=16), name="slow")
    assert reach(look_at_pictures(coloured), slow, ways=3, shots=1, queries=5, seconds=0).classes == 3
    monkeypatch.setattr(module, "SECONDS", 0)
    floor, found = reached_by(look_at_pictures(coloured), slow, ways=3, shots=1)
    assert floor.classes == found.classes and floor.queries == 5


def test_check_tells_it(coloured, monkeypatch, capsys):
    monkeypatch.setattr(module, "TASKS", 5)
    monkeypatch.setenv("FASTADAPT_CACHE", str(coloured.parent / "cache"))
    (coloured.parent / "mine.py").write_text("from torch import nn\ndef net():\n    return nn.AvgPool2d(4)\n")
    monkeypatch.syspath_prepend(coloured.parent)
    words = ["check", str(coloured), "--backbone", "mine:net", "--values", "unit", "--backbone-size", "16"]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["baseline"] for each in told["frozen features"]] == [True, False]
    assert "meta-training a small network is" in told["meta-training"][0]
    assert main(["check", str(coloured)]) == 0
    assert "by the pixels of 28x28" in (text := capsys.readouterr().out) and "nobody has trained" in text
    assert main(["check", str(coloured), "--no-measure"]) == 0
    assert "class mean" not in capsys.readouterr().out
    assert main(["check", str(coloured), "--backbone", "mine:net"]) == 2
