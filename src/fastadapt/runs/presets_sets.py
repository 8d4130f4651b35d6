"""The published settings of the neural statistician and of the memory module, on Omniglot. Sources are in the comments.

Training tasks are larger than those of the test: the statistician fits sets of one class and has no use for tasks, and
the memory is shared by many of them. Validation is on classes of its own, and the best validated weights are exported.
"""

from dataclasses import replace
from typing import Any

from fastadapt.data.settings import OmniglotData
from fastadapt.evaluation import Protocol
from fastadapt.methods.set_settings import MemoryModuleMethod, NeuralStatisticianMethod
from fastadapt.nets.settings import RareEventsEncoderNet, StatisticianEncoderNet
from fastadapt.runs.config import RunConfig
from fastadapt.runs.presets_metric import FOUR_BLOCKS, OMNIGLOT
from fastadapt.training.settings import Training

_TRAINING = Training(steps=100_000, meta_batch=1, validate_every=1000, checkpoint_every=500, log_every=100)


def _tasks(name: str, **training: Any) -> OmniglotData:
    """Return tasks of quarter turns as classes, larger in training."""
    ways, shots = OMNIGLOT[name]
    return OmniglotData(ways=ways, shots=shots, queries=5, rotation="none", rotated_classes=True, **training)


def _statistician(name: str) -> RunConfig:
    # Edwards & Storkey 2017 (arXiv:1606.02185) as a public re-implementation in PyTorch has it: 32 sets of 5 images of
    # a character in an outer step, Adam 1e-3, gradients within 0.5 each, alpha halved every epoch, 300 epochs. Here a
    # set is the support and the query of a class in a task of 32. There 1200 characters train, twice: as they are and
    # flipped and turned by any angle; here 1100 do, each quarter turn of which is a class, and 100 validate. An epoch
    # there has about 300 steps, and there is no selection by classification at all.
    return RunConfig(
        data=_tasks(name, train_ways=32, train_shots=4, train_queries=1),
        net=StatisticianEncoderNet(),
        method=NeuralStatisticianMethod(),
        training=replace(_TRAINING, steps=90_000, clip_value=0.5),
        protocol=Protocol(f"omniglot-{name}-statistician-v1", tasks=600, steps=0),
    )


def _memory(name: str) -> RunConfig:
    # Kaiser et al. 2017 (arXiv:1703.03129) and the public code: 16 sequences of 30 samples of 5 classes write to one
    # memory that is emptied before, which is a task of 80 classes with 6 samples each; Adam 1e-4, gradients within a
    # norm of 5, 100 000 episodes, quarter turns of the background characters as classes, none at test. There 964
    # characters train and 659 test; here 1100, 100 validate and 423 test. There each of the 30 samples is an outer
    # step, samples of a class come in any order, and a first sample is pushed away from all keys, with Adam's epsilon
    # at 1e-4; the images are scaled by a bilinear filter. For 20 ways neither says what differs: nothing does here.
    return RunConfig(
        data=_tasks(name, train_ways=80, train_shots=1, train_queries=5),
        net=RareEventsEncoderNet(),
        method=MemoryModuleMethod(),
        training=replace(_TRAINING, lr=1e-4, clip_norm=5.0),
        protocol=Protocol(f"omniglot-{name}-memory-v1", tasks=600, steps=0),
    )


_METHODS = {
    "statistician": ("the neural statistician", _statistician),
    "memory": ("the memory module", _memory),
}


def set_presets() -> dict[str, tuple[str, RunConfig]]:
    """Return name -> (what it is, its configuration) for methods that learn from sets and by a memory."""
    presets = {}
    for method, (words, omniglot) in _METHODS.items():
        for name, (ways, shots) in OMNIGLOT.items():
            task = f"{ways} ways, {shots} shot{'s' if shots > 1 else ''}"
            presets[f"{method}-omniglot-{name}"] = (f"{words} on Omniglot, {task}", omniglot(name))
    # ours: the embedding of the other metric methods, a seventh of the work, and its rate; half of the classes
    config = _memory("5w1s")
    presets["memory-conv4-omniglot-5w1s"] = (
        "the memory module on four blocks, Omniglot, 5 ways, 1 shot",
        replace(
            config,
            data=replace(config.data, train_ways=40),
            net=FOUR_BLOCKS,
            training=replace(config.training, lr=1e-3),
            protocol=Protocol("omniglot-5w1s-memory-conv4-v1", tasks=600, steps=0),
        ),
    )
    return presets
