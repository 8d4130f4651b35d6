"""Images go to the device where their tasks are used, if they fit there."""

import sys

import numpy as np
import pytest
import torch

from fastadapt import MAML, SGD, Conv4, CrossEntropy, Protocol, Sinusoid, Training, evaluate, meta_train
from fastadapt.data.images.classes import ClassImages
from fastadapt.data.images.flat import AllClasses
from fastadapt.data.images.resident import resident
from fastadapt.tasks import draw_batch

META = torch.device("meta")


def images():
    drawn = torch.randint(256, (60, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ClassImages(drawn, np.arange(60) // 6, tuple("abcdefghij"), ways=3, shots=2, queries=1, rotation="per_class")


@pytest.mark.parametrize("make", [images, lambda: AllClasses(images(), 8)], ids=["tasks", "flat"])
def test_images_go_where_they_fit_and_their_tasks_are_made_there(make):
    source, size = make(), 60 * 16 * 16
    assert resident(source, META, room=size - 1) is source
    assert resident(source, torch.device("cpu")) is source
    there = resident(source, META, room=size)
    assert type(there) is type(source) and len(there) == len(source)
    (x, y), _ = vars(there.sample(np.random.default_rng(0))).values()
    (x_here, y_here), _ = vars(source.sample(np.random.default_rng(0))).values()
    assert x.device == y.device == META and x.shape == x_here.shape and y.shape == y_here.shape
    assert resident(there, META, room=size) is there


def test_other_sources_stay_as_they_are():
    waves = Sinusoid()
    assert resident(waves, META, room=1e12) is waves
    assert resident(waves.sample, META, room=1e12) == waves.sample


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_a_gpu_training_and_evaluation_draw_the_tasks_of_the_cpu():
    source, device = images(), torch.device("cuda")
    [here] = draw_batch(source, seed=0, split="train", indices=range(4))
    [there] = draw_batch(resident(source, device), seed=0, split="train", indices=range(4))
    assert there.support[0].is_cuda
    assert torch.equal(there.support[0].cpu(), here.support[0])
    learner = MAML(Conv4(1, 4, 3, size=16).cuda(), CrossEntropy(), rule=SGD(0.1))
    meta_train(learner, source, Training(steps=2, meta_batch=2), quiet=True)
    assert len(evaluate(learner, source, Protocol(tasks=4, steps=1)).per_task) == 4


class Recorded:
    """Images as they would be on a device; keeps how many tasks were drawn."""

    def __init__(self):
        self.drawn, self.images = 0, images()

    def sample(self, rng):
        self.drawn += 1
        return self.images.sample(rng)


@pytest.mark.parametrize("module", ["training.train", "evaluation"])
def test_training_and_evaluation_draw_from_the_resident_images(module, monkeypatch):
    asked, there = [], Recorded()
    place = sys.modules[f"fastadapt.{module}"]
    monkeypatch.setattr(place, "resident", lambda source, device: asked.append(device.type) or there)
    learner = MAML(Conv4(1, 4, 3, size=16), CrossEntropy(), rule=SGD(0.1))
    if module == "training.train":
        meta_train(learner, images(), Training(steps=1, meta_batch=2), quiet=True)
    else:
        evaluate(learner, images(), Protocol(tasks=2, steps=1))
    again = module == "training.train"  # a training draws its first task twice, to see whether it is the same
    assert (there.drawn, asked) == (2 + again, ["cpu"])
