"""The published settings of the metric methods. Sources are in the comments; every field can be overridden.

Where an embedding is the papers' four blocks of 64 filters, each is a 3x3 convolution, batch norm, ReLU and a 2x2
max-pool: 28, 14, 7, 3, 1 with 64 features, and 84, 42, 21, 10, 5 with 1600. Validation is on classes of its own in
every one, and the best validated weights are exported.
"""

from dataclasses import replace
from typing import Any

from fastadapt.data.settings import MiniImageNetData, OmniglotData
from fastadapt.evaluation import Protocol
from fastadapt.methods.metric_settings import (
    AdaptiveSubspacesMethod,
    MatchingNetMethod,
    ProtoNetMethod,
    RelationNetMethod,
    SiameseNetMethod,
)
from fastadapt.nets.settings import Conv4Net, RelationEncoderNet, ViTNet
from fastadapt.runs.config import RunConfig
from fastadapt.training.settings import Training

OMNIGLOT = {"5w1s": (5, 1), "5w5s": (5, 5), "20w1s": (20, 1), "20w5s": (20, 5)}
MINI_IMAGENET = {"5w1s": 1, "5w5s": 5}
FOUR_BLOCKS = Conv4Net(down="max", pooled="flatten", affine="both")
_EACH_EPISODE = Training(steps=30_000, meta_batch=1, validate_every=500, checkpoint_every=500, log_every=100)


def _protonet(name: str) -> RunConfig:
    # Snell et al. 2017 (arXiv:1703.05175) and the public code: the split of Vinyals et al., 60 ways in training with
    # the shots of the test and 5 queries, Adam 1e-3 halved every 20 epochs of 100 episodes, 15 queries and 1000 tasks
    # at test. There each quarter turn of a character is a class, of which two can meet in one task; here the classes
    # of a task are turned at random. There the training stops 200 epochs after the best validation and begins anew
    # with the validation classes; here it has 30 000 episodes, when the rate has been halved 14 times, and the best
    # weights stay.
    ways, shots = OMNIGLOT[name]
    sizes: dict[str, Any] = {"train_shots": shots, "train_queries": 5, "shots": shots, "queries": 15}
    return RunConfig(
        data=OmniglotData(ways=ways, train_ways=60, **sizes, split="vinyals"),
        net=FOUR_BLOCKS,
        method=ProtoNetMethod(),
        training=replace(_EACH_EPISODE, schedule="step", decay_every=2000),
        protocol=Protocol(f"omniglot-{name}-protonet-v1", tasks=1000, steps=0),
    )


def _protonet_mini(name: str) -> RunConfig:
    # The same paper: 30 ways in training for 1 shot and 20 for 5, 15 queries, the rate halved every 2000 episodes.
    shots = MINI_IMAGENET[name]
    return RunConfig(
        data=MiniImageNetData(train_ways=30 if shots == 1 else 20, train_shots=shots, train_queries=15, shots=shots),
        net=FOUR_BLOCKS,
        method=ProtoNetMethod(),
        training=replace(_EACH_EPISODE, schedule="step", decay_every=2000),
        protocol=Protocol(f"mini-imagenet-{name}-protonet-v1", tasks=600, steps=0),
    )


def _matching(name: str) -> RunConfig:
    # Vinyals et al. 2016 (arXiv:1606.04080): training tasks as those of the test, characters turned by quarters, 1200
    # of them for training (100 validate here). The paper gives no rate; this one is ours, with 15 queries as in the
    # public code of Ravi & Larochelle.
    ways, shots = OMNIGLOT[name]
    return RunConfig(
        data=OmniglotData(ways=ways, train_shots=shots, train_queries=15, shots=shots, queries=15),
        net=FOUR_BLOCKS,
        method=MatchingNetMethod(),
        training=replace(_EACH_EPISODE, steps=60_000),
        protocol=Protocol(f"omniglot-{name}-matching-v1", tasks=600, steps=0),
    )


def _matching_mini(name: str) -> RunConfig:
    # The public code of Ravi & Larochelle 2017: the sum of cosines of each class, Adam 1e-4, 75 000 episodes, 15
    # queries. Its dropout of 0.1 is left out, and so are the full context embeddings of its better rows, whose LSTMs
    # have 1600 units here: --method.full-context.
    shots = MINI_IMAGENET[name]
    return RunConfig(
        data=MiniImageNetData(train_shots=shots, train_queries=15, shots=shots),
        net=FOUR_BLOCKS,
        method=MatchingNetMethod(votes="sum"),
        training=replace(_EACH_EPISODE, steps=75_000, lr=1e-4),
        protocol=Protocol(f"mini-imagenet-{name}-matching-v1", tasks=600, steps=0),
    )


def _siamese(name: str) -> RunConfig:
    # Koch et al. 2015 as re-implemented by Vinyals et al. 2016: four blocks in place of Koch's larger network, tasks
    # of classes drawn at random. Neither gives rates for this; Adam 1e-3 and 20 ways in training are ours. Koch's own
    # test, 20 characters of one alphabet, is harder.
    ways, shots = OMNIGLOT[name]
    sizes: dict[str, Any] = {"train_shots": shots, "train_queries": 5, "shots": shots, "queries": 15}
    return RunConfig(
        data=OmniglotData(ways=ways, train_ways=20, **sizes),
        net=FOUR_BLOCKS,
        method=SiameseNetMethod(),
        training=_EACH_EPISODE,
        protocol=Protocol(f"omniglot-{name}-siamese-v1", tasks=600, steps=0),
    )


