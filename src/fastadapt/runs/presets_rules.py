"""The published settings of methods whose inner step is learned, or that adapt a context. Sources are in the comments.

Validation is on classes of its own in every one, and the best validated weights are exported.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from fastadapt.data.settings import MiniImageNetData, OmniglotData, SinusoidData
from fastadapt.evaluation import Protocol
from fastadapt.methods.rule_settings import CAVIAMethod, MetaCurvatureMethod, MetaLSTMMethod
from fastadapt.nets.settings import Conv4Net, MLPNet
from fastadapt.runs.config import RunConfig
from fastadapt.training.settings import Training

_SHOTS = {"5w1s": 1, "5w5s": 5}
_WAVES = Training(steps=70_000, meta_batch=25, validate_every=5000, checkpoint_every=1000, log_every=500)


def _lstm_mini(name: str) -> RunConfig:
    # Ravi, Larochelle 2017 and the public code: 32 filters, 12 steps on all 5 images for 1 shot and 8 on all 25 for 5,
    # one task an outer step, 15 queries, 75,000 and 50,000 of them, Adam 1e-3, the meta-gradient's norm within 0.25.
    # The code divides gradients of a mean loss by the images once more, and tells the LSTM of the gates before their
    # sigmoid. In a test its batch norms use running moments that the support set has filled during the steps (momentum
    # 0.9 and 0.95, as Torch counts); here they are the support set's at the last weights. It also tests each model on
    # the other number of shots.
    shots = _SHOTS[name]
    steps = 12 if shots == 1 else 8
    return RunConfig(
        data=MiniImageNetData(train_shots=shots, train_queries=15, shots=shots),
        net=Conv4Net(width=32, down="max", pooled="flatten", affine="both"),
        method=MetaLSTMMethod(inner_lr=1 / (5 * shots), steps=steps, test_steps=steps),
        training=Training(
            steps=75_000 if shots == 1 else 50_000,
            meta_batch=1,
            clip_norm=0.25,
            validate_every=1000,
            checkpoint_every=500,
            log_every=100,
        ),
        protocol=Protocol(f"mini-imagenet-{name}-meta-lstm-v1", tasks=600, steps=steps, norm="support"),
    )


def _lstm_omniglot(name: str) -> RunConfig:
    # The same brought to Omniglot, which the paper does not have, with five steps and eight tasks an outer step.
    shots = _SHOTS[name]
    photographs = _lstm_mini(name)
    return replace(
        photographs,
        data=OmniglotData(train_shots=shots, train_queries=5, shots=shots, queries=5),
        method=MetaLSTMMethod(),
        training=replace(photographs.training, steps=20_000, meta_batch=8),
        protocol=Protocol(f"omniglot-{name}-meta-lstm-v1", tasks=600, steps=5, norm="support"),
    )


def _lstm_sinusoid() -> RunConfig:
    # The same brought to sine waves: tasks, network and meta-batch of MAML, five steps.
    return RunConfig(
        data=SinusoidData(),
        net=MLPNet(),
        method=MetaLSTMMethod(),
        training=replace(_WAVES, clip_norm=0.25),
        protocol=Protocol("sinusoid-k10-meta-lstm-v1", tasks=600, steps=5, ddof=0),
        validation_tasks=200,
    )


def _curvature_sinusoid() -> RunConfig:
    # Park, Oliva 2019 (arXiv:1902.03356) compare on the waves of MAML; its settings, with matrices.
    return RunConfig(
        data=SinusoidData(),
        net=MLPNet(),
        method=MetaCurvatureMethod(inner_lr=0.01, test_steps=10),
        training=_WAVES,
        protocol=Protocol("sinusoid-k10-meta-curvature-v1", tasks=600, steps=10, ddof=0),
        validation_tasks=200,
    )


def _curvature_omniglot(name: str) -> RunConfig:
    # The public code: 32 tasks and one step of 0.4 in every setting. It multiplies gradients number by number; the
    # matrices are the paper's. The rest is as MAML has it: a sum over classes, and a batch norm that does not adapt.
    shots = _SHOTS[name]
    return RunConfig(
        data=OmniglotData(train_shots=shots, train_queries=shots, shots=shots, queries=shots),
        net=Conv4Net(),
        method=MetaCurvatureMethod(
            inner_lr=0.4, loss_reduction="sum_over_classes", test_steps=3, adapt=("*", "!blocks.*.1.*")
        ),
        training=Training(steps=60_000, meta_batch=32, validate_every=500, checkpoint_every=100, log_every=50),
        protocol=Protocol(f"omniglot-{name}-meta-curvature-v1", tasks=600, steps=10, ddof=0, report=3),
        validation_tasks=200,
    )


def _cavia_sinusoid() -> RunConfig:
    # Zintgraf et al. 2019 (arXiv:1810.03642) and the public code: 5 context numbers beside the input, one step of 1.0,
    # 25 tasks, 50,000 steps, torch's own first weights. There the gradient of each task is kept within 10, here that of
    # all together; there 100 tasks are judged on 100 points between -5 and 5.
    return RunConfig(
        data=SinusoidData(),
        net=MLPNet(init_std=None, context=5),
        method=CAVIAMethod(),
        training=replace(_WAVES, steps=50_000, clip_value=10.0),
        protocol=Protocol("sinusoid-k10-cavia-v1", tasks=600, steps=1),
        validation_tasks=200,
    )


def _cavia_mini(name: str) -> RunConfig:
    # The same paper and code, the smallest of its networks (128 and 512 filters too): 100 numbers scale and shift the
    # maps of the third block, two steps of 1.0, 16 tasks, 15 queries, Adam 1e-3 times 0.9 every 5000 steps, 60,000 of
    # them, the meta-gradient within 10. There each block pools ahead of scale, shift and ReLU, the weights are He's,
    # and those that scale and shift begin at random; here they begin as no change, and blocks pool last.
    shots = _SHOTS[name]
    return RunConfig(
        data=MiniImageNetData(train_shots=shots, train_queries=15, shots=shots),
        net=Conv4Net(width=32, down="max", pooled="flatten", affine="both", film=100),
        method=CAVIAMethod(steps=2, test_steps=2),
        training=Training(
            steps=60_000,
            meta_batch=16,
            schedule="step",
            decay_every=5000,
            decay=0.9,
            clip_value=10.0,
            validate_every=1000,
            checkpoint_every=100,
            log_every=50,
        ),
        protocol=Protocol(f"mini-imagenet-{name}-cavia-v1", tasks=1000, steps=2),
        validation_tasks=200,
    )


def _named(maml: RunConfig, word: str, **changes: Any) -> RunConfig:
    name = maml.protocol.name.removesuffix("-v1")
    return replace(maml, protocol=replace(maml.protocol, name=f"{name}-{word}-v1"), **changes)


def _folder_lstm(maml: RunConfig) -> RunConfig:
    # Ravi, Larochelle's bound on the meta-gradient, and five steps.
    protocol = replace(maml.protocol, steps=5, report=None)
    maml = replace(maml, protocol=protocol, training=replace(maml.training, clip_norm=0.25))
    return _named(maml, "meta-lstm", net=replace(maml.net, affine="both"), method=MetaLSTMMethod())  # type: ignore[call-arg]


def _folder_curvature(maml: RunConfig) -> RunConfig:
    # MAML's settings, with matrices.
    given = {field.name: getattr(maml.method, field.name) for field in fields(maml.method)}
    return _named(maml, "meta-curvature", method=MetaCurvatureMethod(**given))


def _folder_cavia(maml: RunConfig) -> RunConfig:
    # The presets of photographs.
    protocol = replace(maml.protocol, steps=2, report=None)
    net = replace(maml.net, affine="both", film=100)  # type: ignore[call-arg]
    return _named(replace(maml, protocol=protocol), "cavia", net=net, method=CAVIAMethod(steps=2, test_steps=2))


RULES: dict[str, Callable[[RunConfig], RunConfig]] = {
    "meta-lstm": _folder_lstm,
    "meta-curvature": _folder_curvature,
    "cavia": _folder_cavia,
}
"""The settings of a run on a folder, made of MAML's, by the name of the option."""


