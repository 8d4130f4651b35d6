"""Models of drawings to be used by others: 3 to 10 classes of drawings, one sample each, every answer on its own.

They are MAML and, to compare with, Reptile and prototypical networks on Omniglot with 10 ways. Queries are normalised
by the statistics of the support set, in training too, so that an answer never depends on what else is asked. With fewer
classes the head's further rows are left out; the inner loss is a sum over classes, so that a class pulls equally hard
whatever the number of classes. Reptile's is a mean: Adam, its inner rule, moves alike for any scale of the loss.
Prototypical networks have no head and no inner loop, and take the averages of training for batch norm.
"""

from dataclasses import replace

from fastadapt.data.settings import OmniglotData
from fastadapt.evaluation import Protocol
from fastadapt.methods.metric_settings import ProtoNetMethod
from fastadapt.methods.settings import MAMLMethod, ReptileMethod
from fastadapt.nets.settings import Conv4Net
from fastadapt.published.experiment import Experiment, Measurement
from fastadapt.runs.config import RunConfig
from fastadapt.training.settings import Training

STEPS = 5
_CONFIG = RunConfig(
    data=OmniglotData(ways=10, fewest_ways=3, train_queries=3, queries=5),
    net=Conv4Net(),
    method=MAMLMethod(
        inner_lr=0.05,  # of 0.01 to 0.2 among the best after 600 tasks; 0.2 diverges with a flattened map
        loss_reduction="sum_over_classes",
        steps=STEPS,
        test_steps=STEPS,
        adapt=("*", "!blocks.*.1.*"),
        norm="support",
    ),
    training=Training(
        steps=10_000,
        meta_batch=8,
        lr=1e-3,
        schedule="cosine",
        validate_every=1000,
        checkpoint_every=250,
        log_every=50,
    ),
    protocol=Protocol("omniglot-10w1s-drawing-v1", tasks=600, steps=10, report=STEPS),
    validation_tasks=200,
)

REPTILE_STEPS = 20
_REPTILE = replace(
    _CONFIG,
    # whole classes of 10 images and no queries: Reptile learns from minibatches of them
    data=replace(_CONFIG.data, train_shots=10, train_queries=0),  # type: ignore[call-arg]
    net=Conv4Net(pooled="flatten", affine="both"),
    method=ReptileMethod(
        inner_lr=1e-3, steps=5, batch=20, test_steps=REPTILE_STEPS, test_batch=None, inner_state="mean", norm="support"
    ),
    training=replace(
        _CONFIG.training, steps=20_000, validate_every=2000, meta_batch=5, optimizer="sgd", lr=1.0, schedule="linear"
    ),
    protocol=replace(_CONFIG.protocol, name="omniglot-10w1s-drawing-reptile-v1", steps=REPTILE_STEPS, report=None),
    validation_tasks=50,
    export="last",
)


# as their preset has them: 60 classes at a time in training, and the rate halved every 2000 episodes
_PROTONET = replace(
    _CONFIG,
    data=replace(_CONFIG.data, fewest_ways=None, train_ways=60, train_queries=5),  # type: ignore[call-arg]
    net=Conv4Net(down="max", pooled="flatten", affine="both"),
    method=ProtoNetMethod(),
    training=replace(_CONFIG.training, meta_batch=1, schedule="step", decay_every=2000),
    protocol=replace(_CONFIG.protocol, name="omniglot-10w1s-drawing-protonet-v1", steps=0, report=None),
)


def _of(config: RunConfig, ways: int, shots: int) -> Measurement:
    name = config.protocol.name.replace("10w1s", f"{ways}w{shots}s")
    protocol = replace(config.protocol, name=name)
    return Measurement(f"{ways} ways, {shots} shot{'s' * (shots > 1)}", protocol, data={"ways": ways, "shots": shots})


_TASKS = ((3, 1), (5, 1), (10, 1), (3, 5), (5, 5))
EXPERIMENTS = (
    Experiment(
        "drawing",
        "a model of drawings: MAML, 3 to 10 ways, every query answered on its own",
        _CONFIG,
        tuple(_of(_CONFIG, *task) for task in _TASKS),
        "Finn, Abbeel, Levine 2017 (arXiv:1703.03400); the settings are ours",
        version=2,
    ),
    Experiment(
        "drawing-reptile",
        "a model of drawings to compare with: Reptile, 3 to 10 ways, every query answered on its own",
        _REPTILE,
        tuple(_of(_REPTILE, *task) for task in _TASKS),
        "Nichol, Achiam, Schulman 2018 (arXiv:1803.02999); the settings are ours",
    ),
    Experiment(
        "drawing-protonet",
        "a model of drawings to compare with: prototypical networks, every query answered on its own",
        _PROTONET,
        tuple(_of(_PROTONET, *task) for task in _TASKS),
        "Snell, Swersky, Zemel 2017 (arXiv:1703.05175); the settings are ours",
    ),
)
"""The models of drawings."""
