"""The published settings of methods that read a task as a sequence. Sources are in the comments.

Every field can be overridden. Validation is on classes of its own, and the best validated weights are exported.
"""

from dataclasses import replace
from typing import Any

from fastadapt.data.settings import MiniImageNetData, OmniglotData
from fastadapt.evaluation import Protocol
from fastadapt.methods.sequence_settings import MANNMethod, SNAILMethod
from fastadapt.nets.settings import MLPNet, ResNet12Net
from fastadapt.runs.config import RunConfig
from fastadapt.runs.presets_metric import FOUR_BLOCKS, MINI_IMAGENET, OMNIGLOT
from fastadapt.training.settings import Training

_LOOKS = Training(validate_every=500, checkpoint_every=500, log_every=100)


def _snail(name: str) -> RunConfig:
    # Mishra et al. 2018 (arXiv:1707.03141): the four-block embedding of 64 numbers, each quarter turn of a training
    # character is a class, Adam 1e-4, 32 episodes a step, each with one query. There a sequence has one query at its
    # end; here each class of a task has one, and each of them ends a sequence of its own behind the same samples. The
    # paper does not say how long it trains.
    ways, shots = OMNIGLOT[name]
    sizes: dict[str, Any] = {"train_shots": shots, "train_queries": 1, "shots": shots, "queries": 15}
    return RunConfig(
        data=OmniglotData(ways=ways, **sizes, rotated_classes=True),
        net=FOUR_BLOCKS,
        method=SNAILMethod(),
        training=replace(_LOOKS, steps=50_000, meta_batch=32, lr=1e-4),
        protocol=Protocol(f"omniglot-{name}-snail-v1", tasks=600, steps=0),
    )


def _snail_mini(name: str) -> RunConfig:
    # The same paper embeds photographs by a residual network of four blocks of 64, 96, 128 and 256 filters and two 1x1
    # convolutions to 384 numbers, with dropout; here by ResNet-12 of those widths, without dropout, 256 numbers. Rate
    # and meta-batch are those of Omniglot.
    shots = MINI_IMAGENET[name]
    return RunConfig(
        data=MiniImageNetData(train_shots=shots, train_queries=1, shots=shots, queries=15),
        net=ResNet12Net(widths=(64, 96, 128, 256)),
        method=SNAILMethod(),
        training=replace(_LOOKS, steps=50_000, meta_batch=32, lr=1e-4),
        protocol=Protocol(f"mini-imagenet-{name}-snail-v1", tasks=600, steps=0),
    )


def _mann(slots: int | None) -> RunConfig:
    # Santoro et al. 2016 (ICML): raw pixels, 5 classes of 10 samples, LSTM 200, memory 128 x 40, 4 heads, 16 episodes a
    # step, 100 000 episodes; each quarter turn of a training character is a class. A public reimplementation takes Adam
    # 1e-3, the paper RMSProp. There images have 20x20 pixels and are shifted and turned a little at random; here 28x28
    # as they are. The result of the paper is by instance number: fastadapt evaluate RUN --by-instance; this protocol is
    # one sample of each class, and then each of the others by itself.
    memory = "lstm" if slots is None else "mann"
    return RunConfig(
        data=OmniglotData(
            ways=5, train_shots=1, train_queries=9, shots=1, queries=9, rotation="none", rotated_classes=True
        ),
        net=MLPNet(hidden=()),
        method=MANNMethod(slots=slots),
        training=replace(_LOOKS, steps=100_000, meta_batch=16, lr=1e-3, clip_norm=10.0),
        protocol=Protocol(f"omniglot-5w-{memory}-v1", tasks=600, steps=0),
    )


def sequence_presets() -> dict[str, tuple[str, RunConfig]]:
    """Return name -> (what it is, its configuration) for the methods that read a task as a sequence."""
    presets = {}
    for name, (ways, shots) in OMNIGLOT.items():
        task = f"{ways} ways, {shots} shot{'s' if shots > 1 else ''}"
        presets[f"snail-omniglot-{name}"] = (f"SNAIL on Omniglot, {task}", _snail(name))
    for name, shots in MINI_IMAGENET.items():
        task = f"5 ways, {shots} shot{'s' if shots > 1 else ''}"
        presets[f"snail-mini-imagenet-{name}"] = (f"SNAIL on mini-ImageNet, {task}", _snail_mini(name))
    presets["mann-omniglot-5w"] = ("a memory-augmented network on Omniglot, 5 ways", _mann(128))
    presets["lstm-omniglot-5w"] = ("an LSTM without a memory on Omniglot, 5 ways", _mann(None))
    return presets
