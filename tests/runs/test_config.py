"""Run configurations: a round trip through JSON, presets that build, and differences that matter."""

import re
from dataclasses import replace

import pytest
import torch

from faces.small_faces import small_faces
from fastadapt import Tasks
from fastadapt.errors import ConfigError
from fastadapt.methods.settings import MAMLMethod
from fastadapt.runs.config import RunConfig, differences
from fastadapt.runs.presets import PRESETS
from fastadapt.tasks import draw

EVERY = pytest.mark.parametrize("name", PRESETS)


@EVERY
def test_a_preset_survives_json(name: str) -> None:
    config = PRESETS[name][1]
    assert RunConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name.startswith(("snail-mini", "protomaml", "mamlpp")) else [])
        for name in PRESETS
    ],
)
@pytest.mark.long
def test_a_preset_builds_a_learner_that_trains(name: str) -> None:
    config = PRESETS[name][1]
    small = replace(config, net=replace(config.net, width=4)) if hasattr(config.net, "width") else config
    shape = config.data.input
    if shape["kind"] == "faces":
        faces = small_faces()
        data = replace(config.data, domains=("lab", "yard", "attic"), targets=("cellar",), batch=4, size=16)
        learner = replace(small, data=data.of(faces)).build()
        learner(draw(data.of(faces).source("train", faces), seed=0, split="train", indices=range(1))).loss.backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in learner.parameters())
        return
    learner = small.build()
    if shape["kind"] == "environment":
        rl = replace(config.data, episodes=1, horizon=4)
        learner(draw(rl.source("train"), seed=0, split="train", indices=range(2))).loss.backward()
        assert all(p.grad is not None for p in learner.parameters())
        return
    if shape["kind"] == "points":
        x, y = torch.randn(2, 50, shape["inputs"]), torch.randn(2, 50, 1)
        tasks = Tasks((x, y), (x, y))
    else:
        labels = torch.arange(config.data.ways or 0).repeat(2, 2)
        x = torch.rand(2, labels.shape[1], shape["channels"], shape["size"], shape["size"])
        tasks = Tasks((x, labels), (x, labels))
    learner(tasks).loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in learner.parameters())


def test_the_omniglot_preset_is_the_published_setting() -> None:
    config = PRESETS["maml-omniglot-5w1s"][1]
    method = config.method
    assert isinstance(method, MAMLMethod)
    assert (method.inner_lr, method.loss_reduction, method.steps, method.test_steps) == (0.4, "sum_over_classes", 1, 3)
    assert method.mean_loss_lr(ways=5, shots=1) == 2.0  # what code with a mean loss calls 2.0, the paper calls 0.4
    assert (config.training.meta_batch, config.training.steps, config.training.lr) == (32, 60_000, 1e-3)
    adapted = config.build().adapted  # type: ignore[operator]
    assert "blocks.0.0.weight" in adapted and not any(re.match(r"blocks\.\d\.1\.", name) for name in adapted)


def test_what_only_decides_how_long_may_change_between_two_lives() -> None:
    config = PRESETS["maml-sinusoid"][1]
    longer = replace(config, training=replace(config.training, minutes=3.0, log_every=7, keep=9))
    assert differences(config, longer) == []
    other = replace(config, training=replace(config.training, lr=0.5))
    assert differences(config, other) == ["training.lr: 0.001 -> 0.5"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}", "not a run configuration"),
        ("[1", "not a run configuration"),
        ('{"kind": "RunConfig", "speed": 3}', "RunConfig has no setting speed"),
        ('{"kind": "RunConfig", "net": {"kind": "ResNet"}}', "'ResNet' is not one of"),
        (
            '{"kind": "RunConfig", "training": {"kind": "Training", "steps": 0}}',
            "training.steps must be at least 1, got 0",
        ),
    ],
)
def test_a_configuration_that_is_none_is_refused_in_a_sentence(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says.replace(".", r"\.")):
        RunConfig.from_json(text)
