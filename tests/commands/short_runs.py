"""Runs that were trained for a moment, on images that take no reading, and drawings to adapt them to."""

from dataclasses import replace

import numpy as np
import torch
from PIL import Image, ImageDraw

from fastadapt import ClassImages, Protocol, Training, meta_train
from fastadapt.runs.run_files import export_model

NAMES = ("bars", "cross", "ring")


def draw(path, name, shift=0, side=105):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("L", (side, side), 255)
    pen, low, high, width = ImageDraw.Draw(image), side // 6 + shift, side * 5 // 6 + shift, side // 10
    if name == "cross":
        pen.line((low, low, high, high), 0, width)
        pen.line((low, high, high, low), 0, width)
    elif name == "ring":
        pen.ellipse((low, low, high, high), None, 0, width)
    else:
        for x in (low, (low + high) // 2, high):
            pen.line((x, low, x, high), 0, width)
    image.save(path)
    return path


def noisy_classes():
    """Return 12 classes of eight noisy copies of one pattern each."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 256, (12, 1, 28, 28))
    images = np.clip(patterns + rng.normal(0, 40, (12, 8, 28, 28)), 0, 255).astype(np.uint8).reshape(-1, 28, 28)
    names = tuple(f"c{i}" for i in range(12))
    return ClassImages(torch.from_numpy(images), np.arange(96) // 8, names, ways=3, queries=2, invert=True)


def trained(config, folder, **training):
    """Return a configuration and the folder of a run of four outer steps by it, with what settings say of training."""
    torch.manual_seed(0)
    settings = {"steps": 4, "meta_batch": 2, "validate_every": 4, "checkpoint_every": 2, "log_every": 2, **training}
    config = replace(config, training=Training(**settings), validation_tasks=3, protocol=Protocol(tasks=4))
    images = noisy_classes()
    given = {"validation": images, "protocol": config.validation, "folder": folder, "quiet": True}
    meta_train(config.build(), images, config.training, **given)
    export_model(folder, config)
    return config, folder


def weights_in_parts(config, place):
    """Return the weights of a run of six outer steps at once, and of one that was stopped after three."""
    weights = []
    for folder, stops in ((place / "whole", [6]), (place / "parts", [3, 6])):
        for steps in stops:
            torch.manual_seed(5)
            learner = config.build()
            settings = replace(config.training, steps=steps, validate_every=0, checkpoint_every=3)
            meta_train(learner, noisy_classes(), settings, folder=folder, quiet=True)
        weights.append(learner.state_dict())
    return weights