def rule_presets() -> dict[str, tuple[str, RunConfig]]:
    """Return name -> (what it is, its configuration) for learned rules and for CAVIA."""
    lstm, matrices, context = "a learned optimizer (meta-learner LSTM)", "Meta-Curvature", "CAVIA (a context adapts)"
    presets = {
        "meta-lstm-sinusoid": (f"{lstm} on sinusoids", _lstm_sinusoid()),
        "meta-curvature-sinusoid": (f"{matrices} on sinusoids", _curvature_sinusoid()),
        "cavia-sinusoid": (f"{context} on sinusoids", _cavia_sinusoid()),
    }
    for name, shots in _SHOTS.items():
        task = f"5 ways, {shots} shot{'s' if shots > 1 else ''}"
        presets[f"meta-lstm-omniglot-{name}"] = (f"{lstm} on Omniglot, {task}", _lstm_omniglot(name))
        presets[f"meta-lstm-mini-imagenet-{name}"] = (f"{lstm} on mini-ImageNet, {task}", _lstm_mini(name))
        presets[f"meta-curvature-omniglot-{name}"] = (f"{matrices} on Omniglot, {task}", _curvature_omniglot(name))
        presets[f"cavia-mini-imagenet-{name}"] = (f"{context} on mini-ImageNet, {task}", _cavia_mini(name))
    return presets