def _relation(name: str) -> RunConfig:
    # Sung et al. 2018 (arXiv:1711.06025) and the public code: one turn for a whole task, Adam 1e-3 halved every 100
    # 000 episodes, gradients within a norm of 0.5 (there of each of the two networks), K queries and 1000 tasks at
    # test, batch statistics at test too. There 1200 characters train and the test picks the best weights; here 100 of
    # them validate. Its inputs of another mean and deviation are left out: the first batch norm takes both away.
    ways, shots = OMNIGLOT[name]
    queries = {"5w1s": 19, "5w5s": 15, "20w1s": 10, "20w5s": 5}[name]
    sizes: dict[str, Any] = {"train_shots": shots, "train_queries": queries, "shots": shots, "queries": shots}
    return RunConfig(
        data=OmniglotData(ways=ways, **sizes, rotation="per_task"),
        net=RelationEncoderNet(),
        method=RelationNetMethod(),
        training=replace(
            _EACH_EPISODE, steps=1_000_000, schedule="step", decay_every=100_000, clip_norm=0.5, validate_every=5000
        ),
        protocol=Protocol(f"omniglot-{name}-relation-v1", tasks=1000, steps=0),
    )


def _relation_mini(name: str) -> RunConfig:
    # The same: 15 queries in training for 1 shot and 10 for 5. At test all 75 queries of a task share statistics,
    # there 3 or 5 of each class at a time.
    shots = MINI_IMAGENET[name]
    return RunConfig(
        data=MiniImageNetData(train_shots=shots, train_queries=15 if shots == 1 else 10, shots=shots),
        net=RelationEncoderNet(),
        method=RelationNetMethod(padding=0),
        training=replace(
            _EACH_EPISODE, steps=500_000, schedule="step", decay_every=100_000, clip_norm=0.5, validate_every=5000
        ),
        protocol=Protocol(f"mini-imagenet-{name}-relation-v1", tasks=600, steps=0),
    )


def _subspaces_mini(name: str) -> RunConfig:
    # Simon et al. 2020 (CVPR) and the public code with four blocks: 15 queries, Adam 1e-3 halved every 50 epochs of
    # 100 episodes for 5 shots and every 100 for 1, 600 epochs, the discriminative term at 0.03.
    shots = MINI_IMAGENET[name]
    return RunConfig(
        data=MiniImageNetData(train_shots=shots, train_queries=15, shots=shots),
        net=FOUR_BLOCKS,
        method=AdaptiveSubspacesMethod(),
        training=replace(_EACH_EPISODE, steps=60_000, schedule="step", decay_every=10_000 if shots == 1 else 5000),
        protocol=Protocol(f"mini-imagenet-{name}-dsn-v1", tasks=600, steps=0),
    )


def _subspaces(name: str) -> RunConfig:
    # The same brought to Omniglot, which the paper does not have.
    ways, shots = OMNIGLOT[name]
    photographs = _subspaces_mini("5w1s" if shots == 1 else "5w5s")
    return replace(
        photographs,
        data=OmniglotData(ways=ways, train_shots=shots, train_queries=15, shots=shots, queries=15),
        protocol=Protocol(f"omniglot-{name}-dsn-v1", tasks=600, steps=0),
    )


_METHODS = {
    "protonet": ("prototypical networks", _protonet, _protonet_mini),
    "matching": ("matching networks", _matching, _matching_mini),
    "siamese": ("siamese networks", _siamese, None),
    "relation": ("Relation Network", _relation, _relation_mini),
    "dsn": ("adaptive subspaces", _subspaces, _subspaces_mini),
}
"""Name -> what it is, its settings on Omniglot, and on mini-ImageNet where there are any."""


def metric_presets() -> dict[str, tuple[str, RunConfig]]:
    """Return name -> (what it is, its configuration) for the metric methods."""
    presets = {}
    for method, (words, omniglot, mini) in _METHODS.items():
        for name, (ways, shots) in OMNIGLOT.items():
            task = f"{ways} ways, {shots} shot{'s' if shots > 1 else ''}"
            presets[f"{method}-omniglot-{name}"] = (f"{words} on Omniglot, {task}", omniglot(name))
        for name, shots in MINI_IMAGENET.items() if mini else ():
            task = f"5 ways, {shots} shot{'s' if shots > 1 else ''}"
            presets[f"{method}-mini-imagenet-{name}"] = (f"{words} on mini-ImageNet, {task}", mini(name))
    for method in ("protonet", "relation"):  # published with convolutions alone
        words, omniglot, _ = _METHODS[method]
        config = omniglot("5w1s")
        protocol = replace(config.protocol, name=f"omniglot-5w1s-{method}-vit-v1")
        presets[f"{method}-vit-omniglot-5w1s"] = (
            f"{words} on a small vision transformer, Omniglot, 5 ways, 1 shot",
            replace(config, net=ViTNet(), protocol=protocol),
        )
    return presets
