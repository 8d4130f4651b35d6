"""The worst tasks are the worst, and are drawn whatever they look like."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import fastadapt as fa
from fastadapt.data.images.classes import ClassImages
from fastadapt.report.worst import draw_worst
from fastadapt.results.answers import worst


def images(ways=3, shots=1, queries=4, channels=0, names=None, classes=12):
    rng = np.random.default_rng(0)
    shape = (classes * 12, 10, 10) + ((channels,) if channels else ())
    pixels = torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))
    names = names or tuple(f"class {i}" for i in range(classes))
    return ClassImages(pixels, np.arange(classes).repeat(12), names, ways, shots, queries)


def learner(ways, channels=1):
    net = nn.Sequential(nn.Flatten(), nn.Linear(100 * channels, ways))
    return fa.MAML(net, fa.cross_entropy, rule=fa.SGD(0.1), steps=2, route="loop")


def looked(path):
    picture = np.asarray(Image.open(path).convert("L"))
    assert min(picture.shape) >= 300 and (picture < 100).mean() > 0.002
    return picture.shape


KINDS = {
    "few tasks": (images(), 3, 1, 2),
    "many": (images(), 3, 1, 30),
    "many classes": (images(ways=12, queries=1), 12, 1, 12),
    "many queries": (images(queries=11), 3, 1, 11),
    "colour": (images(channels=3), 3, 3, 11),
    "long names": (images(names=tuple(f"alphabet/character {i}" for i in range(12))), 3, 1, 11),
    "five shots": (images(shots=5, queries=2), 3, 1, 11),
}


@pytest.mark.long
@pytest.mark.parametrize("name", KINDS)
def test_tasks_of_images_are_drawn(tmp_path, name):
    source, ways, channels, count = KINDS[name]
    judged = learner(ways, channels)
    result = fa.evaluate(judged, source, fa.Protocol(tasks=count))
    height, _ = looked(draw_worst(judged, source, result, tmp_path / "worst.png"))
    assert height > 100 * min(count, 10)


@pytest.mark.long
@pytest.mark.parametrize("form", ["one-hot", "not finite", "no origin"])
def test_other_forms_of_tasks_are_drawn(tmp_path, form):
    source, judged = images(), learner(3)

    def sample(rng):
        task = source.sample(rng)
        if form == "one-hot":
            return fa.Task(*((x, nn.functional.one_hot(y, 3).float()) for x, y in (task.support, task.query)))
        return task

    if form == "not finite":
        nn.init.constant_(judged.model[1].weight, 1e38)
    result = fa.evaluate(judged, sample, fa.Protocol(tasks=12))
    looked(draw_worst(judged, sample, result, tmp_path / "worst.png"))


@pytest.mark.parametrize("count", [1, 7, 12])
def test_tasks_of_points_are_drawn(tmp_path, count):
    judged = fa.MAML(fa.MLP(1, (8,), 1), rule=fa.SGD(0.01), steps=2)
    source = fa.Sinusoid(queries=20, grid=True)
    result = fa.evaluate(judged, source, fa.Protocol(tasks=count))
    looked(draw_worst(judged, source, result, tmp_path / "worst.png"))


def test_what_can_not_be_drawn_is_left_alone(tmp_path):
    def sample(rng):
        x = torch.from_numpy(rng.normal(size=(8, 3))).float()
        return fa.Task((x[:4], x[:4, :2]), (x[4:], x[4:, :2]))

    judged = fa.MAML(nn.Linear(3, 2), rule=fa.SGD(0.01))
    result = fa.evaluate(judged, sample, fa.Protocol(tasks=3))
    assert draw_worst(judged, sample, result, tmp_path / "worst.png") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("higher", "order"), [(True, [3, 1, 0, 2]), (False, [3, 2, 0, 1]), (None, [3, 2, 0, 1])])
def test_the_order_of_the_worst(higher, order):
    values = [0.5, 0.1, 0.9, math.nan]
    assert worst([{"task": i, "m": v} for i, v in enumerate(values)], "m", higher) == order


def test_the_origin_of_a_task_is_what_it_holds():
    names = tuple(f"file{i}" for i in range(24))
    pixels = torch.arange(24, dtype=torch.uint8)[:, None, None].expand(24, 4, 4)
    source = ClassImages(pixels, np.arange(24) // 6, tuple("abcd"), ways=3, shots=2, queries=3, names=names)
    for seed in range(5):
        task, origin = (f(np.random.default_rng(seed)) for f in (source.sample, source.origin))
        for (x, y), files in ((task.support, origin.support), (task.query, origin.query)):
            held = (x[:, 0, 0, 0] * 255).round().int().tolist()
            assert files == [f"file{i}" for i in held]
            assert [origin.classes[label] for label in y.tolist()] == ["abcd"[i // 6] for i in held]
