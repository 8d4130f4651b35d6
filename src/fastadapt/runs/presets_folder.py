"""Settings for a folder of your own images: a start that is known to work on pictures of that size, not a publication.

Up to 32 pixels they are those of Omniglot (stride-2 `Conv4` with 64 filters, one inner step), above those of
mini-ImageNet (max-pooled `Conv4` with 32 filters, five inner steps); the number of outer steps is 10,000 for both.
"""

from dataclasses import replace
from typing import Literal

from fastadapt.data.images.folder_settings import FolderData
from fastadapt.evaluation import Protocol
from fastadapt.methods.metric_settings import (
    AdaptiveSubspacesMethod,
    MatchingNetMethod,
    ProtoNetMethod,
    RelationNetMethod,
    SiameseNetMethod,
)
from fastadapt.methods.sequence_settings import MANNMethod, SequenceMethod, SNAILMethod
from fastadapt.methods.set_settings import MemoryModuleMethod, NeuralStatisticianMethod
from fastadapt.methods.settings import MAMLMethod, ReptileMethod
from fastadapt.nets.settings import Conv4Net, RelationEncoderNet, StatisticianEncoderNet
from fastadapt.runs.config import RunConfig
from fastadapt.runs.presets_family import FOLDER, folder_family
from fastadapt.runs.presets_rules import RULES
from fastadapt.training.settings import Training

SteppingMethod = Literal["maml", "reptile", "anil", "boil", "metasgd", "mamlpp", "protomaml"]
RuleMethod = Literal["meta-lstm", "meta-curvature", "cavia"]
MetricName = Literal["protonet", "matching", "siamese", "relation", "dsn", "statistician", "memory"]
FolderMethod = Literal[SteppingMethod, RuleMethod, MetricName, "snail", "mann"]

_LARGE_MAPS = 64  # pixels, above which the relation module's convolutions have no padding
_LARGEST_FLAT = 84  # pixels, above which the last map is averaged, as it would have thousands of numbers
LARGEST_SMALL = 32
"""Pixels up to which an image counts as small."""
TRAIN_QUERIES = 5
"""Query images of each class in a training task of small images: fewer than in a test, for speed."""
METRIC: dict[
    str,
    ProtoNetMethod
    | MatchingNetMethod
    | SiameseNetMethod
    | RelationNetMethod
    | AdaptiveSubspacesMethod
    | SNAILMethod
    | MANNMethod
    | NeuralStatisticianMethod
    | MemoryModuleMethod,
] = {
    "protonet": ProtoNetMethod(),
    "matching": MatchingNetMethod(),
    "siamese": SiameseNetMethod(),
    "relation": RelationNetMethod(),
    "dsn": AdaptiveSubspacesMethod(),
    "snail": SNAILMethod(),
    "mann": MANNMethod(),
    "statistician": NeuralStatisticianMethod(width=16, context=128),
    "memory": MemoryModuleMethod(),
}
"""The metric methods by the name of the option."""
WIDER = ("protonet", "siamese", "statistician", "memory")
"""Those that train on more classes at a time than a test task has."""
MAPS: dict[str, RelationEncoderNet | StatisticianEncoderNet] = {
    "relation": RelationEncoderNet(),
    "statistician": StatisticianEncoderNet(width=16),
}
"""What embeds for methods that need maps."""
MOST_TRAIN_WAYS = 20
"""So many of them, if there are so many training classes."""
REPTILE_SHOTS = 15
"""Images of each class in a training task of Reptile, if there are so many."""


def folder_preset(method: FolderMethod, data: FolderData) -> RunConfig:
    """Return the configuration of a run on a folder.

    Args:
        method: by which to train.
        data: what is trained on.
    """
    small, few = data.size <= LARGEST_SMALL, data.ways <= 5
    training = Training(
        steps=10_000, validate_every=500 if data.val_fraction else 0, checkpoint_every=100, log_every=50
    )
    name = f"folder-{data.ways}w{data.shots}s"
    if method in RULES:
        return RULES[method](_maml(data, training, name, small, few))
    if method == "maml" or method == "reptile":
        return (_reptile if method == "reptile" else _maml)(data, training, name, small, few)
    if method in FOLDER:
        return folder_family(method, _maml(data, training, name, small, few), name)
    return _metric(method, data, training, name)


def _maml(data: FolderData, training: Training, name: str, small: bool, few: bool) -> RunConfig:
    # Finn et al. 2017 (arXiv:1703.03400), as the presets of Omniglot and mini-ImageNet have them; a smaller meta-batch.
    adapt = ("*", "!blocks.*.1.*")
    if small:
        net = Conv4Net()
        method = MAMLMethod(
            inner_lr=0.4 if few else 0.1,
            loss_reduction="sum_over_classes",
            steps=1 if few else 5,
            test_steps=3 if few else 5,
            adapt=adapt,
        )
    else:
        net = Conv4Net(width=32, down="max", pooled="flatten")
        method = MAMLMethod(inner_lr=0.01, loss_reduction="sum_over_classes", steps=5, test_steps=10, adapt=adapt)
    return RunConfig(
        data=data,
        net=net,
        method=method,
        training=replace(training, meta_batch=16 if small else 4, lr=1e-3),
        protocol=Protocol(f"{name}-v1", tasks=600, steps=10, report=method.test_steps if small else None),
        validation_tasks=100,
    )


def _metric(method: str, data: FolderData, training: Training, name: str) -> RunConfig:
    # The presets of Omniglot; one episode an outer step (four of a sequence), the rate halved as often as there.
    classes = len(data.train_classes)
    if method in WIDER and classes > data.ways:
        data = replace(data, train_ways=min(classes, max(data.ways, MOST_TRAIN_WAYS)))
    chosen = METRIC[method]
    if isinstance(chosen, RelationNetMethod) and data.size > _LARGE_MAPS:
        chosen = replace(chosen, padding=0)
    meta_batch = 4 if isinstance(chosen, SequenceMethod) else 1  # a sequence is learned from many tasks
    embedding: Conv4Net | RelationEncoderNet | StatisticianEncoderNet
    embedding = Conv4Net(down="max", pooled="flatten" if data.size <= _LARGEST_FLAT else "mean", affine="both")
    if method in MAPS:
        embedding = MAPS[method]
    bound = 0.5 if method == "statistician" else None
    return RunConfig(
        data=data,
        net=embedding,
        method=chosen,
        training=replace(training, meta_batch=meta_batch, lr=1e-3, schedule="step", decay_every=2000, clip_value=bound),
        protocol=Protocol(f"{name}-{method}-v1", tasks=600, steps=0),
        validation_tasks=100,
    )


def _reptile(data: FolderData, training: Training, name: str, small: bool, few: bool) -> RunConfig:
    # Nichol et al. 2018 (arXiv:1803.02999), as the presets of Omniglot and mini-ImageNet have it.
    if small:
        net = Conv4Net(pooled="flatten", affine="both")
        method = ReptileMethod(steps=5 if few else 10, batch=10 if few else 20, test_batch=5 if few else 10)
    else:
        net = Conv4Net(width=32, down="max_same", pooled="flatten", affine="both")
        method = ReptileMethod(steps=8, batch=10, test_batch=5 if data.shots == 1 else 15)
    return RunConfig(
        data=data,
        net=net,
        method=method,
        training=replace(training, meta_batch=5, optimizer="sgd", lr=1.0, schedule="linear"),
        protocol=Protocol(f"{name}-reptile-v1", tasks=600, steps=50),
        validation_tasks=50,
        export="last",
    )
