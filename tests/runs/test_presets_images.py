"""The presets on mini-ImageNet are the published settings, in this package's units."""

import re

import pytest
import torch

from fastadapt.data.settings import MiniImageNetData
from fastadapt.losses import CrossEntropy
from fastadapt.methods.settings import MAMLMethod, ReptileMethod
from fastadapt.runs.config import RunConfig
from fastadapt.runs.presets import PRESETS
from fastadapt.runs.presets_images import mini_imagenet_presets

SHOTS = pytest.mark.parametrize("name, shots", [("5w1s", 1), ("5w5s", 5)])


def preset(name: str) -> tuple[RunConfig, MiniImageNetData]:
    config = PRESETS[name][1]
    assert isinstance(config.data, MiniImageNetData)
    return config, config.data


def test_they_are_among_the_presets() -> None:
    assert set(mini_imagenet_presets()) <= set(PRESETS) and len(mini_imagenet_presets()) == 6


@SHOTS
def test_maml(name: str, shots: int) -> None:
    config, data = preset(f"maml-mini-imagenet-{name}")
    assert (data.ways, data.train_shots, data.train_queries, data.shots, data.queries) == (5, shots, 15, shots, shots)
    assert data.normalise == "none"
    method, training = config.method, config.training
    assert isinstance(method, MAMLMethod)
    assert (method.inner_lr, method.steps, method.test_steps, method.norm) == (0.01, 5, 10, "transductive")
    assert method.mean_loss_lr(ways=5, shots=shots) == pytest.approx(0.05)  # of code with a mean loss
    assert (training.steps, training.meta_batch, training.lr) == (60_000, {1: 4, 5: 2}[shots], 1e-3)
    assert (config.protocol.tasks, config.protocol.steps, config.protocol.ddof) == (600, 10, 0)
    adapted = config.build().adapted  # type: ignore[operator]
    assert "head.weight" in adapted and not any(re.match(r"blocks\.\d\.1\.", each) for each in adapted)
    first = PRESETS[f"fomaml-mini-imagenet-{name}"][1]
    assert isinstance(first.method, MAMLMethod) and first.method.meta_gradient == "first_order"
    assert (first.data, first.training, first.protocol) == (config.data, config.training, config.protocol)


@SHOTS
def test_the_bound_on_the_meta_gradient_is_the_one_of_the_code_in_units_of_a_mean(name: str, shots: int) -> None:
    """There, cross-entropies of 75 queries are summed, divided by the shots, and gradients kept within 10."""
    logits = torch.randn(75, 5, dtype=torch.float64, requires_grad=True)
    y = torch.arange(5).repeat(15)
    (theirs,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, y, reduction="sum") / shots, logits)
    (ours,) = torch.autograd.grad(CrossEntropy()(torch.nn.Identity(), (logits, y)), logits)
    bound = preset(f"maml-mini-imagenet-{name}")[0].training.clip_value
    torch.testing.assert_close(theirs / 10, ours / bound)


@SHOTS
def test_reptile(name: str, shots: int) -> None:
    config, data = preset(f"reptile-mini-imagenet-{name}")
    assert (data.ways, data.train_shots, data.train_queries, data.shots, data.queries) == (5, 15, 0, shots, 1)
    method, training = config.method, config.training
    assert isinstance(method, ReptileMethod)
    assert (method.inner_rule, method.inner_lr, method.steps, method.batch) == ("adam", 1e-3, 8, 10)
    assert (method.test_steps, method.test_batch) == (50, {1: 5, 5: 15}[shots])
    assert (method.inner_state, method.replacement) == ("serial", False)
    assert (training.steps, training.meta_batch, training.lr, training.final_lr) == (100_000, 5, 1.0, 0.0)
    assert (training.optimizer, training.schedule, config.export) == ("sgd", "linear", "last")
    assert (config.protocol.tasks, config.protocol.steps) == (600, 50)


@SHOTS
@pytest.mark.parametrize("method, features", [("maml", 800), ("fomaml", 800), ("reptile", 1152)])
def test_the_networks_have_32_filters_and_the_published_features(
    name: str, shots: int, method: str, features: int
) -> None:
    model = preset(f"{method}-mini-imagenet-{name}")[0].build().model  # type: ignore[operator]
    assert model.head.in_features == features and model.head.out_features == 5
    assert [block[0].weight.shape[0] for block in model.blocks] == [32] * 4
